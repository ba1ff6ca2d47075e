"""The one thread of a page's process in which models compute.

OpenMP keeps a pool of threads for every thread that has something computed. Two such pools on as
many cores get in each other's way: every pass was measured to take more than twice as long. So
whoever loads, times or decodes has it done here, one after the other.

One core is left to the browser, which most often runs on the same machine: OpenMP's threads wait
for the slowest of them, and the one whose core draws a page is slow. On two cores, with the page
open, one thread was measured to decode 1.2 to 1.4 times as fast as two.
"""

from __future__ import annotations

import functools
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from . import container

T = TypeVar("T")


def run(job: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """``job``'s result, once it has had its turn. Not from within a job: it would wait."""
    return submit(job, *args, **kwargs).result()


def submit(job: Callable[..., T], *args: Any, **kwargs: Any) -> Future[T]:
    """Same, without waiting."""
    future: Future[T] = Future()
    _jobs().put((future, functools.partial(job, *args, **kwargs)))
    return future


@functools.cache
def _jobs() -> queue.SimpleQueue:
    jobs: queue.SimpleQueue = queue.SimpleQueue()
    # A daemon: whoever ends the program does not wait for a race.
    threading.Thread(target=_work, args=(jobs,), name="engine", daemon=True).start()
    return jobs


def _settle() -> None:
    """As many threads as a container allows, and one less where the browser is on this machine: not
    on a Space. Nothing against the user's own word."""
    if not os.environ.get("OMP_NUM_THREADS"):
        import torch

        most = min(torch.get_num_threads(), container.cores())
        torch.set_num_threads(max(1, most - ("SPACE_ID" not in os.environ)))


def _work(jobs: queue.SimpleQueue) -> None:
    _settle()
    while True:
        future, job = jobs.get()
        try:
            future.set_result(job())
        except BaseException as e:
            future.set_exception(e)
        del future, job  # what they hold may be a model
