"""A small model guesses K tokens greedily, a pass each (Leviathan et al., arXiv 2211.17192)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import InputError
from ..lane import Lane
from ..protocols import Outcome, Proposal

if TYPE_CHECKING:
    from ..models import Pair


class ModelDrafter:
    name = "model"
    exactness = "token-exact"
    uses_draft_model = True

    def __init__(self, lane: Lane, eos_ids: frozenset[int]) -> None:
        self._lane = lane
        self._eos_ids = eos_ids

    def propose(self, context: list[int], k: int) -> Proposal:
        """At most ``k`` tokens; a guessed end of text is the last one."""
        tokens: list[int] = []
        while len(tokens) < k:
            tokens.append(int(self._lane.logits(context + tokens, 1).argmax()))
            if tokens[-1] in self._eos_ids:
                break
        return Proposal(tokens, self.name)

    def observe(self, outcome: Outcome) -> None:
        """Nothing to do: the lane drops rejected tokens when it is next asked."""


def build(pair: Pair) -> ModelDrafter:
    if pair.draft is None:
        raise InputError(
            f"{pair.name} has no draft model: give one as TARGET:DRAFT, or use the drafter none."
        )
    return ModelDrafter(Lane(pair.draft), pair.eos_ids)
