"""The K likeliest tokens of a draft, as a tree with several branches where it is not sure.

After EAGLE-2 (Li et al. 2024, arXiv 2406.16858): tokens are ranked by the product of the draft's
probabilities along their branch. EAGLE-2 expands ten tokens at every level and then keeps the best;
here a level expands only tokens whose successors could still be among the K best. So the tree is
exactly the best one, and takes as many draft passes as it is deep.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

import torch

from ..protocols import Proposal, Sampler


@dataclass(slots=True)
class Node:
    """A token of the tree. ``probability``: of its whole branch. ``row``: the draft's logits that
    it was chosen from. ``at``: its index among the tokens that the draft has read; None for one not
    read yet."""

    token: int
    parent: Node | None
    probability: float
    row: torch.Tensor
    at: int | None = None

    @property
    def branch(self) -> list[int]:
        before = self.parent.branch if self.parent else []
        return [*before, self.token]

    @property
    def follows(self) -> int:
        """The parent's index among the tokens that the draft has read, -1 for the text."""
        return -1 if self.parent is None or self.parent.at is None else self.parent.at


Rows = Callable[[list[Node], int], torch.Tensor]
"""The draft's logits [n, vocabulary] after the last n of the tokens read, all of which are given;
the others were given before."""


def grow(
    context: list[int],
    k: int,
    sampler: Sampler,
    ends: Collection[int],
    first: torch.Tensor,
    rows: Rows,
    columns: torch.Tensor | None = None,
) -> Proposal:
    """The ``k`` >= 1 tokens with the highest probability of being reached. ``first`` [1,
    vocabulary]: the draft's logits after the text; no token follows one of ``ends``. ``columns``:
    the ids of the logits' entries where these are not all, for a sampler that ``narrows``."""
    successors = partial(_successors, context, sampler, k, columns)
    best = successors([None], first)
    read: list[Node] = []
    while new := _promising(best, k, ends):
        for node in new:
            node.at = len(read)
            read.append(node)
        best += successors(new, rows(read, len(new)))
        # Stable, so that a token comes after its parent, which is never less likely.
        best = sorted(best, key=lambda node: -node.probability)[:k]
    places = {id(node): i for i, node in enumerate(best)}
    parents = [places.get(id(node.parent), -1) for node in best]
    tokens, logits = [n.token for n in best], [n.row for n in best]
    return Proposal(tokens, "", parents, rows=logits, columns=columns)


def _promising(best: list[Node], k: int, ends: Collection[int]) -> list[Node]:
    """Tokens not read yet, and likelier than the last of ``best``: only their successors could take
    its place."""
    bar = best[-1].probability if len(best) == k else 0.0
    return [n for n in best if n.at is None and n.probability > bar and n.token not in ends]


def _successors(
    context: list[int],
    sampler: Sampler,
    k: int,
    columns: torch.Tensor | None,
    nodes: list[Node] | list[None],
    rows: torch.Tensor,
) -> list[Node]:
    texts = [context + node.branch if node else context for node in nodes]
    probs = sampler.probs(texts, rows).topk(min(k, rows.shape[-1]), dim=-1)
    ids = probs.indices if columns is None else columns[probs.indices]
    best = zip(nodes, rows, ids.tolist(), probs.values.tolist(), strict=True)
    found = []
    for node, row, tokens, values in best:
        so_far = node.probability if node else 1.0
        likely = zip(tokens, values, strict=True)
        found += [Node(t, node, so_far * p, row) for t, p in likely if p]
    return found
