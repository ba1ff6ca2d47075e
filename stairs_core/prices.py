"""Reckoning with what passes cost: the v and c of the expected speedup (design, section 6).

What a run saw itself comes first; what was measured before it only gives the shape of what the run
did not see. Standard library only; ``costs`` measures.
"""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from .trace import Prices, Recording, Run, Step

UNPRICED = ("tree", "lookahead", "layer-skip", "reencode")
"""Drafters whose guesses are not a model's passes and nothing else: they have no ideal."""
BUSY = 2.0
"""Where the middle half of what should be one number differs by more than this factor, nothing is
said of it: a gain could as well be a loss."""


def monotone(groups: Iterable[Sequence[float]]) -> list[float]:
    """A level for each group of samples, in order, that never falls: the least absolute errors.

    Medians; groups whose medians would fall are one, with all their samples, so that a few that a
    busy moment made wrong weigh no more than they are. Every group needs a sample.
    """
    blocks: list[tuple[float, list[float], int]] = []
    for samples in groups:
        level, pool, size = statistics.median_low(samples), [*samples], 1
        while blocks and blocks[-1][0] > level:
            _, before, count = blocks.pop()
            pool, size = before + pool, size + count
            level = statistics.median_low(pool)
        blocks.append((level, pool, size))
    return [level for level, _, size in blocks for _ in range(size)]


def spread(values: Sequence[float]) -> float:
    """The third quartile over the first; of fewer than four values, the largest over the smallest.
    1.0 where there is nothing to compare."""
    found = sorted(v for v in values if v > 0)
    if len(found) < 2:
        return 1.0
    if len(found) < 4:
        return found[-1] / found[0]
    low, _, high = statistics.quantiles(found, n=4, method="inclusive")
    return high / low


def unsteadiness(steps: Sequence[Step]) -> float:
    """By what factor passes over as many tokens, one after the other, differ: ``spread`` of a pass
    over the last one of its width, which leaves out that they grow with the text. The first pass
    reads the prompt and is no such pass."""
    ratios: list[float] = []
    last: dict[int, float] = {}
    for step in steps[1:]:
        width, seconds = len(step.tokens), step.verify_seconds
        if seconds > 0 and width in last:
            ratios.append(seconds / last[width])
        if seconds > 0:
            last[width] = seconds
    # Of two passes, of which each may be off.
    return spread(ratios) ** 0.5


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds. ``passes``: (tokens, seconds) of target passes over a cache, narrowest first; of
    those that ``fit`` makes a wider one never costs less.

    ``draft``: what one drafted token costs (0.0 for a drafter without a model). ``context``: tokens
    before these passes. ``alone``: a one-token pass of plain decoding, timed between them (0.0: the
    narrowest of ``passes`` is such a pass). ``rounds``: what each round of the measuring found.
    """

    passes: tuple[tuple[int, float], ...]
    draft: float
    context: int = 0
    alone: float = field(default=0.0, compare=False)
    rounds: tuple[Costs, ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def fit(
        cls,
        passes: Mapping[int, Sequence[float]],
        drafts: Sequence[float] = (),
        context: int = 0,
        alone: Sequence[float] = (),
        rounds: tuple[Costs, ...] = (),
    ) -> Costs:
        """From samples: of passes by width, of drafted tokens, of passes of plain decoding."""
        groups = ([alone] if alone else []) + [passes[width] for width in sorted(passes)]
        levels = monotone(groups)
        unit = levels.pop(0) if alone else 0.0
        fitted = tuple(zip(sorted(passes), levels, strict=True))
        return cls(fitted, statistics.median(drafts) if drafts else 0.0, context, unit, rounds)

    @classmethod
    def of(cls, run: Run) -> Costs | None:
        """Those of a run's own way to decode; None where they were not measured before it."""
        if not run.prices or run.prices[0].backend != run.backend:
            return None
        return cls.told(run.prices[0])

    @classmethod
    def told(cls, prices: Prices) -> Costs:
        """Those that a trace tells."""
        samples = {n: [s] for n, s in zip(prices.widths, prices.seconds, strict=True)}
        return cls.fit(samples, [prices.draft], prices.context)

    def prices(self, backend: str, *, drafts: bool = True) -> Prices:
        """For the trace, of ``backend``."""
        widths, seconds = zip(*self.passes, strict=True)
        own = self.draft if drafts else 0.0
        return Prices(backend, self.context, widths, seconds, own, self.unsure)

    @property
    def unit(self) -> float:
        """What a token of plain decoding costs."""
        return self.alone or self.passes[0][1]

    @property
    def unsure(self) -> float | None:
        """By what factor its rounds differ; None where there were not two."""
        return disagreement(self.rounds)

    def target(self, tokens: int) -> float:
        """A target pass over that many tokens: between the measured widths in proportion, and
        beyond the widest in proportion to it."""
        for (a, low), (b, high) in pairwise(self.passes):
            if tokens <= b:
                return low + (high - low) * max(0, tokens - a) / (b - a)
        widest, seconds = self.passes[-1]
        return seconds * max(1.0, tokens / widest)

    def expected_speedup(self, k: int, alpha: float) -> float:
        """S = E / (v(K + 1) + K c), where a guess holds with the same chance ``alpha`` at every
        position: E = 1 + alpha + ... + alpha^K (Leviathan et al., arXiv 2211.17192). E at most."""
        tokens = sum(alpha**i for i in range(k + 1))
        return tokens * min(1.0, self.unit / (self.target(k + 1) + k * self.draft))

    def expected_range(self, k: int, alpha: float) -> tuple[float, float]:
        """The quartiles of that over the rounds, widened to hold it."""
        middle = self.expected_speedup(k, alpha)
        found = sorted(r.expected_speedup(k, alpha) for r in self.rounds)
        if len(found) < 4:
            return min([middle, *found]), max([middle, *found])
        low, _, high = statistics.quantiles(found, n=4, method="inclusive")
        return min(low, middle), max(high, middle)

    def contradicted(self, lane: Recording, alone: Recording) -> bool:
        """Whether the run saw steps cost another multiple of plain decoding's, by ``BUSY``."""
        own = [s for s in lane.steps[1:] if s.drafted and s.verify_seconds > 0]
        base = [s.verify_seconds for s in alone.steps[1:] if s.verify_seconds > 0]
        if not own or not base:
            return False
        seen = statistics.median(
            (s.verify_seconds + s.draft_seconds)
            / (self.target(len(s.tokens)) + self.draft * len(s.drafted))
            for s in own
        )
        ratio = seen * self.unit / statistics.median(base)
        return not 1 / BUSY <= ratio <= BUSY


