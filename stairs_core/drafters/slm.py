"""A small model that read the prompt with the target's hidden states guesses; the target checks.

LLM-to-SLM (Bergner et al. 2024, arXiv 2402.16844), there with no check, as in ``slm_alone``. The
target reads the prompt in its own first pass, which gives the features; until then there are no
guesses.
"""

from __future__ import annotations

from ..decoding import samplers
from ..forward.cached_model import CachedModel
from ..forward.fitted_draft import vocabulary
from ..models import slm
from ..protocols import Outcome, Proposal
from ..text.cross_tokenizer import Interpreter, Language
from . import DrafterInputs


class SlmDrafter:
    """Where the small model has a tokenizer of its own, it drafts greedily, and its text is encoded
    into the target's tokens, as in ``reencode``: there is no q over the target's vocabulary."""

    name = "slm"

    def __init__(self, inputs: DrafterInputs, small: slm.Slm) -> None:
        self._inputs, self._small = inputs, small
        self.reads_layers = (small.layer,)
        self._prompt: list[int] | None = None
        self._draft: CachedModel | None = None
        self._interpreter = None
        if small.tokenizer is not None:
            pair = inputs.pair
            target = Language(pair.tokenizer, pair.eos_ids)
            self._interpreter = Interpreter(target, small.language)
            self._greedy = samplers.Greedy(samplers.Processors())

    def propose(self, context: list[int], k: int) -> Proposal:
        """At most ``k`` tokens; a drafted EOS is the last one. None before the target has read the
        prompt."""
        self._prompt = context[:] if self._prompt is None else self._prompt
        if self._draft is None or not k:
            return Proposal([], self.name)
        inputs, small = self._inputs, self._small
        if self._interpreter is not None:
            return self._reencoded(context, k)
        written = self._draft.write(
            context,
            min(k, max(0, small.context_length - len(context))),
            inputs.sampler,
            inputs.pair.eos_ids,
            inputs.length.keep_drafting,
        )
        tokens, probs, rows = written
        return Proposal(tokens, self.name, probs=probs, rows=rows)

    def _reencoded(self, context: list[int], k: int) -> Proposal:
        assert self._draft is not None
        assert self._interpreter is not None
        small, pair = self._small, self._inputs.pair
        ids = self._interpreter.to_draft(context)
        count = min(k, small.context_length - len(ids)) if ids else 0
        written, *_ = self._draft.write(ids, max(0, count), self._greedy, small.language.eos_ids)
        tokens = pair.readable(self._interpreter.to_target(written)[:k])
        return Proposal(tokens, self.name)

    def observe(self, outcome: Outcome) -> None:
        """After the first step, gives the small model what the target made of the prompt."""
        if self._draft is not None or outcome.hidden is None or self._prompt is None:
            return
        pair, small, prompt = self._inputs.pair, self._small, self._prompt
        hidden = outcome.hidden[: len(prompt), 0]
        own = self._interpreter.to_draft(prompt) if self._interpreter else prompt
        width = vocabulary(small.model if self._interpreter else pair.target)
        projected = small.projected(hidden, prompt, own, pair)
        self._draft = CachedModel(small.reader(lambda: projected, width))


def build(inputs: DrafterInputs) -> SlmDrafter:
    """Raises InputError for a target for which no such model was trained."""
    return SlmDrafter(inputs, slm.guesser(inputs.pair))
