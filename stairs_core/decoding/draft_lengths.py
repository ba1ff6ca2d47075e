"""Length policies: how many tokens to draft next. Each run has its own, which starts afresh."""

from __future__ import annotations

import statistics
from collections import Counter, deque
from collections.abc import Iterator
from itertools import accumulate

from ..protocols import LengthPolicy, Outcome
from ..settings.methods import Method
from ..settings.settings import K_RANGE
from ..traces.pass_costs import PassCosts, Passes


class Constant:
    """Always K."""

    keep_drafting = None

    def __init__(self, k: int) -> None:
        self._k = k

    def next(self) -> int:
        return self._k

    def observe(self, outcome: Outcome) -> None:
        """Nothing to learn."""


class Heuristic(Constant):
    """Two more after a full accept, one less after a mismatch: the rule of ``transformers``.

    Source: ``AssistedCandidateGenerator.update_candidate_strategy``, transformers 5.23.
    """

    def observe(self, outcome: Outcome) -> None:
        drafted = len(outcome.proposal.guesses)
        if drafted:
            more = self._k + 2 if outcome.accepted == drafted else self._k - 1
            self._k = min(max(1, more), K_RANGE[1])


class Confidence(Constant):
    """Stops after the first token that the draft gives less than ``threshold``, K at most.

    0.4 is what ``transformers`` uses (``assistant_confidence_threshold``).
    """

    def __init__(self, k: int, threshold: float = 0.4) -> None:
        super().__init__(k)
        self._threshold = threshold

    def keep_drafting(self, probability: float) -> bool:  # type: ignore[override]
        return probability >= self._threshold


class Cumulative(Constant):
    """Stops when the product of the draft's probabilities falls under a bound, K at most.

    After LLMCad (Xu et al., arXiv 2309.04255): the bound is halved when all was accepted and
    doubled when not, starting at 0.01. The constants of the paper could not be confirmed.
    """

    def __init__(self, k: int) -> None:
        super().__init__(k)
        self._bound, self._product = 0.01, 1.0

    def next(self) -> int:
        self._product = 1.0
        return self._k

    def keep_drafting(self, probability: float) -> bool:  # type: ignore[override]
        self._product *= probability
        return self._product >= self._bound

    def observe(self, outcome: Outcome) -> None:
        drafted = len(outcome.proposal.guesses)
        if drafted:
            changed = self._bound * (0.5 if outcome.accepted == drafted else 2.0)
            self._bound = min(0.9, max(1e-6, changed))


_ZERO = 0.1
"""How much it counts that no guess takes no time, in steps: it lies far from all others."""


class Line:
    """Seconds of drafting by the number of guesses: so much a step, and so much a guess.

    A step's own part is what a head reads of the text anew, or what a GPU waits for; it may be most
    of it. ``recent``: how many steps of a number are kept.
    """

    def __init__(self, recent: int) -> None:
        self._recent, self._seen = recent, dict[int, deque[float]]()
        self._medians = dict[int, float]()
        self._step, self._guess = 0.0, 0.0

    def __bool__(self) -> bool:
        return bool(self._seen)

    def __call__(self, drafted: int) -> float:
        return self._step + self._guess * drafted if drafted else 0.0

    def saw(self, drafted: int, seconds: float) -> None:
        """Adds what a step took to draft so many guesses, one or more."""
        times = self._seen.setdefault(drafted, deque(maxlen=self._recent))
        times.append(seconds)
        self._medians[drafted] = statistics.median_low(times)
        # Through the medians, and a little through zero: noise alone must not tell a step's part
        # from a guess's.
        points = [(0, 0.0, _ZERO), *((n, self._medians[n], len(t)) for n, t in self._seen.items())]
        count = sum(weight for _, _, weight in points)
        middle = sum(weight * n for n, _, weight in points) / count
        mean = sum(weight * took for _, took, weight in points) / count
        shared = sum(weight * (n - middle) * (took - mean) for n, took, weight in points)
        spread = sum(weight * (n - middle) ** 2 for n, _, weight in points)
        self._guess = min(max(0.0, shared / spread), mean / middle)
        self._step = mean - self._guess * middle


class Levels(Line):
    """The same for trees: their passes are as many as they are deep, whose numbers of guesses are
    not in a line. One that was not seen takes what the next larger one does."""

    def __call__(self, drafted: int) -> float:
        sizes = [n for n in self._medians if n >= drafted]
        if sizes and drafted:
            return self._medians[min(sizes)]
        return super().__call__(drafted)


