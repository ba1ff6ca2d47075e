"""Medusa: heads on the frozen target guess several tokens at once, from one hidden state.

Cai et al. 2024, arXiv 2401.10774. The hidden state is that of the last layer at the last position
that the target has read. Head k predicts the token k + 2 positions after it: the next token is the
target's own and already in the text. No head knows what another one guesses. The original drafts a
tree of the heads' most likely tokens; here it is a chain with one token from each head.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..forward import hidden_states
from ..forward.medusa_heads import MedusaHeads
from ..models import heads
from ..protocols import Outcome, Proposal
from . import DrafterInputs, chain


class MedusaDrafter:
    name = "medusa"

    def __init__(
        self,
        inputs: DrafterInputs,
        module: MedusaHeads,
        output: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        self._inputs, self._heads, self._output = inputs, module, output
        self.reads_layers = (inputs.pair.target.config.get_text_config().num_hidden_layers,)
        self._last: torch.Tensor | None = None  # [width], at the last position that was read

    @torch.inference_mode()
    def propose(self, context: list[int], k: int) -> Proposal:
        """One token from each head, at most ``k``; a drafted EOS is the last one. No tokens before
        the target has read the prompt."""
        if self._last is None or not k:
            return Proposal([], self.name)
        rows = self._output(self._heads(self._last)[:k][None])[0]  # [heads, vocabulary]
        return chain(self._inputs, self.name, context, len(rows), lambda tokens: rows[len(tokens)])

    def observe(self, outcome: Outcome) -> None:
        """Keeps the hidden state at the last position that the target has read."""
        if outcome.hidden is not None and len(outcome.hidden):
            self._last = outcome.hidden[-1, 0]


def build(inputs: DrafterInputs) -> MedusaDrafter:
    """Raises InputError for a target on which no such heads were trained."""
    pair = inputs.pair
    head = heads.load("medusa", pair.target, pair.target_name)
    width, count = head.number("target_hidden_size"), head.number("medusa_num_heads")
    module = MedusaHeads(width, count, head.number("medusa_num_layers"))
    return MedusaDrafter(
        inputs, head.fill(module, pair.target), hidden_states.output_layer(pair.target)
    )
