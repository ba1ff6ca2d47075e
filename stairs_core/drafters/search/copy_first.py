"""Copies where a long run of the last tokens occurred before; else asks another drafter."""

from __future__ import annotations

from ...protocols import Drafter, Outcome, Proposal
from .ngrams import NGrams

LONG = 5
"""Tokens that must match for copying to be preferred (as in SAM-Decoding)."""


class CopyFirst:
    def __init__(self, name: str, other: Drafter) -> None:
        self.name, self.reads_layers = name, other.reads_layers
        self._other, self._ngrams = other, NGrams()

    def propose(self, context: list[int], k: int) -> Proposal:
        """At most ``k`` tokens."""
        copy = self._ngrams.copy(context, k, LONG)
        if copy.same < LONG:
            return self._other.propose(context, k)
        self._other.propose(context, 0)  # it learns how long the text is
        return Proposal(copy.tokens, "lookup", origins=copy.origins)

    def observe(self, outcome: Outcome) -> None:
        self._other.observe(outcome)
