"""ZeroGPU: a Space that has a GPU only during a call, which runs in a forked process.

What it asks of the page: models are loaded before the page starts, in the main thread, where alone
its package ``spaces`` stands in for CUDA; a race is one call, so that all its lanes run on the same
GPU; a call says how long it takes; what comes back is pickled, so it holds no tensors, and an error
comes back as its class's name alone.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ..errors import InputError
from ..traces.records import Event, Step

F = TypeVar("F", bound=Callable[..., Any])

ON = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
"""Whether this is ZeroGPU, read as ``spaces`` does. That package may be installed elsewhere too."""

START = 5
"""Seconds of a lease that pass before a race begins: a process, CUDA, the weights on the GPU."""
_AROUND = 10
"""Seconds for warm-ups and for what a race measures before and after its lanes."""
_SLOW = 0.06
"""Seconds a token before any race was measured, with the margin: a guess on the safe side."""
_MARGIN = 1.5

_ABORTED = (
    "ZeroGPU ended the run before it was done, most often because it took longer than it had asked "
    "for, and what was written stays: run again with fewer new tokens or guessers."
)


def on_gpu(seconds: Callable[..., float]) -> Callable[[F], F]:
    """Makes a generator function one call for the GPU, which takes ``seconds`` of the same
    arguments. Elsewhere it stays as it is."""

    def decorate(function: F) -> F:
        if not ON:
            return function
        import spaces  # pyright: ignore[reportMissingImports]

        return spaces.GPU(duration=seconds)(function)

    return decorate


class Leases:
    """How long to ask for the GPU: lanes x tokens x what a token took of late in a slowest lane."""

    def __init__(self) -> None:
        self._paces: deque[float] = deque(maxlen=20)

    def seconds(self, lanes: int, tokens: int, most: float = 0) -> int:
        """For a race of so many lanes of so many new tokens. ``most``: 0 without a limit."""
        pace = max(self._paces, default=_SLOW / _MARGIN)
        needed = math.ceil(START + _AROUND + _MARGIN * lanes * tokens * pace)
        return max(START + 1, math.floor(min(needed, most or needed)))

    def watch(self, events: Iterator[tuple[int, Event]]) -> Iterator[tuple[int, Event]]:
        """Hands on a race's events, and learns from them what a token takes."""
        clocks: dict[int, float] = {}
        written: defaultdict[int, int] = defaultdict(int)
        for lane, event in events:
            if isinstance(event, Step):
                clocks[lane] = event.elapsed
                written[lane] += len(event.committed)
            yield lane, event
        if clocks:
            self._paces.append(max(clocks[lane] / max(1, written[lane]) for lane in clocks))


def carry(events: Iterator[tuple[int, Event]]) -> Iterator[tuple[int, Event | InputError]]:
    """``events``, in the process that has the GPU. A refusal crosses the border as a value."""
    try:
        yield from events
    except InputError as e:
        yield -1, InputError(*e.args)  # of its subclasses, some cannot be pickled


def receive(events: Iterator[tuple[int, Event | InputError]]) -> Iterator[tuple[int, Event]]:
    """What ``carry`` sent, in the page's process. Raises InputError where that process raised it,
    and for what ZeroGPU itself refuses or ends."""
    try:
        for lane, event in events:
            if isinstance(event, InputError):
                raise event
            yield lane, event
    except Exception as e:
        if said := _said(e):
            raise InputError(said) from e
        raise


def _said(error: Exception) -> str:
    """A sentence on an error of the package ``spaces``, which are gradio's; empty for any other."""
    title = str(getattr(error, "title", ""))
    words = " ".join(str(getattr(error, "message", "")).split()).rstrip(".")
    if not title.startswith("ZeroGPU"):
        return ""
    if "aborted" in words:
        return _ABORTED
    if title == "ZeroGPU worker error":
        return f"The run failed on the GPU ({words}): try a shorter one."
    return f"ZeroGPU gave no GPU for the run: {words}."
