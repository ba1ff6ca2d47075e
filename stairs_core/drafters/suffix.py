"""Suffix automaton: copies what followed the text's longest suffix that occurred earlier.

Earlier in the text, or in a reference (SAM-Decoding, Hu et al. 2024, arXiv 2411.10666). Where the
match is short, the paper falls back on another drafter; this one then guesses few tokens, or none.
"""

from __future__ import annotations

from ..protocols import Outcome, Proposal
from . import DrafterInputs
from .search.suffix_automaton import Suffixes


class SuffixDrafter:
    name = "suffix"
    reads_layers = ()

    def __init__(self, suffixes: Suffixes) -> None:
        self._suffixes = suffixes

    def propose(self, context: list[int], k: int) -> Proposal:
        copy = self._suffixes.copy(context, k)
        return Proposal(copy.tokens, self.name, origins=copy.origins)

    def observe(self, outcome: Outcome) -> None:
        """Nothing to learn: the text itself is searched."""


def build(inputs: DrafterInputs) -> SuffixDrafter:
    return SuffixDrafter(Suffixes(inputs.references))
