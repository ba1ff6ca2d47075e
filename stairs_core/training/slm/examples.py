"""Prompts with their responses: those of the corpus, or those that the LLM writes, kept on disk."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from ...errors import InputError
from ..conditions import SHORT_CHARS, Conditions
from ..heads.texts import TEMPERATURES, answer, continue_texts

OPENING = (3, 12)
"""Words of an opening that is a prompt, at least and at most."""
OWN_ROWS = (64, 4096)
"""Texts that a model writes at once, on a CPU and on a GPU."""
NO_PROMPTS = "The corpus gives no prompts: add works, or ask for fewer conditions."


@dataclass(frozen=True)
class Example:
    """``ended``: whether the response is whole, so that an end of text follows it."""

    prompt: str
    response: str
    ended: bool


class Corpus:
    """Prompts made from works, and the works themselves as responses. Every draw of a work gives
    another prompt."""

    def __init__(
        self, works: Sequence[str], conditions: float, seed: int, chars: int = SHORT_CHARS
    ) -> None:
        """``conditions``: the share of prompts that ask for three words of the work, which stand in
        its first ``chars`` characters."""
        self._works = [work for work in works if len(work) <= SHORT_CHARS] or [*works]
        self._words = Conditions(works) if conditions else None
        self._share, self._seed, self._chars = conditions, seed, chars

    def replace(self, works: Sequence[str]) -> None:
        """From now on, examples are made from these works, and ask for the same words as before."""
        self._works = [*works]

    def __len__(self) -> int:
        return len(self._works)

    def example(self, index: int, draw: int) -> Example | None:
        """A prompt and its response from one work; None where the work gives none."""
        work, rng = self._works[index], random.Random(f"{self._seed}/{draw}/{index}")
        if self._words and rng.random() < self._share:
            prompt = self._words.prefix(_start(work, self._chars), rng)
            return Example(prompt, f" {work}", True) if prompt else None
        words = work.split(" ")
        size = rng.randint(*OPENING)
        if len(words) <= size:
            return None
        prompt = " ".join(words[:size])
        return Example(prompt, work[len(prompt) :], True)


def _start(work: str, chars: int) -> str:
    """The whole words in the first ``chars`` characters."""
    return work if len(work) <= chars else work[: chars + 1].rpartition(" ")[0]


def write_responses(
    model: Any, tokenizer: Any, corpus: Corpus, tokens: int, length: int, seed: int, folder: Path
) -> list[Example]:
    """The LLM's responses to prompts of the corpus: ``tokens`` of them in all, prompts included,
    each text at most ``length`` long. Kept in ``folder``, a file for each batch; those that exist
    are not written again."""
    batch = max(1, min(256, tokens // length))
    files = [folder / f"responses-{i:05d}.jsonl" for i in range(max(1, tokens // (length * batch)))]
    left = [i for i, file in enumerate(files) if not file.is_file()]
    done = len(files) - len(left)
    size = batch * length
    bar = tqdm(total=len(files) * size, initial=done * size, desc="responses", unit="tok")
    for i in left:
        rng = random.Random(f"{seed}/{i}")
        prompts = _of_one_length(tokenizer, corpus, rng, batch)
        found = _answers(model, tokenizer, prompts, length, TEMPERATURES[i % 4], seed + i)
        partial = files[i].with_suffix(".partial")
        partial.write_text("".join(json.dumps(asdict(e)) + "\n" for e in found), encoding="utf-8")
        partial.replace(files[i])
        bar.update(size)
    bar.close()
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [Example(**json.loads(line)) for line in lines]


def write_works(
    model: Any, tokenizer: Any, corpus: Corpus, count: int, length: int, seed: int, folder: Path
) -> list[str]:
    """``count`` texts that a model writes after prompts of the corpus, each at most ``length``
    tokens with its prompt; those that do not end by then are left out. Kept as responses are.

    Its own texts, sampled, are new to a model that has read the corpus many times; and words that
    stand in a text can be asked for, whether or not its prompt did.
    """
    batch = min(count, OWN_ROWS[model.device.type == "cuda"])
    files = [folder / f"own-{i:05d}.jsonl" for i in range(-(-count // batch))]
    for i, file in enumerate(tqdm(files, desc="own texts", unit="file")):
        if file.is_file():
            continue
        openings = _openings(tokenizer, corpus, random.Random(f"own/{seed}/{i}"), batch, length)
        made = answer(model, openings, length, 1.0, seed + i)
        works = []
        for opening, row, end in zip(openings, made["ids"], made["lengths"].tolist(), strict=True):
            text = row[len(opening) : end].tolist()
            if text and text[-1] in _ends(model):
                works.append(tokenizer.decode(text, skip_special_tokens=True).strip())
        partial = file.with_suffix(".partial")
        partial.write_text("".join(json.dumps(w) + "\n" for w in works if w), encoding="utf-8")
        partial.replace(file)
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [json.loads(line) for line in lines]


def _openings(
    tokenizer: Any, corpus: Corpus, rng: random.Random, count: int, length: int
) -> list[list[int]]:
    """Prompts that leave room for a text."""
    found = list[list[int]]()
    for _ in range(200 * count):
        example = corpus.example(rng.randrange(len(corpus)), rng.randrange(2**31))
        ids = tokenizer.encode(example.prompt) if example else []
        if ids and len(ids) < length // 2:
            found.append(ids)
        if len(found) == count:
            return found
    raise InputError(NO_PROMPTS)


def _of_one_length(tokenizer: Any, corpus: Corpus, rng: random.Random, count: int) -> list[str]:
    """Prompts with the same number of tokens, so that a batch of them needs no padding."""
    found: dict[int, list[str]] = {}
    for draw in range(200 * count):
        example = corpus.example(rng.randrange(len(corpus)), rng.randrange(2**31))
        if example is None:
            continue
        same = found.setdefault(len(tokenizer.encode(example.prompt)), [])
        same.append(example.prompt)
        if len(same) == count or (len(corpus) < count and draw > 20 * count):
            return same
    if not found:
        raise InputError(NO_PROMPTS)
    return max(found.values(), key=len)


def _answers(
    model: Any, tokenizer: Any, prompts: list[str], length: int, temperature: float, seed: int
) -> list[Example]:
    """What the LLM writes after these prompts."""
    ids = torch.tensor([tokenizer.encode(prompt) for prompt in prompts])
    size = ids.shape[1]
    if size >= length:
        raise InputError(
            f"Prompts have {size} tokens, and texts were to have {length} with their responses: "
            "give a larger --length."
        )
    texts = continue_texts(model, ids, length, temperature, seed)
    found = []
    for prompt, row, end in zip(prompts, texts["ids"], texts["lengths"], strict=True):
        new = row[size : int(end)].tolist()
        ended = bool(new) and new[-1] in _ends(model)
        whole = tokenizer.decode(row[: int(end)].tolist(), skip_special_tokens=True)
        head = tokenizer.decode(row[:size].tolist(), skip_special_tokens=True)
        found.append(Example(prompt, whole.removeprefix(head), ended))
    return found


def _ends(model: Any) -> list[int]:
    ends = model.generation_config.eos_token_id
    return ends if isinstance(ends, list) else [] if ends is None else [ends]
