"""Token trees: ``parents[i]`` is the index of the token that token i follows, -1 for the text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def merged(branches: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """Tokens and parents of the smallest tree that holds every branch.

    >>> merged([[5, 6, 7], [5, 8], [9]])
    ([5, 6, 7, 8, 9], [-1, 0, 1, 0, -1])
    """
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
    """How many tokens of the tree each token comes after.

    >>> depths([-1, 0, 1, 0, -1])
    [0, 1, 2, 1, 0]
    """
    found: list[int] = []
    for parent in parents:
        found.append(found[parent] + 1 if parent >= 0 else 0)
    return found


def paths(parents: Sequence[int]) -> list[list[int]]:
    """The indices of the branch that leads to each token, its own index last.

    >>> paths([-1, 0, 1, 0, -1])
    [[0], [0, 1], [0, 1, 2], [0, 3], [4]]
    """
    found: list[list[int]] = []
    for i, parent in enumerate(parents):
        found.append([*(found[parent] if parent >= 0 else ()), i])
    return found


def follow(tokens: Sequence[int], parents: Sequence[int], text: Sequence[int]) -> list[int]:
    """The indices of the tree's tokens along ``text``, as far as it is a branch of the tree.

    >>> follow([5, 6, 7, 8, 9], [-1, 0, 1, 0, -1], [5, 8, 2])
    [0, 3]
    """
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
    """[rows, length + N] booleans: which tokens each row may attend to, for the rows from
    ``first``.

    The text has ``length`` tokens, each of which sees itself and those before it. The N tokens of
    the tree come after it; each sees the text and its own branch.

    >>> mask(2, [-1, 0, -1], first=2).astype(int)
    array([[1, 1, 1, 0, 0],
           [1, 1, 1, 1, 0],
           [1, 1, 0, 0, 1]])
    """
    count = len(parents)
    branches = np.eye(count, dtype=bool)
    for i, parent in enumerate(parents):
        if parent >= 0:
            branches[i] |= branches[parent]
    text = np.tri(max(length - first, 0), length + count, first, dtype=bool)
    nodes = np.concatenate([np.ones((count, length), dtype=bool), branches], axis=1)
    return np.concatenate([text, nodes[max(first - length, 0) :]])


def bits(length: int, parents: Sequence[int], first: int) -> tuple[int, list[int]]:
    """The same mask in numbers: a place, before which the rows from ``first`` on see everything,
    and for each row a number whose bit j says whether it sees the token at that place + j.

    >>> [bin(row) for row in bits(2, [-1, 0, -1], first=1)[1]]
    ['0b1', '0b11', '0b111', '0b1001']
    """
    place = min(first, length)
    text = (1 << (length - place)) - 1
    nodes: list[int] = []
    for i, parent in enumerate(parents):
        nodes.append((nodes[parent] if parent >= 0 else text) | 1 << (length - place + i))
    rows = [(2 << (at - place)) - 1 for at in range(first, length)]
    return place, [*rows, *nodes[max(first - length, 0) :]]


def positions(length: int, parents: Sequence[int], first: int) -> list[int]:
    """Position ids of the tokens from ``first`` on: in the tree, the text's length plus the depth.

    >>> positions(2, [-1, 0, -1], first=1)
    [1, 2, 3, 2]
    """
    return [*range(length), *(length + depth for depth in depths(parents))][first:]
