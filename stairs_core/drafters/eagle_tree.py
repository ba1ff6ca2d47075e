"""EAGLE-3's head, whose K likeliest tokens are checked as a tree.

Li et al. 2025, arXiv 2503.01840, with the tree of EAGLE-2 (arXiv 2406.16858) as
``decoding.best_tree`` grows it.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from ..decoding import best_tree
from ..forward.cached_eagle import CachedEagle
from ..forward.eagle_head import EagleHead
from ..models import eagle_heads
from ..protocols import Outcome, Proposal
from . import DrafterInputs


class EagleTreeDrafter:
    name = "eagle-tree"

    def __init__(self, inputs: DrafterInputs, head: CachedEagle, module: EagleHead) -> None:
        """``module``: what ``head`` computes."""
        self._inputs, self._head, self._module = inputs, head, module
        self.reads_layers = module.shape.features

    @torch.inference_mode()
    def propose(self, context: list[int], k: int) -> Proposal:
        """The ``k`` tokens with the highest probability of being reached; none before the target
        has read the prompt."""
        first = self._head.begin(context, wanted=k > 0)
        if first is None:
            return Proposal([], self.name, [])

        sampler, ends = self._inputs.sampler, self._inputs.pair.eos_ids
        columns, output = self._module.output(sampler.narrows)

        def rows(read: list[best_tree.Node], last: int) -> torch.Tensor:
            new = read[-last:]
            tokens, parents = [node.token for node in new], [node.follows for node in new]
            return output(self._head.branches(tokens, parents))

        tree = best_tree.grow(context, k, sampler, ends, output(first[None]), rows, columns)
        return replace(tree, source=self.name)

    def observe(self, outcome: Outcome) -> None:
        """Hands the head the hidden states of what the target has read since the last step."""
        self._head.observe(outcome)


def build(inputs: DrafterInputs) -> EagleTreeDrafter:
    """Raises InputError for a target on which no such head was trained."""
    head, module = eagle_heads.ready(inputs.pair.target, inputs.pair.target_name)
    return EagleTreeDrafter(inputs, CachedEagle(head), module)
