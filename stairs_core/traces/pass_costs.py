"""Arithmetic with measured pass costs: v and c of the expected speedup, and medians that rise.

``measuring.pass_timing`` measures. What a run measured itself counts most; what was measured before
it only gives the shape of the costs of passes that the run did not make.
"""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from .records import Prices, Recording, Run, Step

BUSY = 2.0
"""Measurements whose third quartile is more than this many times the first are not used: a gain
could as well be a loss."""


def monotone(groups: Iterable[Sequence[float]]) -> list[float]:
    """A value for each group of samples, in order, that never falls: isotonic regression.

    Each value is a median. Neighbouring groups whose medians would fall are merged with all their
    samples (pool adjacent violators, least absolute errors), so that a few samples from a busy
    moment have no more weight than others. Every group needs a sample.

    >>> monotone([[1.0], [3.0], [2.0], [4.0]])
    [1.0, 2.0, 2.0, 4.0]
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
    """By what factor passes of one width differ from one to the next.

    The ``spread`` of each pass's time over that of the last pass of its width: passes that slowly
    grow with the text do not count as unsteady. The first pass reads the prompt, and is left out.
    """
    ratios: list[float] = []
    last: dict[int, float] = {}
    for step in steps[1:]:
        width, seconds = step.width, step.verify_seconds
        if seconds > 0 and width in last:
            ratios.append(seconds / last[width])
        if seconds > 0:
            last[width] = seconds
    # Both passes of a ratio vary, so the spread of one pass is the square root.
    return spread(ratios) ** 0.5


@dataclass(frozen=True, slots=True)
class PassCosts:
    """What passes cost, in seconds.

    ``passes``: (tokens, seconds) of target passes over a cache, narrowest first; after ``fit`` a
    wider one never costs less. ``draft``: what one drafted token costs (0.0 for a drafter without a
    model). ``context``: tokens before these passes. ``alone``: a one-token pass of plain decoding,
    timed between them (0.0: the narrowest of ``passes`` is one). ``rounds``: what each round of
    measuring found.
    """

    passes: tuple[tuple[int, float], ...]
    draft: float
    context: int = 0
    alone: float = field(default=0.0, compare=False)
    rounds: tuple[PassCosts, ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def fit(
        cls,
        passes: Mapping[int, Sequence[float]],
        drafts: Sequence[float] = (),
        context: int = 0,
        alone: Sequence[float] = (),
        rounds: tuple[PassCosts, ...] = (),
    ) -> PassCosts:
        """From samples: ``passes`` by width, drafted tokens, plain one-token passes."""
        groups = ([alone] if alone else []) + [passes[width] for width in sorted(passes)]
        levels = monotone(groups)
        unit = levels.pop(0) if alone else 0.0
        fitted = tuple(zip(sorted(passes), levels, strict=True))
        return cls(fitted, statistics.median(drafts) if drafts else 0.0, context, unit, rounds)

    @classmethod
    def of(cls, run: Run) -> PassCosts | None:
        """Those of a run's own backend; None where they were not measured before the run."""
        if not run.prices or run.prices[0].backend != run.backend:
            return None
        return cls.of_record(run.prices[0])

    @classmethod
    def of_record(cls, prices: Prices) -> PassCosts:
        """From the record in a trace."""
        samples = {n: [s] for n, s in zip(prices.widths, prices.seconds, strict=True)}
        return cls.fit(samples, [prices.draft], prices.context)

    def prices(self, backend: str, *, drafts: bool = True) -> Prices:
        """As a record for the trace. ``drafts``: whether the run's drafter uses a draft model."""
        widths, seconds = zip(*self.passes, strict=True)
        own = self.draft if drafts else 0.0
        return Prices(backend, self.context, widths, seconds, own, self.unsure)

    @property
    def unit(self) -> float:
        """What a token of plain decoding costs: the unit of v and c."""
        return self.alone or self.passes[0][1]

    @property
    def unsure(self) -> float | None:
        """By what factor the rounds differ; None with fewer than two."""
        return disagreement(self.rounds)

    def target(self, tokens: int) -> float:
        """Seconds of a target pass over so many tokens.

        Linear between the measured widths; beyond the widest, in proportion to its width.
        """
        for (a, low), (b, high) in pairwise(self.passes):
            if tokens <= b:
                return low + (high - low) * max(0, tokens - a) / (b - a)
        widest, seconds = self.passes[-1]
        return seconds * max(1.0, tokens / widest)

    def expected_speedup(self, k: int, alpha: float) -> float:
        """S = E / (v(K + 1) + K c), with E = 1 + alpha + ... + alpha^K expected tokens per step.

        Every guess is accepted with the chance ``alpha`` if it is reached (Leviathan et al., arXiv
        2211.17192). v and c are in units of plain decoding. S is at most E.
        """
        tokens = sum(alpha**i for i in range(k + 1))
        return tokens * min(1.0, self.unit / (self.target(k + 1) + k * self.draft))

    def expected_range(self, k: int, alpha: float) -> tuple[float, float]:
        """The quartiles of ``expected_speedup`` over the rounds, widened to include its value."""
        middle = self.expected_speedup(k, alpha)
        found = sorted(r.expected_speedup(k, alpha) for r in self.rounds)
        if len(found) < 4:
            return min([middle, *found]), max([middle, *found])
        low, _, high = statistics.quantiles(found, n=4, method="inclusive")
        return min(low, middle), max(high, middle)

    def contradicted(self, lane: Recording, alone: Recording) -> bool:
        """Whether in a race a step's cost, in plain steps, is off by a factor of ``BUSY``."""
        own = [s for s in lane.steps[1:] if s.drafted and s.verify_seconds > 0]
        base = [s.verify_seconds for s in alone.steps[1:] if s.verify_seconds > 0]
        if not own or not base:
            return False
        slower = statistics.median(
            (s.verify_seconds + s.draft_seconds)
            / (self.target(s.width) + self.draft * len(s.drafted))
            for s in own
        )
        ratio = slower * self.unit / statistics.median(base)
        return not 1 / BUSY <= ratio <= BUSY


