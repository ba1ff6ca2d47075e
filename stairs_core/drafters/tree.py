"""The draft model's K likeliest tokens, as a tree with several branches where it is not sure.

After EAGLE-2 (Li et al. 2024, arXiv 2406.16858); ``decoding.best_tree`` grows the tree.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from ..decoding import best_tree
from ..forward.cached_model import CachedModel
from ..protocols import Outcome, Proposal
from . import DrafterInputs, cached_draft


class TreeDrafter:
    name = "tree"
    reads_layers = ()

    def __init__(self, draft: CachedModel, inputs: DrafterInputs, masked: bool) -> None:
        self._draft, self._inputs, self._masked = draft, inputs, masked

    def propose(self, context: list[int], k: int) -> Proposal:
        """The ``k`` tokens with the highest probability of being reached."""
        if not k:
            return Proposal([], self.name, [])

        def rows(read: list[best_tree.Node], last: int) -> torch.Tensor:
            tokens, parents = [node.token for node in read], [node.follows for node in read]
            if self._masked:
                return self._draft.tree(context, tokens, parents, last)
            return self._draft.stairs(context, tokens, parents)[-last:]

        sampler, ends = self._inputs.sampler, self._inputs.pair.eos_ids
        first = self._draft.logits(context, 1)
        return replace(best_tree.grow(context, k, sampler, ends, first, rows), source=self.name)

    def observe(self, outcome: Outcome) -> None:
        """Nothing to do: the cached model drops rejected tokens when it is next called."""


def build(inputs: DrafterInputs) -> TreeDrafter:
    return TreeDrafter(cached_draft(inputs), inputs, inputs.pair.draft_takes_trees)