class CostByPosition(Constant):
    """The K with the most expected tokens a second, 0 included: for drafters that copy.

    Expected tokens are 1 + p1 + p1 p2 + ..., with p_i the share of guesses at position i that were
    accepted when they were reached, in this run, older steps counting less. Seconds are those that
    this run's own passes took; for widths that it has not run yet, those of ``costs``, scaled to
    the run's speed (``Passes``); and what this run took to draft (``Line``), and outside of passes.
    While drafting does not pay, a guess or two are tried every ``_RETRY`` steps. And now and then
    one guess more than seems best is tried, where this run has not run that width: so costs that
    were measured wrongly are corrected.
    """

    _FADE, _PRIOR, _RETRY = 0.98, 6.0, 8
    # How many steps' seconds are remembered; and by what factor their median may differ from what
    # was measured before, scaled to the run's speed, and still count as noise.
    _RECENT, _NOISE = 15, 1.3
    _TIMES = Line

    def __init__(self, k: int, costs: PassCosts) -> None:
        super().__init__(k)
        self._passes = Passes(costs, recent=self._RECENT, noise=self._NOISE)
        self._drafting, self._before = self._TIMES(self._RECENT), costs.draft
        self._others: deque[float] = deque(maxlen=self._RECENT)
        self._other = 0.0
        self._checked, self._accepted = [0.0] * k, [0.0] * k
        self._since_draft, self._since_try, self._steps = 0, 0, 0

    def next(self) -> int:
        best = self._best()
        self._since_draft = 0 if best else self._since_draft + 1
        if not best and self._since_draft % self._RETRY:
            return 0
        least = max(best, 1)
        return least + self._tries(least + 1)

    def _tries(self, drafted: int) -> bool:
        """Whether to try so many guesses now although they do not seem to pay: this run has not
        measured that width yet, and nothing was tried for ``_RETRY`` steps."""
        if drafted > self._k or self._passes.made(drafted + 1) or self._since_try < self._RETRY:
            return False
        self._since_try = 0
        return True

    @property
    def _alpha(self) -> float:
        """The acceptance rate over all positions, near 0.8 while little is known."""
        return (sum(self._accepted) + 0.8 * self._PRIOR) / (sum(self._checked) + self._PRIOR)

    def _best(self) -> int:
        tokens, best, rate = 1.0, 0, 1.0 / self._seconds(0)
        for i, chance in enumerate(self._chances()):
            tokens += chance
            if tokens / self._seconds(i + 1) > rate:
                best, rate = i + 1, tokens / self._seconds(i + 1)
        return best

    def _chances(self) -> Iterator[float]:
        """For each guess of a step, the chance that it is accepted."""
        # The rate over all positions is the prior for a position that was seldom reached.
        alpha, reached = self._alpha, 1.0
        for checked, accepted in zip(self._checked, self._accepted, strict=True):
            reached *= (accepted + alpha * self._PRIOR) / (checked + self._PRIOR)
            yield reached

    def _seconds(self, drafted: int) -> float:
        """The expected seconds of a step with so many guesses."""
        return self._copied_seconds(drafted) + self._draft_seconds(drafted)

    def _copied_seconds(self, drafted: int) -> float:
        """The same without what it takes to draft."""
        return self._passes(drafted + 1) + self._other

    def _draft_seconds(self, drafted: int) -> float:
        if self._drafting:
            return self._drafting(drafted)
        # Until this run has timed its own: those measured before, at this run's speed.
        return self._before * self._passes.level * drafted

    def _time(self, outcome: Outcome) -> None:
        """Learns the step's seconds. The first step is left out: it reads the prompt."""
        drafted = len(outcome.proposal.guesses)
        self._steps += 1
        self._since_try += 1
        if self._steps == 1:
            return
        self._passes.saw(drafted + 1, outcome.verify_seconds)
        if self._steps > 2:
            self._others.append(outcome.other_seconds)
            self._other = statistics.median_low(self._others)
        if drafted and outcome.draft_seconds and self._by_draft(outcome):
            self._drafting.saw(drafted, outcome.draft_seconds)

    def _by_draft(self, outcome: Outcome) -> bool:
        """Whether this step's guesses took draft passes; False where they were copied instead."""
        return True

    def observe(self, outcome: Outcome) -> None:
        self._time(outcome)
        if outcome.proposal.guesses:
            self._checked = [self._FADE * n for n in self._checked]
            self._accepted = [self._FADE * n for n in self._accepted]
            self._count(outcome)

    def _count(self, outcome: Outcome) -> None:
        """Learns what was accepted."""
        # In a tree the last accepted token may have no child that could have been rejected.
        last = outcome.path[-1] if outcome.path else -1
        proposal = outcome.proposal
        reached = outcome.accepted + (last in proposal.follows[: len(proposal.guesses)])
        for i in range(min(reached, self._k)):
            self._checked[i] += 1
            self._accepted[i] += i < outcome.accepted


