"""Counts the n-gram table of ``drafters.ngram_table`` over the target's texts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from ...models.ngram_tables import NGramTable, key

LONGEST = 5
DISCOUNT = 0.75
"""Taken from every count, so that what was seen once is not thought certain (absolute discounting,
Ney, Essen and Kneser 1994)."""
HELD = 50
"""Of so many texts one is not counted: the table is tried on it."""


def count(files: Sequence[Path], most: int) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """The tensors of a table of at most ``most`` n-grams, the most frequent; and how often its
    guess is right, and how often it has one, on texts that were not counted."""
    texts = [*answers(files)]
    counted = [text for i, text in enumerate(texts) if i % HELD]
    rows: list[tuple[int, int, int, int]] = []  # times, key, token, percent
    known: dict[tuple[int, ...], int] = {}
    for length in range(1, LONGEST + 1):
        for ngram, after in _followers(counted, length).items():
            token, times = after.most_common(1)[0]
            percent = round(100 * (times - DISCOUNT) / after.total())
            surest = max((known.get(ngram[start:], 0) for start in range(1, length)), default=0)
            if percent > surest:  # else a shorter one is asked
                known[ngram] = percent
                rows.append((after.total(), key(ngram), token, percent))
    rows = sorted(sorted(rows, reverse=True)[:most], key=lambda row: row[1])
    tensors = {
        "keys": torch.tensor([row[1] for row in rows], dtype=torch.int64),
        "tokens": torch.tensor([row[2] for row in rows], dtype=torch.int32),
        "shares": torch.tensor([row[3] for row in rows], dtype=torch.uint8),
    }
    table = NGramTable(tensors["keys"], tensors["tokens"], tensors["shares"], LONGEST)
    return tensors, _tried(table, texts[::HELD])


def answers(files: Sequence[Path]) -> Iterator[list[int]]:
    """The texts of some files. Of a prompt only its last tokens: the answer begins after them."""
    for file in files:
        found = load_file(file)
        starts = found.get("starts", torch.zeros_like(found["lengths"]))
        for ids, start, length in zip(found["ids"], starts, found["lengths"], strict=True):
            yield ids[max(0, int(start) - LONGEST) : int(length)].tolist()


def _followers(texts: Sequence[Sequence[int]], length: int) -> dict[tuple[int, ...], Counter[int]]:
    """How often each token followed each n-gram of so many tokens."""
    found: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for text in texts:
        for after in range(length, len(text)):
            found[tuple(text[after - length : after])][text[after]] += 1
    return found


def _tried(table: NGramTable, texts: Sequence[Sequence[int]]) -> dict[str, float]:
    asked = guessed = right = 0
    for text in texts:
        for at in range(LONGEST, len(text)):
            found = table.after(text[at - LONGEST : at])
            asked += 1
            guessed += found is not None
            right += found is not None and found[0] == text[at]
    return {"guesses": guessed / max(1, asked), "right": right / max(1, asked)}
