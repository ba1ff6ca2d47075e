"""Times passes of a pair on this machine, and remembers the results for as long as the pair lives.

``traces.pass_costs`` has the arithmetic with them.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ..decoding import samplers, verify
from ..decoding.clock import Clock
from ..forward.cached_model import CachedModel
from ..protocols import Proposal
from ..settings.settings import BACKENDS
from ..traces.pass_costs import BUSY, PassCosts, disagreement
from ..traces.records import Prices, Recording

if TYPE_CHECKING:
    from ..models.pair import Pair

_WIDTHS = (1, 2, 3, 5, 7, 9, 13, 17, 33)
_FEW = (1, 3, 5, 9, 17)
"""Tokens of the passes that are timed; fewer of them for a rough measurement."""
_CONTEXT = 100  # tokens before the passes that are timed
_PROMPT = 8  # of them, the prompt's, where an encoder reads the prompt
_SECONDS, _LEAST, _ROUNDS = 0.6, 4, 9  # how long to measure; fewest and most rounds
_PATIENCE = 3  # times as long while rounds differ: the machine may become quiet
_SLOWEST = 6.0  # seconds after which fewer rounds than ``_LEAST`` are enough
_LONGEST = 0.5  # seconds: no rough measurement of passes that take longer

_DOUBTS = 3
"""How often the costs of one way to decode are measured again after a run contradicts them."""
Way = tuple[str, str, bool]
"""A way to decode: backend, numerics, and whether a draft's passes run between the target's."""
Look = Callable[[], object]
"""Called before every pass that is timed; an exception that it raises ends the measuring."""


@dataclass(slots=True)
class _Known:
    """What was measured of one pair: costs of ways to decode, rough costs of backends, and how
    often a run has contradicted the costs of a way."""

    costs: dict[Way, PassCosts] = field(default_factory=dict)
    rough: dict[str, PassCosts] = field(default_factory=dict)
    doubts: Counter[Way] = field(default_factory=Counter)


_KNOWN: WeakKeyDictionary[Any, WeakKeyDictionary[Any, _Known]] = WeakKeyDictionary()
"""By target and draft (the target itself where there is none); forgotten with the models."""


def _known(pair: Pair) -> _Known:
    of_target = _KNOWN.setdefault(pair.target, WeakKeyDictionary())
    return of_target.setdefault(pair.draft or pair.target, _Known())


def costs(
    pair: Pair,
    backend: str = "single_kv",
    numerics: str = "fast",
    *,
    drafts: bool = False,
    look: Look = bool,
) -> PassCosts:
    """What this pair's passes cost here, with a draft's passes between them or not (``drafts``).

    Measured at the first call, in a second or two, and again after a run that contradicts it
    (``doubt``). Raises what ``look`` raises.
    """
    key, known = (backend, numerics, drafts), _known(pair).costs
    if key not in known:
        known[key] = measure(pair, backend, numerics, drafts=drafts, look=look)
    return known[key]


def doubt(pair: Pair, lane: Recording, alone: Recording, *, drafts: bool) -> None:
    """Forgets the costs of a way to decode where its race with the target alone contradicts them.

    At most ``_DOUBTS`` times: some texts always cost other than the one that is measured on.
    """
    key, known = (lane.run.backend, lane.run.numerics, drafts), _known(pair)
    found = known.costs.get(key)
    if found and known.doubts[key] < _DOUBTS and found.contradicted(lane, alone):
        known.doubts[key] += 1
        del known.costs[key]


def measure_all(
    pair: Pair, backend: str = "single_kv", numerics: str = "fast", look: Look = bool
) -> None:
    """Measures plain decoding and this way to decode as ``costs`` does, other backends roughly.

    Takes three seconds on a small pair. A backend that this target cannot run, or that is slow, is
    left out. Raises what ``look`` raises.
    """
    if numerics == "strict":
        pair.require_strict()
    drafts, known = pair.draft is not None, _known(pair)
    costs(pair, look=look)
    costs(pair, backend, numerics, drafts=drafts, look=look)
    for other in BACKENDS:
        look()  # where one is tried, what it raises may be taken for the backend's
        if other in (backend, *known.rough) or (other, "fast", drafts) in known.costs:
            continue
        try:
            found = measure(pair, other, "fast", drafts=drafts, roughly=True, look=look)
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
            continue
        if found.passes:
            known.rough[other] = found


def prices(pair: Pair, backend: str, numerics: str, *, drafts: bool) -> tuple[Prices, ...]:
    """Records of what was measured so far, this way to decode first; measures nothing."""
    known = _known(pair)
    own = known.costs.get((backend, numerics, drafts))
    others = {name: known.rough.get(name) for name in BACKENDS if name != backend}
    for name in others:
        for key in ((name, "fast", not drafts), (name, "fast", drafts)):
            others[name] = known.costs.get(key) or others[name]
    found = {backend: own, **others}
    return tuple(c.prices(name, drafts=drafts) for name, c in found.items() if c)


def measure(
    pair: Pair,
    backend: str,
    numerics: str,
    *,
    drafts: bool,
    roughly: bool = False,
    look: Look = bool,
) -> PassCosts:
    """Times steps as in a run: the draft's guess, then the target's pass over it; and plain passes.

    Every round times all widths, so that a slow moment affects all of them. The results are medians
    over rounds that take about a second together, or up to two where they differ too much. Without
    ``drafts`` nothing runs between the target's passes, which then find its weights in the
    processor's caches. ``roughly``: fewer widths in less time, and none whose pass takes longer
    than ``_LONGEST``; ``passes`` is empty where all do. Raises what ``look`` raises.
    """
    timer = _Timer(pair, backend, numerics, drafts, roughly, look)
    began, most = time.perf_counter(), _SECONDS / 2 if roughly else _SECONDS
    for width in [*timer.passes]:  # warms up
        shortest, took = timer.warm_up(width), time.perf_counter() - began
        if roughly and (shortest > _LONGEST or took > most):
            slow = shortest > _LONGEST
            timer.passes = {w: [] for w in timer.passes if w < width + (not slow)}
            break
    rounds: list[PassCosts] = []
    while timer.passes and _another_round(rounds, time.perf_counter() - began, most, roughly):
        rounds.append(timer.round())
    return PassCosts.fit(timer.passes, timer.guesses, timer.context, timer.alone, tuple(rounds))


def _another_round(rounds: list[PassCosts], took: float, most: float, roughly: bool) -> bool:
    """Whether to measure on: ``took`` and ``most`` are seconds so far and seconds to spend."""
    if not rounds or (took < most and len(rounds) < _ROUNDS):
        return True
    if roughly or len(rounds) < _LEAST:
        return not roughly and took < _SLOWEST
    return took < _PATIENCE * most and (disagreement(rounds) or 1.0) > BUSY


class _Timer:
    """Takes the samples, in seconds.

    ``passes``: by width, one sample per round. ``alone``: one-token passes of plain decoding, one
    sample per round. ``guesses``: drafted tokens.
    """

    def __init__(
        self, pair: Pair, backend: str, numerics: str, drafts: bool, roughly: bool, look: Look
    ) -> None:
        self._look = look
        self._greedy = samplers.Greedy(samplers.Processors())
        pair = pair.for_prompt([3 + i % 7 for i in range(_PROMPT)])
        length = min(_CONTEXT, pair.context_length // 2)
        self._text = [3 + i % 7 for i in range(length)]
        self._check = verify.build(backend, pair.target, numerics)
        self._plain = self._check
        if (backend, numerics) != ("single_kv", "fast") and not roughly:
            self._plain = verify.build("single_kv", pair.target, "fast")
        self._draft = CachedModel(pair.guesser) if drafts else None
        self._clock = Clock(pair.device)
        # In plain decoding, one-token passes follow each other: so several, and their median.
        self._repeats = 2 if roughly else 5
        widest = min(pair.context_length - length, length) + 1
        self.context = length
        self.passes: dict[int, list[float]] = {
            w: [] for w in (_FEW if roughly else _WIDTHS) if w <= widest
        }
        self.alone: list[float] = []
        self.guesses: list[float] = []

    def warm_up(self, width: int) -> float:
        """Seconds of a pass of this width, which is not kept as a sample."""
        self._guess(width - 1)
        if width == 1 and self._plain is not self._check:
            self._pass(self._plain, 1)
        return min(
            self._pass(self._check, width) for _ in range(self._repeats if width == 1 else 1)
        )

    def round(self) -> PassCosts:
        """Times each width once, keeps the samples, and returns this round's costs."""
        found: dict[int, list[float]] = {}
        guesses: list[float] = []
        for width in self.passes:
            if width > 1:
                guesses += self._guess(width - 1)
            one = self._median if width == 1 else partial(self._pass, width=width)
            found[width] = [one(self._check)]
        own = self._plain is self._check
        alone = found[1] if own else [self._median(self._plain)]
        for width, seconds in found.items():
            self.passes[width] += seconds
        self.guesses += guesses
        self.alone += alone
        # Not fitted: how much rounds differ tells how far the measurement can be trusted.
        passes = tuple((width, seconds) for width, (seconds,) in found.items())
        draft = statistics.median(guesses) if guesses else 0.0
        return PassCosts(passes, draft, self.context, alone[0])

    def _median(self, check: Callable[..., object]) -> float:
        return statistics.median(self._pass(check, 1) for _ in range(self._repeats))

    def _pass(self, check: Callable[..., object], width: int) -> float:
        return self._timed(partial(check, self._text, Proposal(self._text[: width - 1])))

    def _guess(self, count: int) -> list[float]:
        """Has the draft write ``count`` tokens: seconds per token; empty without a draft."""
        if self._draft is None or not count:
            return []
        return [self._timed(partial(self._draft.write, self._text, count, self._greedy)) / count]

    def _timed(self, job: Callable[[], object]) -> float:
        self._look()
        self._clock.resume()
        job()
        return self._clock.split()
