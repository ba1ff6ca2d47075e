"""The one thread of the page's process in which models compute.

Loading, timing and decoding are jobs that run here, one after the other. OpenMP keeps a pool of
threads for every thread that computes, and two pools on the same cores get in each other's way:
every pass was measured to take more than twice as long.

One core is left to whatever else runs: the browser, which most often is on the same machine; on a
Space, the page's server and its neighbours. OpenMP's threads wait for the slowest of them, and that
is the one whose core does other work. On two cores, with the page open, one thread was measured
to decode 1.2 to 1.4 times as fast as two; beside another busy process, up to 18 times as fast.
"""

from __future__ import annotations

import functools
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from ..models import container
from . import zero_gpu

T = TypeVar("T")

_NAME = "engine"


def run(job: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Runs ``job`` in its turn; returns its result. Never call it from within a job: it would wait
    for itself. On ZeroGPU it runs where it is called: races are elsewhere."""
    if zero_gpu.ON:
        return job(*args, **kwargs)
    return submit(job, *args, **kwargs).result()


def submit(job: Callable[..., T], *args: Any, **kwargs: Any) -> Future[T]:
    """Same as ``run``, without waiting."""
    future: Future[T] = Future()
    _jobs().put((future, functools.partial(job, *args, **kwargs)))
    return future


def is_alive() -> bool:
    """Whether the thread is there: False before the first job, and if it has ended."""
    return any(thread.name == _NAME for thread in threading.enumerate())


@functools.cache
def _jobs() -> queue.SimpleQueue:
    jobs: queue.SimpleQueue = queue.SimpleQueue()
    # A daemon: a race that goes on does not keep the program from ending.
    threading.Thread(target=_work, args=(jobs,), name=_NAME, daemon=True).start()
    return jobs


def _settle() -> None:
    """Sets torch to as many threads as the container has cores, less one. OMP_NUM_THREADS, where
    the user has set it, stays in force."""
    if not os.environ.get("OMP_NUM_THREADS"):
        import torch

        torch.set_num_threads(max(1, min(torch.get_num_threads(), container.cores()) - 1))


def _work(jobs: queue.SimpleQueue) -> None:
    _settle()
    while True:
        future, job = jobs.get()
        try:
            future.set_result(job())
        except BaseException as e:
            future.set_exception(e)
        del future, job  # they may hold a model, which would stay in memory until the next job