def at_the_pace(lane: Recording) -> dict[str, Costs]:
    """What was measured before a run, by backend, as dear as the run saw its own passes to be.

    Without those that a busy machine made too uncertain.
    """
    own, steps = Costs.of(lane.run), lane.steps[1:]
    seen = [s.verify_seconds / own.target(len(s.tokens)) for s in steps] if own else []
    pace = statistics.median(seen) if seen and min(seen) > 0 else 1.0
    return {
        prices.backend: Costs(tuple((n, s * pace) for n, s in Costs.told(prices).passes), 0.0)
        for prices in lane.run.prices
        if (prices.spread or 1.0) <= BUSY
    }


def disagreement(rounds: Sequence[Costs]) -> float | None:
    """By what factor they differ: in what passes of one width take, and in what a step of four
    guesses costs in passes of plain decoding. None of fewer than two."""
    if len(rounds) < 2:
        return None
    steps = [(r.target(5) + 4 * r.draft) / r.unit for r in rounds]
    widths = zip(*([s for _, s in r.passes] for r in rounds), strict=True)
    return max(spread(steps), statistics.median(map(spread, widths)))


class Passes:
    """What a run's passes of the target cost, by width, from what the run saw of them.

    A width that it saw often enough costs its median there; a wider pass never costs less. Between
    such widths, and beyond them, the shape of what was measured ``before`` holds, at the level of
    the run: so that a price that was wrong moves nothing that the run itself says. ``floor``:
    passes of plain decoding in the same race, than which no pass is cheaper. ``recent``: how many
    passes of a width are remembered; None: all. ``noise``: a factor by which a median may differ
    from that shape and yet not overrule it: what one more token costs is less than noise.
    """

    _ENOUGH = 2  # of one, nobody could say that it was disturbed

    def __init__(
        self,
        before: Costs,
        floor: Sequence[float] = (),
        recent: int | None = None,
        noise: float = 1.0,
    ) -> None:
        self._before, self._floor, self._recent, self._noise = before, floor, recent, noise
        self._seen: dict[int, deque[float]] = {}
        self._levels: deque[float] = deque(maxlen=recent)
        self._anchors: list[tuple[int, float]] | None = None
        self._least, self._level = 0.0, 1.0
        self._known: dict[int, float] = {}

    def saw(self, tokens: int, seconds: float) -> None:
        """A pass of the run."""
        if seconds > 0:
            self._seen.setdefault(tokens, deque(maxlen=self._recent)).append(seconds)
            self._levels.append(seconds / self._before.target(tokens))
            self._anchors = None

    def made(self, tokens: int) -> bool:
        """Whether the run saw such passes itself, often enough to say what they cost."""
        return len(self._seen.get(tokens, ())) >= self._ENOUGH

    @property
    def level(self) -> float:
        """What a pass of the run takes, in passes as they were measured before it."""
        return statistics.median(self._levels) if self._levels else 1.0

    def __call__(self, tokens: int) -> float:
        """Seconds of a pass over that many tokens."""
        if self._anchors is None:
            self._fit()
        if tokens not in self._known:
            self._known[tokens] = self._reckoned(tokens)
        return self._known[tokens]

    def _fit(self) -> None:
        widths = sorted(filter(self.made, self._seen))
        groups = [self._seen[width] for width in widths]
        levels = monotone(([self._floor] if self._floor else []) + groups)
        self._least = levels.pop(0) if self._floor else 0.0
        self._level = self.level
        told = [self._level * self._before.target(width) for width in widths]
        levels = [
            usual if 1 / self._noise < seconds / usual < self._noise else seconds
            for seconds, usual in zip(levels, told, strict=True)
        ]
        self._anchors = [*zip(widths, accumulate(levels, max), strict=True)]
        self._known = {}

    def _reckoned(self, tokens: int) -> float:
        anchors, shape = self._anchors or [], self._before.target
        i = bisect_right([width for width, _ in anchors], tokens)
        if not anchors:
            return max(self._least, self._level * shape(tokens))
        if i == 0:
            width, seconds = anchors[0]
            return max(self._least, seconds * shape(tokens) / shape(width))
        (a, low) = anchors[i - 1]
        if i == len(anchors):
            return low * shape(tokens) / shape(a)
        (b, high) = anchors[i]
        rise = shape(b) - shape(a)
        share = (shape(tokens) - shape(a)) / rise if rise else (tokens - a) / (b - a)
        return low + (high - low) * share
