"""The target itself drafts, without some of its attention and MLP sublayers.

SWIFT (Xia et al. 2024, arXiv 2410.06916): no second model, no training. Which sublayers to skip is
searched during the run; the first and the last layer are never skipped. The original tries a set at
every step, on a window of 50 tokens, every 25th chosen by Bayesian optimisation; here a set is
tried every fourth step: a random one, or a neighbour of the best.
"""

from __future__ import annotations

import random
from itertools import product
from typing import Any

import torch

from ..forward.cached_model import CachedModel
from ..forward.layer_skip_view import skip
from ..protocols import Outcome, Proposal
from . import DrafterInputs

RATIO = 0.45
"""The share of the inner layers' sublayers that is skipped."""
SAMPLE, BEFORE = 32, 96
"""Tokens of the text that sets are compared on, and the most tokens read before those."""
EVERY, PATIENCE, ENOUGH = 4, 30, 0.93
"""Steps between two tries. The search ends after so many tries without a gain, or when the best set
predicts this share of the tokens."""
ATTENTION, MLP = "attention", "MLP"

Skipped = frozenset[tuple[int, str]]
"""The sublayers that are skipped: (layer, ATTENTION or MLP) each."""


class Search:
    """Searches for the set to skip that changes the fewest of the target's predictions.

    ``best``: the best set so far.
    """

    def __init__(self, target: Any) -> None:
        self._target = target
        inner = range(1, target.config.get_text_config().num_hidden_layers - 1)
        self._all = [*product(inner, (ATTENTION, MLP))]
        self._count = max(1, int(RATIO * len(self._all)))
        self._random = random.Random(0)
        self.best: Skipped = frozenset([*product(inner[::2], (ATTENTION, MLP))][: self._count])
        self._score, self._idle = 0.0, 0
        self._sample: list[int] = []
        self._tried = {self.best}

    @property
    def done(self) -> bool:
        return self._score >= ENOUGH or self._idle >= PATIENCE

    def draft(self) -> CachedModel:
        """The target without the best set, with an empty cache."""
        return CachedModel(self._view(self.best))

    def step(self, text: list[int]) -> bool:
        """Tries another set in one pass; returns whether it is the best now.

        All sets are tried on the end that ``text`` had in the first call, so that their shares can
        be compared. The first call only measures the set that the search starts from.
        """
        if not self._sample:
            self._sample = text[-SAMPLE - BEFORE :]
            self._score = self._share(self.best)
            return False
        skipped = self._another()
        score = 0.0 if skipped in self._tried else self._share(skipped)
        self._tried.add(skipped)
        better = score > self._score
        if better:
            self.best, self._score = skipped, score
        self._idle = 0 if better else self._idle + 1
        return better

    def _another(self) -> Skipped:
        if self._random.random() < 0.5:
            return frozenset(self._random.sample(self._all, self._count))
        back = self._random.choice(sorted(self.best))
        out = self._random.choice([part for part in self._all if part not in self.best])
        return self.best - {back} | {out}

    def _share(self, skipped: Skipped) -> float:
        """The share of the sample's last tokens that the target predicts without ``skipped``."""
        model = CachedModel(self._view(skipped), cached=False)
        predicted = model.logits(self._sample[:-1], SAMPLE).argmax(-1)
        text = torch.tensor(self._sample[-SAMPLE:], device=predicted.device)
        return float((predicted == text).float().mean())

    def _view(self, skipped: Skipped) -> Any:
        attentions, mlps = ({i for i, of in skipped if of == part} for part in (ATTENTION, MLP))
        return skip(self._target, attentions, mlps)


class LayerSkipDrafter:
    name = "layer-skip"
    reads_layers = ()

    def __init__(self, inputs: DrafterInputs) -> None:
        self._inputs = inputs
        self._search = Search(inputs.pair.target)
        self._draft = self._search.draft()
        self._context: list[int] = []
        self._steps = self._written = 0

    def propose(self, context: list[int], k: int) -> Proposal:
        """At most ``k`` tokens; a drafted EOS is the last one."""
        inputs, self._context = self._inputs, context
        written = self._draft.write(
            context, k, inputs.sampler, inputs.pair.eos_ids, inputs.length.keep_drafting
        )
        tokens, probs, rows = written
        return Proposal(tokens, self.name, probs=probs, rows=rows)

    def observe(self, outcome: Outcome) -> None:
        """Every few steps tries another set, once the target has written enough text to try it on.

        Done here rather than in ``propose``, so that it does not count as drafting time.
        """
        self._steps += 1
        self._written += len(outcome.committed)
        if self._written < SAMPLE or self._steps % EVERY or self._search.done:
            return
        if self._search.step(self._context + outcome.committed):
            self._draft = self._search.draft()  # with an empty cache: the old keys do not fit


def build(inputs: DrafterInputs) -> LayerSkipDrafter:
    inputs.pair.require_skipping()
    return LayerSkipDrafter(inputs)
