"""The training text as one endless sequence of ids: a pure function of seed, phase and position."""

from __future__ import annotations

import random

import numpy as np
from transformers import PreTrainedTokenizerFast

from ..errors import InputError
from .conditions import Conditions
from .corpus import Corpus, passages
from .recipes import Phase

END_ID = 0
MASK_ID = 1


def encode_works(tokenizer: PreTrainedTokenizerFast, works: list[str]) -> list[np.ndarray]:
    """Each work's ids, ``<|endoftext|>`` first (the tokenizer puts it there)."""
    encoded = tokenizer.backend_tokenizer.encode_batch_fast(works)
    return [np.array(item.ids, dtype=np.uint16) for item in encoded]


class TokenStream:
    """Reads ids by position. A phase's data is pass 0, pass 1, ... each shuffled anew.

    Resuming needs nothing but the position: every draw comes from ``(seed, phase, pass)``.
    """

    def __init__(
        self,
        corpus: Corpus,
        tokenizer: PreTrainedTokenizerFast,
        conditions: Conditions,
        phases: tuple[Phase, ...],
        seed: int,
    ) -> None:
        self.tokenizer, self.conditions = tokenizer, conditions
        self.phases, self.seed = phases, seed
        self.works = {
            name: [piece for work in works for piece in passages(work)]
            for name, works in corpus.train.items()
        }
        self._lengths: dict[tuple[int, int], int] = {}
        self._held: tuple[tuple[int, int], np.ndarray] | None = None

    def draw(self, phase: int, index: int) -> list[str]:
        """The works of one pass over the data, decorated and shuffled, as text."""
        rng = random.Random(f"{self.seed}/{phase}/{index}")
        mix = self.phases[phase].mix
        chosen: list[str] = []
        for name, works in self.works.items():
            weight = mix.get(name, mix.get("*", 0.0))
            chosen += works * int(weight)
            chosen += rng.sample(works, round(len(works) * (weight % 1)))
        rng.shuffle(chosen)
        return [self.conditions.decorate(work, rng) for work in chosen]

    def _pass(self, phase: int, index: int) -> np.ndarray:
        key = (phase, index)
        if self._held is None or self._held[0] != key:
            works = self.draw(phase, index)
            if not works:
                raise InputError(
                    "The recipe's mix leaves no text to train on: name its sources "
                    "as the corpus files are named."
                )
            self._held = (key, np.concatenate(encode_works(self.tokenizer, works)))
            self._lengths[key] = len(self._held[1])
        return self._held[1]

    def read(self, phase: int, start: int, count: int) -> np.ndarray:
        """``count`` ids from position ``start`` of a phase, shape (count,), int64."""
        parts: list[np.ndarray] = []
        index, got = 0, 0
        while got < count:
            length = self._lengths.get((phase, index)) or len(self._pass(phase, index))
            if start < length:
                part = self._pass(phase, index)[start : start + count - got]
                parts.append(part)
                got += len(part)
                start += len(part)
            start -= length
            index += 1
        return np.concatenate(parts).astype(np.int64)

    def at(self, token: int, count: int, total: int) -> np.ndarray:
        """``count`` ids for training position ``token`` of ``total``, from the phase it lies in."""
        begin = 0
        for phase, span in enumerate(self.phases):
            end = int(span.until * total)
            if token < end or phase == len(self.phases) - 1:
                return self.read(phase, token - begin, count)
            begin = end
        raise AssertionError("a recipe has at least one phase")
