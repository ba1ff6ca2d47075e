"""A draft model guesses K tokens, one pass each (Leviathan et al., arXiv 2211.17192)."""

from __future__ import annotations

from ..forward.cached_model import CachedModel
from ..protocols import Outcome, Proposal
from . import DrafterInputs, cached_draft


class ModelDrafter:
    name = "model"
    reads_layers = ()

    def __init__(self, draft: CachedModel, inputs: DrafterInputs) -> None:
        self._draft, self._inputs = draft, inputs

    def propose(self, context: list[int], k: int) -> Proposal:
        """At most ``k`` tokens; a drafted EOS is the last one."""
        inputs = self._inputs
        written = self._draft.write(
            context, k, inputs.sampler, inputs.pair.eos_ids, inputs.length.keep_drafting
        )
        tokens, probs, rows = written
        return Proposal(tokens, self.name, probs=probs, rows=rows)

    def observe(self, outcome: Outcome) -> None:
        """Nothing to do: the cached model drops rejected tokens when it is next called."""


def build(inputs: DrafterInputs) -> ModelDrafter:
    return ModelDrafter(cached_draft(inputs), inputs)
