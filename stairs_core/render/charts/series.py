"""The series of numbers behind the charts, thinned out and packed for sending.

While a run goes on its curves are sent again and again. So that only their ends need sending, the
points that are kept (every second, every fourth ... step) do not depend on what comes after them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from ...traces import metrics
from ...traces.records import Recording, Step

RUNNING, WHOLE = 60, 500
"""The most points of a curve: while the run goes on, and when it is over."""

Points = tuple[list[float], list[float]]


def packed(values: Sequence[float]) -> str:
    """Numbers with four digits, joined by commas: of a longer text only the new end is sent."""
    return ",".join(str(v) if isinstance(v, int) else f"{v:.4g}" for v in values)


def short(value: float | None) -> float | None:
    """``value`` with four digits, as ``packed`` sends it."""
    return value if value is None or isinstance(value, int) else float(f"{value:.4g}")


def stride(count: int, limit: int) -> int:
    """The smallest n = 1, 2, 4, ... for which every n-th of ``count`` points are ``limit`` at most.

    >>> stride(100, 60), stride(60, 60)
    (2, 1)
    """
    step = 1
    while -(-count // step) > limit:
        step *= 2
    return step


def thin(points: Points, running: bool) -> Points:
    """Every n-th point, and the last one, unless the run goes on."""
    xs, ys = points
    every = stride(len(xs), RUNNING if running else WHOLE - 1)
    left = list(range(0, len(xs), every))
    if not running and left and left[-1] != len(xs) - 1:
        left.append(len(xs) - 1)
    return [xs[i] for i in left], [ys[i] for i in left]


def means(values: Sequence[int], size: int, running: bool) -> list[float]:
    """Means of every ``size`` values in turn; of a shorter rest too, unless the run goes on."""
    end = len(values) // size * size if running else len(values)
    if size == 1:
        return list(values[:end])
    groups = [values[i : i + size] for i in range(0, end, size)]
    return [sum(group) / len(group) for group in groups]


def speedup_so_far(first: Sequence[Step], other: Sequence[Step]) -> tuple[list[int], list[float]]:
    """After every step of ``other``: its tokens, and ``first``'s seconds for as many over its own.

    Ends where ``first`` has not written as many yet, so the last value of a finished race with
    equal texts is its speedup.
    """
    first_seconds, first_tokens = metrics.progress(first)
    tokens, ratios = [], []
    for seconds, count in list(zip(*metrics.progress(other), strict=True))[1:]:
        i = bisect_left(first_tokens, count)
        if i < len(first_tokens) and seconds:
            tokens.append(count)
            ratios.append(first_seconds[i] / seconds)
    return tokens, ratios


def ideal_so_far(first: Recording, lane: Recording) -> dict[int, float]:
    """By the number of tokens so far: the ideal speedup there (``metrics.ideal_speedups``)."""
    ideal = metrics.ideal_speedups(lane, first)
    return dict(zip(metrics.progress(lane.steps)[1][1:], ideal, strict=True)) if ideal else {}


def by_position(steps: Sequence[Step]) -> list[tuple[int, int]]:
    """For every position of the draft, from the first: guesses accepted, guesses checked there.

    In a tree a position is a depth.
    """
    found: list[list[int]] = []
    for step in steps:
        guesses = [0]  # in each row
        for token, row in zip(step.drafted, step.rows, strict=False):
            position = guesses[row]
            guesses.append(position + 1)
            if token.status in ("accepted", "rejected"):
                while len(found) <= position:
                    found.append([0, 0])
                found[position][0] += token.status == "accepted"
                found[position][1] += 1
    return [(accepted, checked) for accepted, checked in found]
