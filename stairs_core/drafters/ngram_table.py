"""A table of n-grams, counted over texts that the target wrote, guesses; no pass is needed.

llama.cpp's static lookup cache (``llama-lookup-create``). What repeats a long run of this text's
own tokens is copied from it first.
"""

from __future__ import annotations

from ..models import ngram_tables
from ..models.ngram_tables import NGramTable
from ..protocols import Outcome, Proposal
from . import DrafterInputs
from .search.copy_first import CopyFirst


class NGramTableDrafter:
    name = "ngram-table"
    reads_layers = ()

    def __init__(self, inputs: DrafterInputs, table: NGramTable) -> None:
        self._inputs, self._table = inputs, table

    def propose(self, context: list[int], k: int) -> Proposal:
        """At most ``k`` tokens; fewer where the table has nothing, or after a guessed EOS."""
        text, keep_drafting = context[:], self._inputs.length.keep_drafting
        while len(text) < len(context) + k and (found := self._table.after(text)):
            text.append(found[0])
            if found[0] in self._inputs.pair.eos_ids:
                break
            if keep_drafting and not keep_drafting(found[1]):
                break
        return Proposal(text[len(context) :], self.name)

    def observe(self, outcome: Outcome) -> None:
        """Nothing to learn: the table is fixed."""


def build(inputs: DrafterInputs) -> CopyFirst:
    """Raises InputError for a target whose texts were not counted."""
    table = ngram_tables.ready(inputs.pair.target, inputs.pair.target_name)
    return CopyFirst("ngram-table", NGramTableDrafter(inputs, table))
