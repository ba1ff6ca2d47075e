"""Chimera: heads on the frozen target that know each other's guesses.

Zeng et al. 2024, arXiv 2402.15758. A trigram encoder reads the last three tokens, guesses included,
and one layer reads the target's hidden states of the text before them; ``forward/chimera_heads.py``
has the parts. So a guess costs a pass of these parts, where Medusa's heads guess all at once. The
original drafts a tree of the heads' most likely tokens; here it is a chain with one token from each
head.
"""

from __future__ import annotations

import torch

from ..forward import hidden_states
from ..forward.chimera_heads import TRIGRAM, ChimeraHeads, ChimeraText
from ..models import heads
from ..protocols import Outcome, Proposal
from . import DrafterInputs, chain


class ChimeraDrafter:
    name = "chimera"

    def __init__(self, inputs: DrafterInputs, module: ChimeraHeads) -> None:
        target = inputs.pair.target
        self._inputs, self._most = inputs, len(module.heads)
        self._text = ChimeraText(module)
        self._output = hidden_states.output_layer(target)
        self._embedding = hidden_states.embedding(target)
        self.reads_layers = (target.config.get_text_config().num_hidden_layers,)
        self._unused, self._length = hidden_states.Unused(), 0

    @torch.inference_mode()
    def propose(self, context: list[int], k: int) -> Proposal:
        """One token from each head, at most ``k``; a drafted EOS is the last one. No tokens before
        the target has read the prompt."""
        self._length = len(context)
        found = self._unused.take(len(context) - 1) if k else None
        if found is None:
            return Proposal([], self.name)
        self._text.add(found[0][:, 0], found[1])

        def logits(tokens: list[int]) -> torch.Tensor:
            last = (context[-TRIGRAM:] + tokens)[-TRIGRAM:]
            last = [last[0]] * (TRIGRAM - len(last)) + last
            return self._output(self._text.next(self._embedding[last], len(tokens)))

        return chain(self._inputs, self.name, context, min(k, self._most), logits)

    def observe(self, outcome: Outcome) -> None:
        """Keeps the hidden states at the positions that the target has read."""
        self._unused.add(outcome.hidden, self._length + len(outcome.committed) - 1)


def build(inputs: DrafterInputs) -> ChimeraDrafter:
    """Raises InputError for a target on which no such heads were trained."""
    pair = inputs.pair
    head = heads.load("chimera", pair.target, pair.target_name)
    module = ChimeraHeads(
        head.number("target_hidden_size"),
        head.number("chimera_num_heads"),
        head.number("chimera_attention_heads"),
        head.number("chimera_intermediate_size"),
    )
    return ChimeraDrafter(inputs, head.fill(module, pair.target))
