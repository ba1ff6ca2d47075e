"""A small model of any tokenizer writes on; its text is encoded again, in the target's tokens.

As transformers' ``AssistedCandidateGeneratorDifferentTokenizers`` (universal assisted generation).
"""

from __future__ import annotations

from .. import choice
from ..lane import Lane
from ..protocols import Kit, Outcome, Proposal
from ..translate import Interpreter
from . import draft_lane


class ReencodeDrafter:
    """Writes what the draft finds most likely, also under sampling: a text has no law in the
    target's tokens, and of guesses that were not drawn the likeliest hold most."""

    name = "reencode"
    uses_draft_model = True
    doubts = False  # of the target's tokens: it stops the draft at its own

    def __init__(self, lane: Lane, kit: Kit) -> None:
        self._lane, self._kit = lane, kit
        self._greedy = choice.Greedy(choice.Processors())
        self._interpreter = Interpreter(*kit.pair.languages)

    def propose(self, context: list[int], k: int) -> Proposal:
        """At most ``k`` tokens, from the text of as many of the draft's."""
        pair = self._kit.pair
        told = self._interpreter.tell(context)
        count = min(k, pair.context_length - len(told)) if told else 0
        written, *_ = self._lane.write(
            told, max(0, count), self._greedy, pair.draft_eos_ids, self._kit.length.go_on
        )
        return Proposal(pair.readable(self._interpreter.answer(written)[:k]), "model")

    def observe(self, outcome: Outcome) -> None:
        """Nothing to do: the lane drops rejected tokens when it is next asked."""


def build(kit: Kit) -> ReencodeDrafter:
    return ReencodeDrafter(draft_lane(kit, any_tokenizer=True), kit)
