"""LLMA: finds the text's last n-gram in the references, and proposes what follows it there.

Yang et al. 2023, arXiv 2304.04487: n-grams of five tokens, then four, down to one; the first
occurrence is taken. The paper looks up n-grams of the output only; here the prompt's last tokens
count too. No second model.
"""

from __future__ import annotations

from ..errors import InputError, Use, Value, Word
from ..protocols import Outcome, Proposal
from . import DrafterInputs
from .search.ngrams import DocumentNGrams


class ReferenceDrafter:
    name = "reference"
    reads_layers = ()

    def __init__(self, ngrams: DocumentNGrams) -> None:
        self._ngrams = ngrams

    def propose(self, context: list[int], k: int) -> Proposal:
        copy = self._ngrams.copy(context, k)
        return Proposal(copy.tokens, self.name, origins=copy.origins)

    def observe(self, outcome: Outcome) -> None:
        """Nothing to learn: the references do not change."""


def build(inputs: DrafterInputs) -> ReferenceDrafter:
    if not inputs.references:
        raise InputError(
            "The ",
            Word("drafter"),
            " ",
            Value("drafter", "reference"),
            " copies from texts of yours: ",
            Use(reference="FILE"),
            ".",
        )
    return ReferenceDrafter(DocumentNGrams(inputs.references))
