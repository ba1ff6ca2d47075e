"""Plain decoding: an empty guess, so that every target pass yields one token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..protocols import Outcome, Proposal

if TYPE_CHECKING:
    from ..models import Pair
    from ..protocols import LengthPolicy


class NoDrafter:
    name = "none"
    exactness = "token-exact"
    uses_draft_model = False

    def propose(self, context: list[int], k: int) -> Proposal:
        return Proposal([], self.name)

    def observe(self, outcome: Outcome) -> None:
        """Nothing to learn from."""


def build(pair: Pair, length: LengthPolicy) -> NoDrafter:
    return NoDrafter()
