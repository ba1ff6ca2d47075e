"""What passes cost on this machine: the v and c of the expected speedup (design, section 6)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from . import choice, verify
from .clock import Clock
from .lane import Lane
from .protocols import Proposal
from .trace import Step

if TYPE_CHECKING:
    from .pair import Pair

_WIDTHS = (1, 2, 3, 5, 7, 9, 13, 17, 33)
_CONTEXT = 100  # tokens before the passes that are timed
_PROMPT = 8  # of them, where an encoder reads the prompt
_SECONDS, _ROUNDS = 0.6, 9  # how long to measure, and how often at most


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds. ``passes``: (tokens, seconds) of target passes over a cache, narrowest first.

    ``draft``: what one drafted token costs (0.0 for a drafter without a model).
    """

    passes: tuple[tuple[int, float], ...]
    draft: float

    def target(self, tokens: int) -> float:
        """A target pass over that many tokens, between the measured widths in proportion."""
        for (a, low), (b, high) in pairwise(self.passes):
            if tokens <= b:
                return low + (high - low) * (tokens - a) / (b - a)
        return self.passes[-1][1] * tokens / self.passes[-1][0]

    def ideal_speedup(self, steps: Sequence[Step], alone: Costs) -> float:
        """What these steps would gain if nothing cost anything but the passes themselves.

        S = tokens / (sum of v(N + 1) + c a guess), with every step's own N; guesses that no model
        made are free. ``alone``: the costs of plain decoding.
        """
        seconds = 0.0
        for step in steps:
            by_model = sum(t.source == "model" for t in step.drafted)
            seconds += self.target(len(step.tokens)) + self.draft * by_model
        return sum(len(s.committed) for s in steps) * alone.target(1) / seconds


def measure(pair: Pair, backend: str, numerics: str, *, drafts: bool) -> Costs:
    """Times steps as they come in a run: a guess of the draft's, then the target's pass over it.

    Medians, widths interleaved; takes about a second. Without ``drafts`` nothing runs between the
    target's passes, which then find its weights in the processor's caches.
    """
    greedy = choice.build(None, pair.device, pair.vocabulary)
    pair = pair.for_prompt([3 + i % 7 for i in range(_PROMPT)])
    context = [3 + i % 7 for i in range(min(_CONTEXT, pair.context_length // 2))]
    check = verify.build(backend, pair.target, numerics)
    draft = Lane(pair.draft) if drafts else None
    widths = [w for w in _WIDTHS if w <= min(pair.context_length - len(context), len(context)) + 1]
    passes: dict[int, list[float]] = {width: [] for width in widths}
    guesses: list[float] = []
    clock = Clock(pair.device)

    def timed(job: Callable[[], object]) -> float:
        clock.resume()
        job()
        return clock.split()

    began, rounds = time.perf_counter(), -1
    while rounds < 1 or (rounds < _ROUNDS and time.perf_counter() - began < _SECONDS):
        rounds += 1
        for width in widths:
            checking = partial(check, context, Proposal(context[: width - 1]))
            if draft and width > 1:
                guessing = partial(draft.write, context, width - 1, greedy)
                guesses.append(timed(guessing) / (width - 1))
            # Plain decoding follows on itself: as often as makes it so here.
            times = [timed(checking) for _ in range(5 if width == 1 else 1)]
            if rounds:  # the first round only warms up
                passes[width].append(statistics.median(times))
    medians = tuple((width, statistics.median(times)) for width, times in passes.items())
    return Costs(medians, statistics.median(guesses) if guesses else 0.0)
