"""Examples as tensors: the ids of both models, aligned, for every step of training."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from ...forward.llm_to_slm import pooling
from ...text.alignment import spans
from ...text.cross_tokenizer import Language, difference
from ..conditions import brought_up
from ..heads.loop import Batch
from .examples import Corpus, Example

IGNORE = -100


class Aligned:
    """Encodes examples for an LLM and an SLM, whose tokenizers may differ."""

    def __init__(
        self, llm_tokenizer: Any, slm_tokenizer: Any, eos_ids: Sequence[int], stress: float = 1.0
    ) -> None:
        """``eos_ids``: the SLM's, of which the first ends a response. ``stress``: what a token of a
        word that the prompt asks for weighs where the word first stands; others weigh 1."""
        self._stress = stress
        self._llm, self._end = llm_tokenizer, [*eos_ids][:1]
        self._language = Language(slm_tokenizer, eos_ids)
        self._slm = slm_tokenizer
        self.same = difference(llm_tokenizer, slm_tokenizer) is None
        self._speller = self._language.speller
        self._llm_speller = Language(llm_tokenizer, ()).speller

    def ids(self, prompt: str) -> tuple[list[int], list[int], torch.Tensor]:
        """The prompt's ids for the LLM and for the SLM, and [SLM tokens, LLM tokens], the weights
        with which hidden states of the LLM are pooled for the SLM's tokens."""
        theirs = self._llm.encode(prompt)
        if self.same:
            return theirs, theirs, torch.eye(len(theirs))
        ours = self._slm.encode(prompt)
        while ours and ours[-1] in self._language.eos_ids:
            ours.pop()
        where = spans(self._speller, ours), spans(self._llm_speller, theirs)
        return theirs, ours, pooling(*where)

    def batch(self, examples: Sequence[Example], length: int) -> Batch:
        """``ids`` [texts, tokens] and ``labels`` [texts, tokens], the SLM's, with labels on
        responses alone; ``weights`` [texts, tokens], of the labels; ``llm_ids`` [texts, prompt] and
        ``llm_mask``; ``pool`` [texts, SLM prompt, LLM prompt]; ``inside`` [texts, SLM prompt]:
        where the prompt is. All padded on the right.
        """
        rows = []
        for example in examples:
            theirs, ours, pool = self.ids(example.prompt)
            new = self._language.follow(example.prompt, example.response)
            new = (new + (self._end if example.ended else []))[: max(1, length - len(ours))]
            weights = self._weights(example, ours, new)
            rows.append((theirs, ours, new, pool, weights))
        deep, wide = max(len(r[1]) for r in rows), max(len(r[0]) for r in rows)
        pools = torch.zeros(len(rows), deep, wide)
        for row, (*_, pool, _) in zip(pools, rows, strict=True):
            row[: pool.shape[0], : pool.shape[1]] = pool
        labels = [[IGNORE] * len(ours) + new for _, ours, new, *_ in rows]
        return {
            "ids": _padded([ours + new for _, ours, new, *_ in rows], 0),
            "labels": _padded(labels, IGNORE),
            "weights": _padded([weights for *_, weights in rows], 0.0),
            "llm_ids": _padded([theirs for theirs, *_ in rows], 0),
            "llm_mask": _padded([[1] * len(theirs) for theirs, *_ in rows], 0),
            "pool": pools,
            "inside": _padded([[1] * len(ours) for _, ours, *_ in rows], 0).bool(),
        }

    def _weights(self, example: Example, ours: list[int], new: list[int]) -> list[float]:
        """Of a text's tokens; the prompt's are 0."""
        weights = [0.0] * len(ours) + [1.0] * len(new)
        words = brought_up(example.prompt + example.response) if self._stress != 1 else []
        if words:
            for i, (start, end) in enumerate(spans(self._speller, ours + new)):
                if weights[i] and any(start < b and end > a for a, b in words):
                    weights[i] = self._stress
        return weights


class Batches:
    """The examples of every step, which depend on its number and the seed alone."""

    def __init__(
        self,
        aligned: Aligned,
        corpus: Corpus | None,
        written: Sequence[Example],
        texts: int,
        length: int,
        steps: int,
        seed: int,
    ) -> None:
        """``corpus``: None where all responses are those that the LLM has ``written``. Where there
        are both, they take turns."""
        self._aligned, self._corpus, self._written = aligned, corpus, written
        self._texts, self._length, self.steps, self._seed = texts, length, steps, seed

    @property
    def tokens(self) -> int:
        """Of a step, padding included."""
        return self._texts * self._length

    def __call__(self, step: int) -> Batch:
        turn = step // 2 if self._corpus and self._written else step
        use_corpus = self._corpus is not None and (not self._written or step % 2 == 0)
        if use_corpus:
            return self._aligned.batch(self._from_corpus(turn), self._length)
        size = len(self._written)
        first = turn * self._texts
        chosen = [self._written[self._order(i // size, size)[i % size]] for i in self._span(first)]
        return self._aligned.batch(chosen, self._length)

    def _span(self, first: int) -> range:
        return range(first, first + self._texts)

    def _from_corpus(self, turn: int) -> list[Example]:
        assert self._corpus is not None
        size, at, found = len(self._corpus), turn * self._texts, list[Example]()
        rng = random.Random(f"{self._seed}/{turn}")
        for i in self._span(at):
            example = self._corpus.example(self._order(i // size, size)[i % size], i // size)
            while example is None:
                example = self._corpus.example(rng.randrange(size), rng.randrange(2**31))
            found.append(example)
        return found

    def _order(self, number: int, size: int) -> list[int]:
        """The order of ``size`` things in pass ``number`` over them."""
        if getattr(self, "_known", (None, None))[0] != (number, size):
            generator = torch.Generator().manual_seed(self._seed * 1000 + number)
            self._known = (number, size), torch.randperm(size, generator=generator).tolist()
        return self._known[1]


class Ahead:
    """The same batches, made ahead by other processes: where a step takes milliseconds, making its
    batch in Python would take most of the time."""

    def __init__(self, batches: Batches, workers: int) -> None:
        self._batches, self._workers = batches, workers
        self.steps, self.tokens = batches.steps, batches.tokens
        self._next, self._coming = -1, iter(list[Batch]())

    def __call__(self, step: int) -> Batch:
        if step != self._next:
            self._coming = self._from(step)
        self._next = step + 1
        return next(self._coming)

    def _from(self, step: int) -> Iterator[Batch]:
        return iter(
            DataLoader(
                _Mapped(self._batches),
                batch_size=None,
                sampler=range(step, self.steps),
                num_workers=self._workers,
                prefetch_factor=2,
            )
        )


class _Mapped(Dataset[Batch]):
    """Batches by their step, as the loader wants them."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __getitem__(self, step: int) -> Batch:
        return self._batches(step)


def _padded(rows: Sequence[Sequence[float]], value: float) -> torch.Tensor:
    dtype = torch.float32 if isinstance(value, float) else torch.long
    tensors = [torch.tensor(row, dtype=dtype) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=value)
