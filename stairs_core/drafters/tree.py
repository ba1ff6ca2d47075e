"""The draft model's K likeliest tokens, as a tree: several ways on where it is not sure.

After EAGLE-2 (Li et al. 2024, arXiv 2406.16858): a token is worth the product of the draft's
probabilities on its branch. EAGLE-2 widens every level by ten and then keeps the best; here a level
takes only the tokens whose successors could still be among the K best, so that the tree is exactly
the best one, in as many draft passes as it is deep.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..lane import Lane
from ..protocols import Kit, Outcome, Proposal
from . import draft_lane


@dataclass(slots=True)
class _Node:
    """``row``: the draft's logits behind it, [vocabulary]. ``at``: its index among the tokens that
    the draft has read; None while it has not."""

    token: int
    parent: _Node | None
    chance: float
    row: torch.Tensor
    at: int | None = None

    @property
    def branch(self) -> list[int]:
        before = self.parent.branch if self.parent else []
        return [*before, self.token]


class TreeDrafter:
    name = "tree"
    uses_draft_model = True
    doubts = False

    def __init__(self, lane: Lane, kit: Kit, masked: bool) -> None:
        self._lane, self._kit, self._masked = lane, kit, masked

    def propose(self, context: list[int], k: int) -> Proposal:
        """The ``k`` tokens with the highest probability of being reached."""
        if not k:
            return Proposal([], self.name, [])
        best = self._successors(context, [None], self._lane.logits(context, 1), k)
        read: list[_Node] = []
        while new := self._promising(best, k):
            for node in new:
                node.at = len(read)
                read.append(node)
            best += self._successors(context, new, self._rows(context, read, len(new)), k)
            # Stable, so that a token comes after its parent, which is never less likely.
            best = sorted(best, key=lambda node: -node.chance)[:k]
        places = {id(node): i for i, node in enumerate(best)}
        parents = [places.get(id(node.parent), -1) for node in best]
        rows = [node.row for node in best]
        return Proposal([node.token for node in best], self.name, parents, rows=rows)

    def _promising(self, best: list[_Node], k: int) -> list[_Node]:
        """Tokens not read yet that are likelier than the last: a successor may take its place."""
        bar = best[-1].chance if len(best) == k else 0.0
        ends = self._kit.pair.eos_ids
        return [n for n in best if n.at is None and n.chance > bar and n.token not in ends]

    def _rows(self, context: list[int], read: list[_Node], last: int) -> torch.Tensor:
        """[last, vocabulary]: the draft's logits after the last of the tokens read."""
        tokens = [node.token for node in read]
        parents = [-1 if n.parent is None or n.parent.at is None else n.parent.at for n in read]
        if self._masked:
            return self._lane.tree(context, tokens, parents, last)
        return self._lane.stairs(context, tokens, parents)[-last:]

    def _successors(
        self, context: list[int], nodes: list[_Node] | list[None], rows: torch.Tensor, k: int
    ) -> list[_Node]:
        texts = [context + node.branch if node else context for node in nodes]
        law = self._kit.choice.law(texts, rows).topk(min(k, rows.shape[-1]), dim=-1)
        best = zip(nodes, rows, law.indices.tolist(), law.values.tolist(), strict=True)
        found = []
        for node, row, tokens, chances in best:
            so_far = node.chance if node else 1.0
            likely = zip(tokens, chances, strict=True)
            found += [_Node(t, node, so_far * chance, row) for t, chance in likely if chance]
        return found

    def observe(self, outcome: Outcome) -> None:
        """Nothing to do: the lane drops rejected tokens when it is next asked."""


def build(kit: Kit) -> TreeDrafter:
    return TreeDrafter(draft_lane(kit), kit, kit.pair.draft_takes_trees)
