"""A draft model of any tokenizer continues the text; its text is encoded into the target's tokens.

Universal assisted generation, as transformers' ``AssistedCandidateGeneratorDifferentTokenizers``.
"""

from __future__ import annotations

from ..decoding import samplers
from ..forward.cached_model import CachedModel
from ..protocols import Outcome, Proposal
from ..text.cross_tokenizer import Interpreter
from . import DrafterInputs, cached_draft


class ReencodeDrafter:
    """Drafts greedily even when sampling: there is no q over the target's vocabulary, and without q
    the most likely tokens are accepted most often."""

    name = "reencode"
    reads_layers = ()

    def __init__(self, draft: CachedModel, inputs: DrafterInputs) -> None:
        self._draft, self._inputs = draft, inputs
        self._greedy = samplers.Greedy(samplers.Processors())
        self._interpreter = Interpreter(*inputs.pair.languages)

    def propose(self, context: list[int], k: int) -> Proposal:
        """At most ``k`` tokens, encoded from the text of at most ``k`` of the draft's."""
        pair = self._inputs.pair
        ids = self._interpreter.to_draft(context)
        count = min(k, pair.context_length - len(ids)) if ids else 0
        written, *_ = self._draft.write(
            ids, max(0, count), self._greedy, pair.draft_eos_ids, self._inputs.length.keep_drafting
        )
        return Proposal(pair.readable(self._interpreter.to_target(written)[:k]), "model")

    def observe(self, outcome: Outcome) -> None:
        """Nothing to do: the cached model drops rejected tokens when it is next called."""


def build(inputs: DrafterInputs) -> ReencodeDrafter:
    return ReencodeDrafter(cached_draft(inputs, any_tokenizer=True), inputs)
