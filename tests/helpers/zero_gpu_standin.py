"""A stand-in for the package ``spaces`` as it is on ZeroGPU: no GPU, but the same borders.

Each call is a forked process, in which the function runs in a thread; what goes in and comes out is
pickled; an error of its own comes out as its class's name alone; a call that asks for more seconds
than are left is refused, and one that takes longer than it asked for is killed.
"""

from __future__ import annotations

import functools
import math
import multiprocessing
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

_FORK = multiprocessing.get_context("fork")


class Spaces:
    """``left``: seconds that may be asked for. ``most``: values after which a call is killed, as if
    its time were up. ``asked``: the durations of all calls."""

    def __init__(self, left: float = 120, most: float = math.inf) -> None:
        self.left, self.most = left, most
        self.asked: list[float] = []

    def GPU(self, task: Any = None, *, duration: Any = 60) -> Any:
        if not callable(task):
            return functools.partial(self.GPU, duration=duration)

        @functools.wraps(task)
        def call(*args: Any) -> Iterator[Any]:
            seconds = duration(*args) if callable(duration) else duration
            self.asked.append(seconds)
            if seconds > self.left:
                words = f"({seconds}s requested vs. {self.left}s left). Try again in 0:20:00."
                raise _error("ZeroGPU quota exceeded", f"You have exceeded your quota {words} ")
            yield from _call(task, args, seconds, self.most)

        return call


def _call(
    task: Callable[..., Iterator[Any]], args: tuple[Any, ...], seconds: float, most: float
) -> Iterator[Any]:
    arguments, results = _FORK.SimpleQueue(), _FORK.SimpleQueue()
    process = _FORK.Process(target=_work, args=(task, arguments, results), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of forks where there are threads
        process.start()
    arguments.put(args)
    ends = time.monotonic() + seconds
    try:
        while results._reader.poll(max(0.0, ends - time.monotonic())):  # type: ignore[attr-defined]
            what, value = results.get()
            if what == "error":
                raise _error("ZeroGPU worker error", value)
            if what == "end":
                return
            yield value
            most -= 1
            if most <= 0:
                break
        raise _error("ZeroGPU worker error", "GPU task aborted")
    finally:
        process.kill()
        process.join()


def _work(task: Callable[..., Iterator[Any]], arguments: Any, results: Any) -> None:
    args = arguments.get()

    def iterate() -> None:
        try:
            for value in task(*args):
                results.put(("value", value))
            results.put(("end", None))
        except Exception as e:
            results.put(("error", type(e).__name__))

    thread = threading.Thread(target=iterate)
    thread.start()
    thread.join()


def _error(title: str, message: str) -> gr.Error:
    return gr.Error(message, title=title, print_exception=False)
