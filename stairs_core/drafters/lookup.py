"""Copies what followed the last tokens where they stood before: prompt lookup, no second model.

Apoorv Saxena's prompt lookup decoding, as in transformers' ``PromptLookupCandidateGenerator``: runs
of three tokens, then two, then one; the most recent place wins.
"""

from __future__ import annotations

from ..ngrams import NGrams
from ..protocols import Kit, Outcome, Proposal


class LookupDrafter:
    name = "lookup"
    uses_draft_model = False
    doubts = False

    def __init__(self) -> None:
        self._ngrams = NGrams()

    def propose(self, context: list[int], k: int) -> Proposal:
        copy = self._ngrams.copy(context, k)
        return Proposal(copy.tokens, self.name, origins=copy.origins)

    def observe(self, outcome: Outcome) -> None:
        """Nothing to learn: the text itself is the memory."""


def build(kit: Kit) -> LookupDrafter:
    return LookupDrafter()
