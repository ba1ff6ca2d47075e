"""Hidden Transfer: hidden states of later tokens, guessed at middle layers of the target.

Wu et al. 2024, arXiv 2404.12022. A linear map turns the hidden state of the last token that was
read into that of a later token, as it would be at a middle layer; the target's remaining layers
and its output layer make a guess of it. Each pseudo token enters at a layer of its own (in
``firp`` all at the same one); ``forward/pseudo_states.py`` has the parts.

In the paper pseudo tokens stand behind every candidate of a tree, in the pass that checks it. Here
a pass of the drafter's own over the remaining layers reads K of them after the tokens that were
accepted, and drafts a chain. It has keys and values of its own for those layers, so it computes
them twice for every token of the text: a longer draft, and a target pass that reads only guesses.
"""

from __future__ import annotations

import torch

from ..errors import InputError
from ..forward import hidden_states, upper_layers
from ..forward.pseudo_states import PseudoStates, PseudoText
from ..models import heads
from ..protocols import Outcome, Proposal
from . import DrafterInputs, chain


class HiddenTransferDrafter:
    def __init__(self, name: str, inputs: DrafterInputs, maps: PseudoStates) -> None:
        target = inputs.pair.target
        self.name, self._inputs, self._most = name, inputs, len(maps.layers)
        self._text = PseudoText(maps, target)
        self._output = hidden_states.output_layer(target)
        self.reads_layers = (maps.layers[0],)
        self._unused, self._length = hidden_states.Unused(), 0

    @torch.inference_mode()
    def propose(self, context: list[int], k: int) -> Proposal:
        """One token from each pseudo token, at most ``k``; a drafted EOS is the last one. No tokens
        before the target has read the prompt."""
        self._length = len(context)
        found = self._unused.take(len(context) - 1) if k else None
        if found is None:
            return Proposal([], self.name)
        rows = self._output(self._text.add(found[0][:, 0], found[1])[None, :k])[0]
        return chain(
            self._inputs, self.name, context, min(k, self._most), lambda tokens: rows[len(tokens)]
        )

    def observe(self, outcome: Outcome) -> None:
        """Keeps the middle layer's hidden states at the positions that the target has read."""
        self._unused.add(outcome.hidden, self._length + len(outcome.committed) - 1)


def build(inputs: DrafterInputs, name: str = "hidden-transfer") -> HiddenTransferDrafter:
    """Raises InputError for a target on which no such maps were trained."""
    pair = inputs.pair
    head = heads.load(name, pair.target, pair.target_name)
    upper_layers.check(pair.target)
    maps = PseudoStates(head.number("target_hidden_size"), _entries(head))
    return HiddenTransferDrafter(name, inputs, head.fill(maps, pair.target))


def _entries(head: heads.Head) -> list[int]:
    """Where its pseudo tokens enter. Raises InputError where its config does not say so."""
    layers = head.config.get("pseudo_layers")
    if (
        not isinstance(layers, list)
        or not all(type(n) is int and 1 <= n <= head.number("target_layers") for n in layers)
        or not layers
        or layers != sorted(layers)
    ):
        raise InputError(
            f"{head.folder} is damaged: its config.json says pseudo_layers = {layers!r:.60}."
        )
    return layers
