"""What passes cost on this machine, measured; ``prices`` reckons with it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from . import choice, verify
from .clock import Clock
from .lane import Lane
from .prices import BUSY, Costs, disagreement
from .protocols import Proposal

if TYPE_CHECKING:
    from .pair import Pair

_WIDTHS = (1, 2, 3, 5, 7, 9, 13, 17, 33)
_FEW = (1, 3, 5, 9, 17)
_CONTEXT = 100  # tokens before the passes that are timed
_PROMPT = 8  # of them, where an encoder reads the prompt
_SECONDS, _LEAST, _ROUNDS = 0.6, 4, 9  # how long to measure, how often at least and at most
_PATIENCE = 3  # times as long while rounds differ: a machine may become quiet
_SLOWEST = 6.0  # seconds, after which fewer rounds than ``_LEAST`` have to do
_LONGEST = 0.5  # seconds of a pass that is worth a rough look


def measure(
    pair: Pair, backend: str, numerics: str, *, drafts: bool, roughly: bool = False
) -> Costs:
    """Times steps as they come in a run: a guess of the draft's, then the target's pass over it;
    and plain decoding's passes in turn with them.

    Every round times all widths, so that a slow moment hits all alike. Medians over rounds of about
    a second together, and of up to two where they differ too much. Without ``drafts`` nothing runs
    between the target's passes, which then find its weights in the processor's caches.
    ``roughly``: fewer widths in less time, and none whose pass takes longer than ``_LONGEST``;
    ``passes`` is empty where all do.
    """
    timer = _Timer(pair, backend, numerics, drafts, roughly)
    began, most = time.perf_counter(), _SECONDS / 2 if roughly else _SECONDS
    for width in [*timer.passes]:  # warms up
        shortest, took = timer.warm_up(width), time.perf_counter() - began
        if roughly and (shortest > _LONGEST or took > most):
            slow = shortest > _LONGEST
            timer.passes = {w: [] for w in timer.passes if w < width + (not slow)}
            break
    rounds: list[Costs] = []
    while timer.passes and _goes_on(rounds, time.perf_counter() - began, most, roughly):
        rounds.append(timer.round())
    return Costs.fit(timer.passes, timer.guesses, timer.context, timer.alone, tuple(rounds))


def _goes_on(rounds: list[Costs], took: float, most: float, roughly: bool) -> bool:
    if not rounds or (took < most and len(rounds) < _ROUNDS):
        return True
    if roughly or len(rounds) < _LEAST:
        return not roughly and took < _SLOWEST
    return took < _PATIENCE * most and (disagreement(rounds) or 1.0) > BUSY


class _Timer:
    """The samples: of ``passes`` by width and of ``alone`` one a round, and of all ``guesses``."""

    def __init__(
        self, pair: Pair, backend: str, numerics: str, drafts: bool, roughly: bool
    ) -> None:
        self._greedy = choice.build(None, pair.device, pair.vocabulary)
        pair = pair.for_prompt([3 + i % 7 for i in range(_PROMPT)])
        length = min(_CONTEXT, pair.context_length // 2)
        self._text = [3 + i % 7 for i in range(length)]
        self._check = verify.build(backend, pair.target, numerics)
        self._plain = self._check
        if (backend, numerics) != ("single_kv", "fast") and not roughly:
            self._plain = verify.build("single_kv", pair.target, "fast")
        self._draft = Lane(pair.draft) if drafts else None
        self._clock = Clock(pair.device)
        # Plain decoding follows on itself: as often as makes it so here.
        self._often = 2 if roughly else 5
        widest = min(pair.context_length - length, length) + 1
        self.context = length
        self.passes: dict[int, list[float]] = {
            w: [] for w in (_FEW if roughly else _WIDTHS) if w <= widest
        }
        self.alone: list[float] = []
        self.guesses: list[float] = []

    def warm_up(self, width: int) -> float:
        """Seconds of a pass so wide, off the record."""
        self._guess(width - 1)
        if width == 1 and self._plain is not self._check:
            self._pass(self._plain, 1)
        return min(self._pass(self._check, width) for _ in range(self._often if width == 1 else 1))

    def round(self) -> Costs:
        """Times each width once, and what is found."""
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
        # As they are: rounds tell how far measuring can be trusted.
        passes = tuple((width, seconds) for width, (seconds,) in found.items())
        draft = statistics.median(guesses) if guesses else 0.0
        return Costs(passes, draft, self.context, alone[0])

    def _median(self, check: Callable[..., object]) -> float:
        return statistics.median(self._pass(check, 1) for _ in range(self._often))

    def _pass(self, check: Callable[..., object], width: int) -> float:
        return self._timed(partial(check, self._text, Proposal(self._text[: width - 1])))

    def _guess(self, count: int) -> list[float]:
        """Seconds a token, of so many that the draft writes; nothing without a draft."""
        if self._draft is None or not count:
            return []
        return [self._timed(partial(self._draft.write, self._text, count, self._greedy)) / count]

    def _timed(self, job: Callable[[], object]) -> float:
        self._clock.resume()
        job()
        return self._clock.split()
