"""A race while somebody watches: models and engine off the main thread, records in batches.

No gradio here. The engine never waits for a page: it runs in a thread of its own (on ZeroGPU, in a
process of its own) and puts its records into a queue.
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
from typing import TYPE_CHECKING

from .presets import ZERO_GPU
from .settings import Settings
from .shelf import Shelf
from .trace import Event

if TYPE_CHECKING:
    from .pair import Pair
    from .preflight import Preflight

_INTERVAL = 1 / 12
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


@on_gpu
def race(
    prompt: str, lanes: dict[str, Settings], flag: Flag, spec: str | None = None
) -> Iterator[tuple[int, Event]]:
    """The lanes, by name, and before them the target alone, which decodes in the fastest way there
    is; record by record. ``spec``: of their pair, as for ``Shelf.get``. Raises InputError."""
    from .race import Runner
    from .race import race as start

    pair = shelf().get(spec, flag)
    alone = next(iter(lanes.values())).alone()
    racing = {"Target alone": alone, **lanes}
    runners = [Runner(pair, prompt, s, name) for name, s in racing.items()]
    with shelf().machine:
        for runner in [] if ZERO_GPU else runners:
            runner.measure_costs()
        yield from start(runners, flag.is_set)


def preflight(settings: Settings, spec: str | None = None) -> Preflight:
    """What can be said before such a run. Raises InputError, as a run would."""
    from .preflight import preflight as prepare

    pair = shelf().get(spec)
    with shelf().machine:
        return prepare(pair, settings)


def batches(
    records: Iterator[tuple[int, Event]], flag: Flag, interval: float = _INTERVAL
) -> Iterator[list[tuple[int, Event]]]:
    """``records``, made in a thread, some at a time, about every ``interval`` seconds.

    What making them raises is raised here. A consumer that leaves early sets ``flag``.
    """
    made: queue.SimpleQueue = queue.SimpleQueue()

    def work() -> None:
        try:
            for item in records:
                made.put(item)
            made.put(_END)
        except Exception as e:
            made.put(e)

    context = contextvars.copy_context()  # a ZeroGPU call finds its visitor there
    threading.Thread(target=context.run, args=(work,), name="race", daemon=True).start()
    try:
        while True:
            batch, end = _drain(made)
            if batch:
                yield batch
            if isinstance(end, Exception):
                raise end
            if end:
                return
            time.sleep(interval)
    finally:
        flag.set()


def _drain(made: queue.SimpleQueue) -> tuple[list[tuple[int, Event]], object]:
    """What is there, waiting for the first; and what ended the race, if it has ended."""
    batch, item = [], made.get()
    while True:
        if item is _END or isinstance(item, Exception):
            return batch, item
        batch.append(item)
        try:
            item = made.get_nowait()
        except queue.Empty:
            return batch, None