class CostByNode(CostByPosition):
    """The same for trees whose guesses come likeliest first: so the tree of fewer guesses is the
    beginning of the larger one.

    p1 p2 ... p_i is here the share of trees whose i-th guess was accepted.
    """

    _TIMES = Levels
    _LESS = 0.7
    """The chance of a guess over that of the one before, while little is known."""

    def _chances(self) -> Iterator[float]:
        chance = 1.0
        for checked, accepted in zip(self._checked, self._accepted, strict=True):
            prior = self._LESS * chance
            chance = (accepted + prior * self._PRIOR) / (checked + self._PRIOR)
            yield chance

    def _by_draft(self, outcome: Outcome) -> bool:
        return outcome.tree is not None

    def _count(self, outcome: Outcome) -> None:
        if outcome.tree is not None:  # else it was copied
            for i in range(min(len(outcome.proposal.guesses), self._k)):
                self._checked[i] += 1
                self._accepted[i] += i in outcome.path


class CostByProbability(CostByPosition):
    """Drafts while one more token is expected to earn its time: for drafters that report their
    confidence.

    One more token is worth the probability that it and all before it are accepted. It costs a draft
    pass and a wider target pass, in seconds times the run's tokens a second so far. The probability
    that a token is accepted is the share of accepted ones, in this run, among tokens to which the
    draft gave about the same probability.
    """

    _BINS, _TRUST = 4, 2.0

    def __init__(self, k: int, costs: PassCosts) -> None:
        super().__init__(k, costs)
        self._probabilities: list[float] = []
        self._chance = 1.0
        self._seen, self._held = [0.0] * self._BINS, [0.0] * self._BINS
        # Tokens written so far, and steps by their number of guesses: the rate is computed anew
        # from these whenever a cost is corrected.
        self._tokens, self._rate = 4.0, 1 / costs.target(1)
        self._drafted, self._copied = Counter({0: 4}), Counter[int]()

    def next(self) -> int:
        self._probabilities, self._chance = [], 1.0
        pays = self._pays()
        self._since_draft = 0 if pays else self._since_draft + 1
        return self._k if pays or self._since_draft % self._RETRY == 0 else 0

    def keep_drafting(self, probability: float) -> bool:  # type: ignore[override]
        self._probabilities.append(probability)
        i = self._bin(probability)
        held = self._held[i] + self._TRUST * probability
        self._chance *= held / (self._seen[i] + self._TRUST)
        return self._pays() or self._tries(len(self._probabilities) + 1)

    def _pays(self) -> bool:
        drafted, chance = len(self._probabilities), self._chance * self._alpha
        if drafted:
            price = self._seconds(drafted + 1) - self._seconds(drafted)
            return chance >= price * self._rate
        # The first guess has to pay what a step's drafting costs by itself, and others help it.
        gains = accumulate(self._alpha**n for n in range(1, self._k + 1))
        least = self._seconds(0)
        return any(
            gain >= (self._seconds(n) - least) * self._rate for n, gain in enumerate(gains, 1)
        )

    def _by_draft(self, outcome: Outcome) -> bool:
        return bool(self._probabilities)

    def _bin(self, probability: float) -> int:
        return min(int(probability * self._BINS), self._BINS - 1)

    def observe(self, outcome: Outcome) -> None:
        drafted = len(outcome.proposal.guesses)
        self._tokens += outcome.accepted + 1
        if drafted and not self._probabilities:  # copied: no draft pass
            self._time(outcome)
            self._copied[drafted] += 1
            self._update_rate()
            return
        super().observe(outcome)
        self._drafted[drafted] += 1
        self._update_rate()
        for i, probability in enumerate(self._probabilities[: outcome.accepted + 1]):
            self._seen[self._bin(probability)] += 1
            self._held[self._bin(probability)] += i < outcome.accepted

    def _update_rate(self) -> None:
        """Computes tokens a second so far, with the costs as known now."""
        drafted = sum(self._seconds(n) * count for n, count in self._drafted.items())
        copied = sum(self._copied_seconds(n) * count for n, count in self._copied.items())
        self._rate = self._tokens / (drafted + copied)


_SIMPLE = {
    "constant": Constant,
    "heuristic": Heuristic,
    "confidence": Confidence,
    "cumulative": Cumulative,
}


def build(
    name: str, k: int, costs: PassCosts | None = None, method: Method | None = None
) -> LengthPolicy:
    """The policy called ``name``, of ``settings.LENGTHS``. ``costs`` and ``method``, that of the
    drafter: needed for ``cost`` only."""
    if name != "cost":
        return _SIMPLE[name](k)
    assert costs is not None
    assert method is not None
    if method.reports_confidence:
        return CostByProbability(k, costs)
    return CostByNode(k, costs) if method.ranked else CostByPosition(k, costs)
