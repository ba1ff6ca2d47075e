"""Copies where the text repeats itself at length, and asks the draft model elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import InputError
from ..lane import Lane
from ..ngrams import NGrams
from ..protocols import Outcome, Proposal

if TYPE_CHECKING:
    from ..models import Pair
    from ..protocols import LengthPolicy

LONG = 5
"""Tokens that must agree before copying is trusted more than the draft model (as SAM-Decoding)."""


class HybridDrafter:
    name = "hybrid"
    exactness = "token-exact"
    uses_draft_model = True

    def __init__(self, lane: Lane, eos_ids: frozenset[int], length: LengthPolicy) -> None:
        self._lane, self._eos_ids, self._length = lane, eos_ids, length
        self._ngrams = NGrams()

    def propose(self, context: list[int], k: int) -> Proposal:
        copied, same = self._ngrams.copy(context, k, LONG)
        if same >= LONG:
            return Proposal(copied, "lookup")
        return Proposal(self._lane.greedy(context, k, self._eos_ids, self._length.go_on), "model")

    def observe(self, outcome: Outcome) -> None:
        """Nothing to do: the lane drops rejected tokens when it is next asked."""


def build(pair: Pair, length: LengthPolicy) -> HybridDrafter:
    if pair.draft is None:
        raise InputError(
            f"{pair.name} has no draft model: give one as TARGET:DRAFT, or use the drafter lookup."
        )
    return HybridDrafter(Lane(pair.draft), pair.eos_ids, length)
