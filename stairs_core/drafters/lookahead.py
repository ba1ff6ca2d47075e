"""Lookahead decoding: guesses n-grams that the target generated while looking several tokens ahead.

Fu et al. 2024, arXiv 2402.02057. Beside the guesses, each pass reads a window: N - 1 rows of W
tokens, which are N - 1 Jacobi iterations of W positions. A window token sees the text, the first
row up to its own column, and its own column in the rows between, so the window is a tree. The
target's predictions after the last row are the next row. Every column is then an n-gram, stored
under its first token, and guessed when the text ends with that token. The rows start as random
tokens of the text, where the original fills them one by one. No second model; it pays where a wider
pass costs little.
"""

from __future__ import annotations

import random

from ..forward import token_trees
from ..protocols import Outcome, Proposal
from . import DrafterInputs

WINDOW, NGRAM = 5, 4
POOL = 8
"""How many n-grams are kept for one first token: the latest."""


class LookaheadDrafter:
    name = "lookahead"
    reads_layers = ()

    def __init__(self, context_length: int) -> None:
        self._context_length = context_length
        self._random = random.Random(0)
        self._rows: list[list[int]] = []  # WINDOW tokens each; first the text's last
        self._pool: dict[int, list[tuple[int, ...]]] = {}

    def propose(self, context: list[int], k: int) -> Proposal:
        """A tree of at most ``k`` guesses, then the window as probes."""
        if not self._rows:
            some = self._random.choices(context, k=WINDOW * (NGRAM - 1))
            self._rows = [some[i : i + WINDOW] for i in range(0, len(some), WINDOW)]
        self._rows[0][0] = context[-1]
        found = self._pool.get(context[-1], [])[::-1]
        tokens, parents = token_trees.merged(found)
        # A token comes after its parent, so the first ones are a tree too.
        tokens, parents = tokens[:k], parents[:k]
        if len(context) + WINDOW + NGRAM > self._context_length:
            return Proposal(tokens, self.name, parents)
        window, places = self._window(len(tokens))
        return Proposal(tokens + window, self.name, parents + places, probe=len(window))

    def _window(self, start: int) -> tuple[list[int], list[int]]:
        """Tokens and parents of the rows, with indices from ``start`` on.

        The first row is without its first token, which is the text's last one.
        """
        first, *others = self._rows
        tokens, parents = first[1:], [-1, *range(start, start + WINDOW - 2)]
        above = [-1, *range(start, start + WINDOW - 1)]
        for row in others:
            parents = parents + above
            above = [start + len(tokens) + i for i in range(WINDOW)]
            tokens = tokens + row
        return tokens, parents

    def observe(self, outcome: Outcome) -> None:
        """Stores the window's columns as n-grams, and shifts its rows up by one."""
        if not outcome.proposal.probe:
            return
        new = outcome.logits[-WINDOW:].argmax(-1).tolist()
        for first, *rest in zip(*self._rows, new, strict=True):
            kept = self._pool.setdefault(first, [])
            ngram = tuple(rest)
            if ngram in kept:
                kept.remove(ngram)
            kept.append(ngram)
            del kept[:-POOL]
        self._rows = [*self._rows[1:], new]


def build(inputs: DrafterInputs) -> LookaheadDrafter:
    return LookaheadDrafter(inputs.pair.context_length)
