"""Copies from references what follows there the last tokens of the text: LLMA, no second model.

Yang et al. 2023, arXiv 2304.04487: runs of five tokens, then four, down to one; the first place
wins. There they end in the output, here they may end in the prompt too.
"""

from __future__ import annotations

from ..errors import InputError, Use, Value, Word
from ..ngrams import DocumentNGrams
from ..protocols import Kit, Outcome, Proposal


class ReferenceDrafter:
    name = "reference"
    uses_draft_model = False
    doubts = False

    def __init__(self, ngrams: DocumentNGrams) -> None:
        self._ngrams = ngrams

    def propose(self, context: list[int], k: int) -> Proposal:
        copy = self._ngrams.copy(context, k)
        return Proposal(copy.tokens, self.name, origins=copy.origins)

    def observe(self, outcome: Outcome) -> None:
        """Nothing to learn: the references do not change."""


def build(kit: Kit) -> ReferenceDrafter:
    if not kit.references:
        raise InputError(
            "The ",
            Word("drafter"),
            " ",
            Value("drafter", "reference"),
            " copies from texts of yours: ",
            Use(reference="FILE"),
            ".",
        )
    return ReferenceDrafter(DocumentNGrams(kit.references))
