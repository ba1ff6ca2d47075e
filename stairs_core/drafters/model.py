"""A small model guesses K tokens greedily, a pass each (Leviathan et al., arXiv 2211.17192)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import InputError
from ..lane import Lane
from ..protocols import Outcome, Proposal

if TYPE_CHECKING:
    from ..models import Pair
    from ..protocols import LengthPolicy


class ModelDrafter:
    name = "model"
    exactness = "token-exact"
    uses_draft_model = True

    def __init__(self, lane: Lane, eos_ids: frozenset[int], length: LengthPolicy) -> None:
        self._lane, self._eos_ids, self._length = lane, eos_ids, length

    def propose(self, context: list[int], k: int) -> Proposal:
        """At most ``k`` tokens; a guessed end of text is the last one."""
        tokens = self._lane.greedy(context, k, self._eos_ids, self._length.go_on)
        return Proposal(tokens, self.name)

    def observe(self, outcome: Outcome) -> None:
        """Nothing to do: the lane drops rejected tokens when it is next asked."""


def build(pair: Pair, length: LengthPolicy) -> ModelDrafter:
    if pair.draft is None:
        raise InputError(
            f"{pair.name} has no draft model: give one as TARGET:DRAFT, or use the drafter none."
        )
    return ModelDrafter(Lane(pair.draft), pair.eos_ids, length)
