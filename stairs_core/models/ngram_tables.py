"""What followed each n-gram most often in texts that the target wrote: counted once, then fixed.

llama.cpp calls it a static lookup cache. A key is a hash of an n-gram's tokens. Two n-grams with
one key would only mean a bad guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..errors import InputError
from . import heads

_FACTOR = 0x9E3779B97F4A7C15
_MASK = (1 << 63) - 1


def key(ngram: Sequence[int]) -> int:
    """Of the tokens of an n-gram, in order: 63 bits."""
    found = len(ngram) * _FACTOR & _MASK  # a large number, which no token's cancels
    for token in ngram:
        found = ((found ^ (token + 1)) * _FACTOR) & _MASK
        found ^= found >> 29
    return found


def keys(tokens: torch.Tensor, length: int) -> torch.Tensor:
    """[n - length + 1]: ``key`` of every n-gram of so many of ``tokens`` [n], int64."""
    places = len(tokens) - length + 1
    found = torch.full((max(0, places),), length * _FACTOR & _MASK)
    for at in range(length if places > 0 else 0):
        # Products wrap around at 64 bits, of which 63 are kept.
        found = ((found ^ (tokens[at : at + places] + 1)) * (_FACTOR - (1 << 64))) & _MASK
        found ^= found >> 29
    return found


class NGramTable:
    """``keys`` [N], ascending; ``tokens`` [N]: the most frequent next token; ``shares`` [N]: its
    discounted share of all that followed, in percent. ``longest``: the most tokens of an n-gram."""

    def __init__(
        self, keys: torch.Tensor, tokens: torch.Tensor, shares: torch.Tensor, longest: int
    ) -> None:
        pairs = zip(tokens.tolist(), shares.tolist(), strict=True)
        self._after = dict(zip(keys.tolist(), pairs, strict=True))
        self._longest = longest

    def after(self, text: Sequence[int]) -> tuple[int, float] | None:
        """The next token of the surest n-gram at the end of ``text``, and how sure it is, from 0 to
        1; None where the table has none."""
        ends = (tuple(text[-n:]) for n in range(1, min(self._longest, len(text)) + 1))
        found = [known for end in ends if (known := self._after.get(key(end)))]
        token, percent = max(found, key=lambda known: known[1], default=(0, 0))
        return (token, percent / 100) if found else None


COLUMNS = ("keys", "tokens", "shares")
_READY: dict[tuple[object, ...], NGramTable] = {}
"""The tables in use, by their files."""


def ready(target: Any, name: str) -> NGramTable:
    """The table of a target called ``name``. Raises InputError where there is none, or it cannot be
    used."""
    found = heads.load("ngram-table", target, name)
    if found.stamp not in _READY:
        columns = [found.tensors[name] for name in COLUMNS if name in found.tensors]
        if len({column.shape for column in columns}) != 1 or len(columns) < len(COLUMNS):
            raise InputError(f"{found.folder} is damaged: its tensors are no table of n-grams.")
        keys, tokens, shares = columns
        _READY[found.stamp] = NGramTable(keys, tokens, shares, found.number("longest"))
    return _READY[found.stamp]
