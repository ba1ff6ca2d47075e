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
from .prices import Costs
from .protocols import Proposal

if TYPE_CHECKING:
    from .pair import Pair

_WIDTHS = (1, 2, 3, 5, 7, 9, 13, 17, 33)
_FEW = (1, 3, 5, 9, 17)
_CONTEXT = 100  # tokens before the passes that are timed
_PROMPT = 8  # of them, where an encoder reads the prompt
_SECONDS, _ROUNDS = 0.6, 9  # how long to measure, and how often at most
_LONGEST = 0.5  # seconds of a pass that is worth a rough look


def measure(
    pair: Pair, backend: str, numerics: str, *, drafts: bool, roughly: bool = False
) -> Costs:
    """Times steps as they come in a run: a guess of the draft's, then the target's pass over it.

    Medians, widths interleaved; takes about a second. Without ``drafts`` nothing runs between the
    target's passes, which then find its weights in the processor's caches. ``roughly``: fewer
    widths in less time, and none whose pass takes longer than ``_LONGEST``; ``passes`` is empty
    where all do.
    """
    greedy = choice.Greedy(choice.Processors())
    pair = pair.for_prompt([3 + i % 7 for i in range(_PROMPT)])
    context = [3 + i % 7 for i in range(min(_CONTEXT, pair.context_length // 2))]
    check = verify.build(backend, pair.target, numerics)
    draft = Lane(pair.guesser) if drafts else None
    widest = min(pair.context_length - len(context), len(context)) + 1
    widths = [w for w in (_FEW if roughly else _WIDTHS) if w <= widest]
    passes: dict[int, list[float]] = {width: [] for width in widths}
    guesses: list[float] = []
    clock = Clock(pair.device)

    def timed(job: Callable[[], object]) -> float:
        clock.resume()
        job()
        return clock.split()

    began, rounds = time.perf_counter(), -1
    most = _SECONDS / 2 if roughly else _SECONDS
    while rounds < 1 or (rounds < _ROUNDS and time.perf_counter() - began < most):
        rounds += 1
        for width in [*passes]:
            checking = partial(check, context, Proposal(context[: width - 1]))
            if draft and width > 1:
                guessing = partial(draft.write, context, width - 1, greedy)
                guesses.append(timed(guessing) / (width - 1))
            # Plain decoding follows on itself: as often as makes it so here.
            often = 1 if width > 1 else 2 if roughly else 5
            times = [timed(checking) for _ in range(often)]
            if rounds:  # the first round only warms up
                passes[width].append(statistics.median(times))
            elif roughly and min(times) > _LONGEST:
                passes = {w: [] for w in passes if w < width}
                break
            elif roughly and time.perf_counter() - began > most:
                passes = {w: [] for w in passes if w <= width}
                break
    medians = tuple((width, statistics.median(times)) for width, times in passes.items())
    return Costs(medians, statistics.median(guesses) if guesses else 0.0, len(context))
