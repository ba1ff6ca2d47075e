"""The target itself guesses, without some of its attention and MLP sublayers.

SWIFT (Xia et al. 2024, arXiv 2410.06916): no second model, and nothing is trained. What can best be
left out is searched while the text is written; the first and the last layer stay whole. The
original tries a set at every step, on a window of 50 tokens, and has every 25th chosen by Bayesian
optimisation; here it is every fourth step, a random set or a neighbour of the best one.
"""

from __future__ import annotations

import random
from itertools import product
from typing import Any

import torch

from ..lane import Lane
from ..protocols import Kit, Outcome, Proposal
from ..skipping import skip

RATIO = 0.45
"""Of the inner layers' sublayers, how many are left out."""
SAMPLE, BEFORE = 32, 96
"""Tokens of the text on which sets are compared, and tokens before them that are read, at most."""
EVERY, PATIENCE, ENOUGH = 4, 30, 0.93
"""Steps between two tries; tries without a gain, or share of tokens, that end the search."""
ATTENTION, MLP = "attention", "MLP"

Skipped = frozenset[tuple[int, str]]
"""Sublayers that are left out: of which layer, and which of its two."""


class Search:
    """Looks for the set that changes least of what the target says. ``best``: of those tried."""

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

    def lane(self) -> Lane:
        return Lane(self._view(self.best))

    def step(self, text: list[int]) -> bool:
        """Tries another set in one pass; whether it is the best now.

        All are tried on the end that ``text`` had at the first step, so that shares can be
        compared. That step finds out the share of the set that the search starts from.
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
        """Of the sample's last tokens, how many the target would write without ``skipped``."""
        lane = Lane(self._view(skipped), cached=False)
        said = lane.logits(self._sample[:-1], SAMPLE).argmax(-1)
        text = torch.tensor(self._sample[-SAMPLE:], device=said.device)
        return float((said == text).float().mean())

    def _view(self, skipped: Skipped) -> Any:
        attentions, mlps = ({i for i, of in skipped if of == part} for part in (ATTENTION, MLP))
        return skip(self._target, attentions, mlps)


class LayerSkipDrafter:
    name = "layer-skip"
    uses_draft_model = False
    doubts = True

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._search = Search(kit.pair.target)
        self._lane = self._search.lane()
        self._context: list[int] = []
        self._steps = self._written = 0

    def propose(self, context: list[int], k: int) -> Proposal:
        """At most ``k`` tokens; a guessed end of text is the last one."""
        kit, self._context = self._kit, context
        written = self._lane.write(context, k, kit.choice, kit.pair.eos_ids, kit.length.go_on)
        tokens, probs, rows = written
        return Proposal(tokens, self.name, probs=probs, rows=rows)

    def observe(self, outcome: Outcome) -> None:
        """Now and then tries another set, once there is text of the target's own to try it on.

        This takes place here so that it is not counted as time for drafting.
        """
        self._steps += 1
        self._written += len(outcome.committed)
        if self._written < SAMPLE or self._steps % EVERY or self._search.done:
            return
        if self._search.step(self._context + outcome.committed):
            self._lane = self._search.lane()  # the old one's cache holds other numbers


def build(kit: Kit) -> LayerSkipDrafter:
    kit.pair.require_skipping()
    return LayerSkipDrafter(kit)
