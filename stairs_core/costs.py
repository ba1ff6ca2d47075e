"""What passes cost on this machine: the v and c of the expected speedup (design, section 6)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from .trace import Step

if TYPE_CHECKING:
    from .models import Pair

_WIDTHS = (1, 2, 3, 5, 7, 9, 13, 17, 33)
_CONTEXT = 100  # tokens before the passes that are timed
_DRAFTED = 4
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


def measure(pair: Pair, backend: str = "single_kv", numerics: str = "fast") -> Costs:
    """Times passes of both models, interleaved; medians. Takes about a second."""
    from . import verify
    from .lane import Lane

    check = verify.build(backend, pair.target, numerics)
    context = [3 + i % 7 for i in range(min(_CONTEXT, pair.context_length // 2))]
    room = min(pair.context_length - len(context), len(context)) + 1
    jobs: dict[int, Callable[[], object]] = {
        width: lambda width=width: check(context, context[: width - 1])
        for width in _WIDTHS
        if width <= room
    }
    if pair.draft is not None:
        draft = Lane(pair.draft)
        jobs[0] = lambda: (draft.logits(context, 1), draft.greedy(context, _DRAFTED))
    seconds = {width: [] for width in jobs}
    began, rounds = time.perf_counter(), -1
    while rounds < 1 or (rounds < _ROUNDS and time.perf_counter() - began < _SECONDS):
        rounds += 1
        for width, job in jobs.items():
            elapsed = _timed(job, pair.device)
            if rounds:  # the first round only warms up
                seconds[width].append(elapsed)
    medians = {width: statistics.median(times) for width, times in seconds.items()}
    drafted = medians.pop(0, 0.0) / (_DRAFTED + 1)
    return Costs(tuple(medians.items()), drafted)


def _timed(job: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    began = time.perf_counter()
    job()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