def at_the_pace(lane: Recording) -> dict[str, PassCosts]:
    """Pass costs measured before a run, by backend, scaled to how fast the run's own passes were.

    Those whose measurements differ too much (``BUSY``) are left out.
    """
    own, steps = PassCosts.of(lane.run), lane.steps[1:]
    ratios = [s.verify_seconds / own.target(s.width) for s in steps] if own else []
    pace = statistics.median(ratios) if ratios and min(ratios) > 0 else 1.0
    return {
        prices.backend: PassCosts(
            tuple((n, s * pace) for n, s in PassCosts.of_record(prices).passes), 0.0
        )
        for prices in lane.run.prices
        if (prices.spread or 1.0) <= BUSY
    }


def disagreement(rounds: Sequence[PassCosts]) -> float | None:
    """By what factor rounds differ; None with fewer than two.

    The larger of two spreads: of passes of one width (median over widths), and of a step with four
    guesses in units of plain decoding.
    """
    if len(rounds) < 2:
        return None
    steps = [(r.target(5) + 4 * r.draft) / r.unit for r in rounds]
    widths = zip(*([s for _, s in r.passes] for r in rounds), strict=True)
    return max(spread(steps), statistics.median(map(spread, widths)))


class Passes:
    """What target passes cost in a run, by width, estimated from the run's own passes.

    A width that the run has made often enough costs the median of those passes; a wider pass never
    costs less. Other widths follow the shape of the costs measured ``before`` the run, scaled to
    the run's level, so that a wrong measurement before the run changes nothing that the run itself
    has measured.

    ``floor``: passes of plain decoding in the same race; no pass costs less. ``recent``: how many
    passes of a width are kept; None: all. ``noise``: a median that differs from the shape by less
    than this factor does not replace it: one more token costs less than the noise.
    """

    _ENOUGH = 2  # a single pass may have been disturbed

    def __init__(
        self,
        before: PassCosts,
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
        """Adds a pass of the run: its width and what it took."""
        if seconds > 0:
            self._seen.setdefault(tokens, deque(maxlen=self._recent)).append(seconds)
            self._levels.append(seconds / self._before.target(tokens))
            self._anchors = None

    def made(self, tokens: int) -> bool:
        """Whether the run has made passes of this width often enough to know their cost."""
        return len(self._seen.get(tokens, ())) >= self._ENOUGH

    @property
    def level(self) -> float:
        """What the run's passes take over what they were measured to take (1.0: the same)."""
        return statistics.median(self._levels) if self._levels else 1.0

    def __call__(self, tokens: int) -> float:
        """Seconds of a pass over that many tokens."""
        if self._anchors is None:
            self._fit()
        if tokens not in self._known:
            self._known[tokens] = self._estimate(tokens)
        return self._known[tokens]

    def _fit(self) -> None:
        widths = sorted(filter(self.made, self._seen))
        groups = [self._seen[width] for width in widths]
        levels = monotone(([self._floor] if self._floor else []) + groups)
        self._least = levels.pop(0) if self._floor else 0.0
        self._level = self.level
        expected = [self._level * self._before.target(width) for width in widths]
        levels = [
            usual if 1 / self._noise < seconds / usual < self._noise else seconds
            for seconds, usual in zip(levels, expected, strict=True)
        ]
        self._anchors = [*zip(widths, accumulate(levels, max), strict=True)]
        self._known = {}

    def _estimate(self, tokens: int) -> float:
        """For a width between or beyond those that the run made, by the shape before the run."""
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
