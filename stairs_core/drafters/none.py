"""Plain decoding: no guesses, so that every target pass yields one token."""

from __future__ import annotations

from ..protocols import Outcome, Proposal
from . import DrafterInputs


class NoDrafter:
    name = "none"
    reads_layers = ()

    def propose(self, context: list[int], k: int) -> Proposal:
        return Proposal([], self.name)

    def observe(self, outcome: Outcome) -> None:
        """Nothing to learn from."""


def build(inputs: DrafterInputs) -> NoDrafter:
    return NoDrafter()
