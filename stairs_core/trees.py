"""Token trees: every token names the one that it follows, by index; -1 is the text before them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def merged(branches: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """Tokens and parents of the smallest tree that holds every branch, from the text on."""
    tokens: list[int] = []
    parents: list[int] = []
    known: dict[tuple[int, int], int] = {}
    for branch in branches:
        at = -1
        for token in branch:
            if (at, token) not in known:
                known[at, token] = len(tokens)
                tokens.append(token)
                parents.append(at)
            at = known[at, token]
    return tokens, parents


def depths(parents: Sequence[int]) -> list[int]:
    """How many tokens stand before each one in the tree."""
    found: list[int] = []
    for parent in parents:
        found.append(found[parent] + 1 if parent >= 0 else 0)
    return found


def paths(parents: Sequence[int]) -> list[list[int]]:
    """The indices that lead to each token, its own last."""
    found: list[list[int]] = []
    for i, parent in enumerate(parents):
        found.append([*(found[parent] if parent >= 0 else ()), i])
    return found


def follow(tokens: Sequence[int], parents: Sequence[int], text: Sequence[int]) -> list[int]:
    """The indices along which the tree says what ``text`` says, for as long as it does."""
    children = {
        (p, t): i for i, (p, t) in reversed([*enumerate(zip(parents, tokens, strict=True))])
    }
    path, at = [], -1
    for token in text:
        if (at, token) not in children:
            break
        at = children[at, token]
        path.append(at)
    return path


def mask(length: int, parents: Sequence[int], first: int) -> np.ndarray:
    """[rows, length + N] booleans, what may be seen by the positions from ``first`` on.

    ``length`` positions of text, which see what is before them, then the N tokens of the tree,
    which see the text and their own branch.
    """
    count = len(parents)
    branches = np.eye(count, dtype=bool)
    for i, parent in enumerate(parents):
        if parent >= 0:
            branches[i] |= branches[parent]
    text = np.tri(max(length - first, 0), length + count, first, dtype=bool)
    nodes = np.concatenate([np.ones((count, length), dtype=bool), branches], axis=1)
    return np.concatenate([text, nodes[max(first - length, 0) :]])


def positions(length: int, parents: Sequence[int], first: int) -> list[int]:
    """Where the positions from ``first`` on stand: a token of the tree by its depth."""
    return [*range(length), *(length + depth for depth in depths(parents))][first:]
