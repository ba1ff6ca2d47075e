"""A draft model of another tokenizer guesses, limited to tokens that both vocabularies have.

Token-level intersection (Timor et al. 2025, arXiv 2502.05202, section 3.3): the draft's q, limited
to shared tokens and renormalised, is a distribution over the target's vocabulary, so speculative
sampling stays exact.
"""

from __future__ import annotations

import torch

from ..errors import InputError, Use
from ..forward.cached_model import CachedModel
from ..forward.fitted_draft import vocabulary
from ..protocols import Outcome, Proposal
from ..text.cross_tokenizer import Interpreter, shared
from . import DrafterInputs, cached_draft


class SharedDrafter:
    """``both``: the draft's id for each of the target's ids that both vocabularies have."""

    name = "shared"
    reads_layers = ()

    def __init__(self, draft: CachedModel, inputs: DrafterInputs, both: dict[int, int]) -> None:
        self._draft, self._inputs, self._both = draft, inputs, both
        device = inputs.pair.device
        self._ours = torch.tensor([*both], device=device)
        self._theirs = torch.tensor([*both.values()], device=device)
        self._width = vocabulary(inputs.pair.target)
        self._interpreter = Interpreter(*inputs.pair.languages)

    def propose(self, context: list[int], k: int) -> Proposal:
        """At most ``k`` tokens; a drafted EOS is the last one.

        No tokens where the text ends inside a character that the draft has no tokens for.
        """
        pair, keep_drafting = self._inputs.pair, self._inputs.length.keep_drafting
        ids = self._interpreter.to_draft(context)
        begun = self._interpreter.pending
        ids += [self._both[token] for token in begun if token in self._both]
        whole = bool(ids) and all(token in self._both for token in begun)
        tokens: list[int] = []
        probs: list[torch.Tensor] = []
        rows: list[torch.Tensor] = []
        for _ in range(min(k, pair.context_length - len(ids)) if whole else 0):
            rows.append(scores := self._scores(ids))
            sampled, q = self._inputs.sampler.sample(lambda: context + tokens, scores)
            tokens.append(token := int(sampled))
            probs += [] if q is None else [q]
            if token in pair.eos_ids:
                break
            if keep_drafting and not keep_drafting(
                float((scores.softmax(-1) if q is None else q)[token])
            ):
                break
            ids = [*ids, self._both[token]]
        return Proposal(tokens, "model", probs=torch.stack(probs) if probs else None, rows=rows)

    def _scores(self, ids: list[int]) -> torch.Tensor:
        """[target's vocabulary]: the draft's logits for shared tokens, -inf elsewhere."""
        row = self._draft.logits(ids, 1)[0]
        scores = row.new_full((self._width,), float("-inf"))
        return scores.index_copy_(0, self._ours, row[self._theirs])

    def observe(self, outcome: Outcome) -> None:
        """Nothing to do: the cached model drops rejected tokens when it is next called."""


def build(inputs: DrafterInputs) -> SharedDrafter:
    """As ``cached_draft``; also raises InputError where the vocabularies share no token."""
    pair = inputs.pair
    draft = cached_draft(inputs, any_tokenizer=True)
    most = vocabulary(pair.target), vocabulary(pair.draft)
    both = {a: b for a, b in shared(*pair.languages).items() if a < most[0] and b < most[1]}
    if not both:
        raise InputError(
            f"{pair.target_name} and {pair.draft_name} have no token in common: ",
            Use(drafter="reencode"),
            ".",
        )
    return SharedDrafter(draft, inputs, both)
