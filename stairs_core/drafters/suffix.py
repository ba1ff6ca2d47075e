"""Copies what followed the longest end of the text that stood before, in it or in a reference.

The suffix automata of SAM-Decoding (Hu et al. 2024, arXiv 2411.10666), which there fall back on
another drafter where the match is short: this one then guesses little, or nothing.
"""

from __future__ import annotations

from ..protocols import Kit, Outcome, Proposal
from ..suffixes import Suffixes


class SuffixDrafter:
    name = "suffix"
    uses_draft_model = False
    doubts = False

    def __init__(self, suffixes: Suffixes) -> None:
        self._suffixes = suffixes

    def propose(self, context: list[int], k: int) -> Proposal:
        copy = self._suffixes.copy(context, k)
        return Proposal(copy.tokens, self.name, origins=copy.origins)

    def observe(self, outcome: Outcome) -> None:
        """Nothing to learn: the text itself is the memory."""


def build(kit: Kit) -> SuffixDrafter:
    return SuffixDrafter(Suffixes(kit.references))
