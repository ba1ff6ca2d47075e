"""Counts the n-gram table of ``drafters.ngram_table`` over the target's texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from ...models.ngram_tables import COLUMNS, NGramTable, keys

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
    table, times = _counted([text for i, text in enumerate(texts) if i % HELD])
    # The most frequent; of equals the higher key, so that the same texts give the same table.
    order = table[0].argsort(descending=True)
    order = order[times[order].argsort(descending=True, stable=True)][:most]
    order = order[table[0][order].argsort()]
    columns = zip(COLUMNS, table, (torch.int64, torch.int32, torch.uint8), strict=True)
    tensors = {name: column[order].to(dtype) for name, column, dtype in columns}
    return tensors, _tried(_table(tensors), texts[::HELD])


def answers(files: Sequence[Path]) -> Iterator[torch.Tensor]:
    """The texts of some files. Of a prompt only its last tokens: the answer begins after them."""
    for file in files:
        found = load_file(file)
        starts = found.get("starts", torch.zeros_like(found["lengths"]))
        for ids, start, length in zip(found["ids"], starts, found["lengths"], strict=True):
            yield ids[max(0, int(start) - LONGEST) : int(length)].long()


def _table(tensors: dict[str, torch.Tensor]) -> NGramTable:
    ngrams, tokens, shares = (tensors[name] for name in COLUMNS)
    return NGramTable(ngrams, tokens, shares, LONGEST)


Columns = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Keys of n-grams, their most frequent next tokens, and the shares of these in percent."""


def _counted(texts: Sequence[torch.Tensor]) -> tuple[Columns, torch.Tensor]:
    """All n-grams that are surer than each shorter one at their end, by length; and how often each
    was there."""
    flat = torch.cat([*texts])
    # Of each token, how many of its own text are before it.
    before = torch.cat([torch.arange(len(text)) for text in texts])
    tables: list[Columns] = []
    found: list[torch.Tensor] = []
    by_length: list[torch.Tensor] = []
    for length in range(1, LONGEST + 1):
        at = (before >= length).nonzero()[:, 0]
        by_length.append(keys(flat, length))
        first, table, times = _followers(by_length[-1][at - length], flat[at], at)
        surest = torch.zeros_like(times)
        for shorter, (known, own) in enumerate(zip(tables, by_length, strict=False), 1):
            surest = surest.maximum(_share(known, own[first - shorter]))
        surer = table[2] > surest  # else a shorter one is asked
        tables.append(tuple(column[surer] for column in table))  # type: ignore[arg-type]
        found.append(times[surer])
    return tuple(map(torch.cat, zip(*tables, strict=True))), torch.cat(found)  # type: ignore[return-value]


def _followers(
    ngrams: torch.Tensor, tokens: torch.Tensor, at: torch.Tensor
) -> tuple[torch.Tensor, Columns, torch.Tensor]:
    """From n-grams' keys, the tokens that followed and where these are: for each key, ascending,
    one such place; its row; and how often it was there."""
    order = tokens.argsort(stable=True)
    order = order[ngrams[order].argsort(stable=True)]
    ngrams, tokens, at = ngrams[order], tokens[order], at[order]
    new = torch.ones(len(order), dtype=torch.bool)
    new[1:] = (ngrams[1:] != ngrams[:-1]) | (tokens[1:] != tokens[:-1])
    starts = new.nonzero()[:, 0]  # of each pair of an n-gram and a token
    counts = torch.diff(starts, append=torch.tensor([len(order)]))
    groups, group = ngrams[starts].unique_consecutive(return_inverse=True)
    totals = torch.zeros(len(groups), dtype=torch.long).index_add_(0, group, counts)
    best = (group * (len(order) + 1) - counts).argsort(stable=True)  # most frequent first in each
    best = best[torch.cat([torch.ones(1, dtype=torch.bool), group[best][1:] != group[best][:-1]])]
    shares = (100 * (counts[best] - DISCOUNT) / totals).round().long()
    return at[starts[best]], (groups, tokens[starts[best]], shares), totals


def _share(table: Columns, ngrams: torch.Tensor) -> torch.Tensor:
    """What a table has for each key; 0 where it has nothing."""
    if not len(table[0]):
        return torch.zeros_like(ngrams)
    there = torch.searchsorted(table[0], ngrams).clamp(max=len(table[0]) - 1)
    return torch.where(table[0][there] == ngrams, table[2][there], 0)


def _tried(table: NGramTable, texts: Sequence[torch.Tensor]) -> dict[str, float]:
    asked = guessed = right = 0
    for text in (found.tolist() for found in texts):
        for at in range(LONGEST, len(text)):
            found = table.after(text[at - LONGEST : at])
            asked += 1
            guessed += found is not None
            right += found is not None and found[0] == text[at]
    return {"guesses": guessed / max(1, asked), "right": right / max(1, asked)}
