"""Plain decoding: an empty guess, so that every target pass yields one token."""

from __future__ import annotations

from ..protocols import Kit, Outcome, Proposal


class NoDrafter:
    name = "none"
    uses_draft_model = False
    doubts = False

    def propose(self, context: list[int], k: int) -> Proposal:
        return Proposal([], self.name)

    def observe(self, outcome: Outcome) -> None:
        """Nothing to learn from."""


def build(kit: Kit) -> NoDrafter:
    return NoDrafter()
