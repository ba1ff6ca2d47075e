"""A small model guesses K tokens, a pass each (Leviathan et al., arXiv 2211.17192)."""

from __future__ import annotations

from ..lane import Lane
from ..protocols import Kit, Outcome, Proposal
from . import draft_lane


class ModelDrafter:
    name = "model"
    uses_draft_model = True
    doubts = True

    def __init__(self, lane: Lane, kit: Kit) -> None:
        self._lane, self._kit = lane, kit

    def propose(self, context: list[int], k: int) -> Proposal:
        """At most ``k`` tokens; a guessed end of text is the last one."""
        kit = self._kit
        written = self._lane.write(context, k, kit.choice, kit.pair.eos_ids, kit.length.go_on)
        tokens, probs, rows = written
        return Proposal(tokens, self.name, probs=probs, rows=rows)

    def observe(self, outcome: Outcome) -> None:
        """Nothing to do: the lane drops rejected tokens when it is next asked."""


def build(kit: Kit) -> ModelDrafter:
    return ModelDrafter(draft_lane(kit), kit)
