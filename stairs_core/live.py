"""A race while somebody watches: models and engine off the main thread, records in batches.

No gradio here. The engine runs in ``worker``'s thread (on ZeroGPU, in a process of its own) and
puts its records into a queue. While a page is made and sent from them it stands still between two
steps, where its clock does too: Python runs one thread at a time, and a step would pay for both.
"""

from __future__ import annotations

import contextvars
import functools
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import worker
from .presets import ZERO_GPU
from .settings import Settings
from .shelf import Shelf
from .trace import Event

if TYPE_CHECKING:
    from .pair import Pair
    from .preflight import Preflight

_INTERVAL = 1 / 6
_END = object()


@functools.cache
def shelf() -> Shelf:
    """The pairs of this process. Made at the first call, which begins to load the first pair."""
    return Shelf()


def models() -> Future[Pair]:
    """The first pair, loaded in a thread, so that a page is up before it."""
    return shelf().first


class Flag:
    """Asks a race to stop. A file and not an Event: on ZeroGPU the race is another process."""

    def __init__(self) -> None:
        with tempfile.NamedTemporaryFile(prefix="stairs-run-", delete=False) as file:
            self._path = Path(file.name)

    def set(self) -> None:
        self._path.unlink(missing_ok=True)

    def is_set(self) -> bool:
        return not self._path.exists()


def on_gpu(function: Callable) -> Callable:
    """On ZeroGPU a whole race is one call for the GPU; anywhere else, the function itself."""
    if not ZERO_GPU:
        return function
    import spaces  # pyright: ignore[reportMissingImports]

    return spaces.GPU(function)


def race(
    prompt: str, lanes: dict[str, Settings], flag: Flag, spec: str | None = None
) -> Iterator[tuple[int, Event]]:
    """The lanes, by name, and before them the target alone, which decodes in the fastest way there
    is; record by record. Waits for their pair: ``spec``, as for ``Shelf.get``. Raises InputError.
    """
    if ZERO_GPU:
        return _race_on_gpu(prompt, lanes, flag)
    return _race(shelf().get(spec, flag), prompt, lanes, flag)


@on_gpu
def _race_on_gpu(
    prompt: str, lanes: dict[str, Settings], flag: Flag
) -> Iterator[tuple[int, Event]]:
    yield from _race(models().result(), prompt, lanes, flag)


def _race(
    pair: Pair, prompt: str, lanes: dict[str, Settings], flag: Flag
) -> Iterator[tuple[int, Event]]:
    from .race import Runner
    from .race import race as start

    alone = next(iter(lanes.values())).alone()
    racing = {"Target alone": alone, **lanes}
    runners = [Runner(pair, prompt, s, name) for name, s in racing.items()]
    for runner in [] if ZERO_GPU else runners:
        runner.measure_costs()
    yield from start(runners, flag.is_set)


def preflight(settings: Settings, spec: str | None = None) -> Preflight:
    """What can be said before such a run. Raises InputError, as a run would."""
    from .preflight import preflight as prepare

    return worker.run(prepare, shelf().get(spec), settings)


def batches(
    records: Iterator[tuple[int, Event]], flag: Flag, interval: float = _INTERVAL
) -> Iterator[list[tuple[int, Event]]]:
    """``records``, made by ``worker``, some at a time, about every ``interval`` seconds.

    Nothing is made while the consumer has one of them in hand. What making them raises is raised
    here. A consumer that leaves early sets ``flag``.
    """
    made: queue.SimpleQueue = queue.SimpleQueue()
    go_on, still = threading.Event(), threading.Event()
    go_on.set()

    def work() -> None:
        try:
            for item in records:
                made.put(item)
                if not go_on.is_set():
                    still.set()
                    go_on.wait()
            made.put(_END)
        except Exception as e:
            made.put(e)
        finally:
            still.set()

    context = contextvars.copy_context()  # a ZeroGPU call finds its visitor there
    worker.submit(context.run, work)
    try:
        while True:
            first = made.get()
            go_on.clear()
            still.wait()  # for the step under way, which would pay like any other
            batch, end = _drain(made, first)
            if batch:
                yield batch
            still.clear()
            go_on.set()
            if isinstance(end, Exception):
                raise end
            if end:
                return
            time.sleep(interval)
    finally:
        flag.set()
        go_on.set()


def _drain(made: queue.SimpleQueue, item: Any) -> tuple[list[tuple[int, Event]], object]:
    """``item`` and what is there behind it; and what ended the race, if it has ended."""
    batch = []
    while True:
        if item is _END or isinstance(item, Exception):
            return batch, item
        batch.append(item)
        try:
            item = made.get_nowait()
        except queue.Empty:
            return batch, None
