"""Reckoning with what passes cost: the v and c of the expected speedup (design, section 6).

Standard library only; ``costs`` measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from .trace import Prices, Run, Step

UNPRICED = ("tree", "lookahead", "layer-skip", "reencode")
"""Drafters whose passes are not those that are measured: they have no ideal."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds. ``passes``: (tokens, seconds) of target passes over a cache, narrowest first.

    ``draft``: what one drafted token costs (0.0 for a drafter without a model). ``context``: tokens
    before these passes.
    """

    passes: tuple[tuple[int, float], ...]
    draft: float
    context: int = 0

    @classmethod
    def of(cls, run: Run) -> Costs | None:
        """Those of a run's own way to decode; None where they were not measured before it."""
        if not run.prices or run.prices[0].backend != run.backend:
            return None
        own = run.prices[0]
        return cls(tuple(zip(own.widths, own.seconds, strict=True)), own.draft, own.context)

    def prices(self, backend: str, *, drafts: bool = True) -> Prices:
        """For the trace, of ``backend``."""
        widths, seconds = zip(*self.passes, strict=True)
        return Prices(backend, self.context, widths, seconds, self.draft if drafts else 0.0)

    def target(self, tokens: int) -> float:
        """A target pass over that many tokens, between the measured widths in proportion."""
        for (a, low), (b, high) in pairwise(self.passes):
            if tokens <= b:
                return low + (high - low) * (tokens - a) / (b - a)
        return self.passes[-1][1] * tokens / self.passes[-1][0]

    def step(self, step: Step) -> float:
        """A step's passes; guesses that no model made are free."""
        by_model = sum(t.source == "model" for t in step.drafted)
        return self.target(len(step.tokens)) + self.draft * by_model

    def ideal_speedups(self, steps: Sequence[Step], alone: Costs) -> list[float]:
        """What these steps gain, after each of them, if nothing costs anything but the passes.

        S = E / (v(K + 1) + K c), E being the tokens of a step, with every step's own K: tokens so
        far over the sum of what the steps cost. ``alone``: the costs of plain decoding, whose pass
        over one token is the unit of v and c.
        """
        found, tokens, seconds = [], 0, 0.0
        for step in steps:
            tokens += len(step.committed)
            seconds += self.step(step)
            found.append(tokens * alone.target(1) / seconds)
        return found

    def ideal_speedup(self, steps: Sequence[Step], alone: Costs) -> float:
        """The same after all of them, of which there is one at least."""
        return self.ideal_speedups(steps, alone)[-1]

    def expected_speedup(self, k: int, alpha: float, alone: Costs) -> float:
        """S where a guess holds with the same chance ``alpha`` < 1 at every position of K:
        E = (1 - alpha^(K + 1)) / (1 - alpha) (Leviathan et al., arXiv 2211.17192).
        """
        tokens = (1 - alpha ** (k + 1)) / (1 - alpha)
        return tokens * alone.target(1) / (self.target(k + 1) + k * self.draft)
