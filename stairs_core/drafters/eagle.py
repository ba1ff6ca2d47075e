"""EAGLE-3: a head of one layer on the target's features guesses a token at a time.

Li et al. 2025, arXiv 2503.01840. The head (``forward.eagle_head``) has a KV cache of its own over
the text. For what the target has read it is fed the target's hidden states of three layers; while
it drafts, its own output takes their place. It guesses among the tokens that the target writes
most.
"""

from __future__ import annotations

import torch

from ..forward.cached_eagle import CachedEagle
from ..forward.eagle_head import EagleHead
from ..models import eagle_heads
from ..protocols import Outcome, Proposal
from . import DrafterInputs, chain


class EagleDrafter:
    name = "eagle"

    def __init__(self, inputs: DrafterInputs, head: CachedEagle, module: EagleHead) -> None:
        """``module``: what ``head`` computes."""
        self._inputs, self._head, self._module = inputs, head, module
        self.reads_layers = module.shape.features

    @torch.inference_mode()
    def propose(self, context: list[int], k: int) -> Proposal:
        """A chain of at most ``k`` tokens; a drafted EOS is the last one. No tokens before the
        target has read the prompt."""
        first = self._head.begin(context, wanted=k > 0)
        if first is None:
            return Proposal([], self.name)

        columns, output = self._module.output(self._inputs.sampler.narrows)

        def logits(tokens: list[int]) -> torch.Tensor:
            return output(self._head.then(tokens[-1]) if tokens else first)

        return chain(self._inputs, self.name, context, k, logits, columns)

    def observe(self, outcome: Outcome) -> None:
        """Hands the head the hidden states of what the target has read since the last step."""
        self._head.observe(outcome)


def build(inputs: DrafterInputs) -> EagleDrafter:
    """Raises InputError for a target on which no such head was trained."""
    head, module = eagle_heads.ready(inputs.pair.target, inputs.pair.target_name)
    return EagleDrafter(inputs, CachedEagle(head), module)
