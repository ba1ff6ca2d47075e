"""The numbers behind the charts, from recordings. Imports neither torch nor gradio.

While a run goes on its curves are sent again and again, so what is sent of them only grows: every
second, fourth … step stays, whatever comes after it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from .. import metrics
from ..trace import Recording, Step

RUNNING, WHOLE = 60, 500
"""At most so many points of a curve: while the run goes on, and when it is over."""

Points = tuple[list[float], list[float]]


def packed(values: Sequence[float]) -> str:
    """Numbers as they are sent, to four digits, joined by commas: a text that grows is sent by its
    end alone."""
    return ",".join(str(v) if isinstance(v, int) else f"{v:.4g}" for v in values)


def short(value: float | None) -> float | None:
    """To the four digits that are sent."""
    return value if value is None or isinstance(value, int) else float(f"{value:.4g}")


def stride(count: int, limit: int) -> int:
    """The smallest power of two that leaves ``limit`` of ``count`` points at most."""
    step = 1
    while -(-count // step) > limit:
        step *= 2
    return step


def thin(points: Points, running: bool) -> Points:
    """Evenly fewer of them. The last one stays, unless more are to come."""
    xs, ys = points
    every = stride(len(xs), RUNNING if running else WHOLE - 1)
    left = list(range(0, len(xs), every))
    if not running and left and left[-1] != len(xs) - 1:
        left.append(len(xs) - 1)
    return [xs[i] for i in left], [ys[i] for i in left]


def means(values: Sequence[int], size: int, running: bool) -> list[float]:
    """Means of ``size`` values in turn; of the rest too, unless more are to come."""
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
    """By the tokens written so far: the speedup of the lane's own steps if nothing cost anything
    but their passes. Empty where that cannot be said."""
    ideal = metrics.ideal_speedups(lane, first)
    return dict(zip(metrics.progress(lane.steps)[1][1:], ideal, strict=True)) if ideal else {}


def by_position(steps: Sequence[Step]) -> list[tuple[int, int]]:
    """For every position of the draft, from the first: guesses accepted there, and checked there.
    In a tree a position is a depth."""
    found: list[list[int]] = []
    for step in steps:
        depths: list[int] = []
        for i, token in enumerate(step.drafted):
            parent = i - 1 if step.parents is None else step.parents[i]
            depths.append(depths[parent] + 1 if parent >= 0 else 0)
            if token.status in ("accepted", "rejected"):
                while len(found) <= depths[i]:
                    found.append([0, 0])
                found[depths[i]][0] += token.status == "accepted"
                found[depths[i]][1] += 1
    return [(accepted, checked) for accepted, checked in found]
