"""Copies where the text repeats itself at length, and asks the draft model elsewhere."""

from __future__ import annotations

from ..lane import Lane
from ..ngrams import NGrams
from ..protocols import Kit, Outcome, Proposal
from . import draft_lane

LONG = 5
"""Tokens that must agree before copying is trusted more than the draft model (as SAM-Decoding)."""


class HybridDrafter:
    name = "hybrid"
    uses_draft_model = True
    doubts = True

    def __init__(self, lane: Lane, kit: Kit) -> None:
        self._lane, self._kit = lane, kit
        self._ngrams = NGrams()

    def propose(self, context: list[int], k: int) -> Proposal:
        copy = self._ngrams.copy(context, k, LONG)
        if copy.same >= LONG:
            return Proposal(copy.tokens, "lookup", origins=copy.origins)
        kit = self._kit
        written = self._lane.write(context, k, kit.choice, kit.pair.eos_ids, kit.length.go_on)
        tokens, probs, rows = written
        return Proposal(tokens, "model", probs=probs, rows=rows)

    def observe(self, outcome: Outcome) -> None:
        """Nothing to do: the lane drops rejected tokens when it is next asked."""


def build(kit: Kit) -> HybridDrafter:
    return HybridDrafter(draft_lane(kit), kit)
