"""Prompt lookup: finds the text's last n-gram earlier in the text, and copies what followed it.

Apoorv Saxena's prompt lookup decoding, as in transformers' ``PromptLookupCandidateGenerator``:
n-grams of three tokens, then two, then one; the most recent occurrence is taken. No second model.
"""

from __future__ import annotations

from ..protocols import Outcome, Proposal
from . import DrafterInputs
from .search.ngrams import NGrams


class LookupDrafter:
    name = "lookup"
    reads_layers = ()

    def __init__(self) -> None:
        self._ngrams = NGrams()

    def propose(self, context: list[int], k: int) -> Proposal:
        copy = self._ngrams.copy(context, k)
        return Proposal(copy.tokens, self.name, origins=copy.origins)

    def observe(self, outcome: Outcome) -> None:
        """Nothing to learn: the text itself is searched."""


def build(inputs: DrafterInputs) -> LookupDrafter:
    return LookupDrafter()
