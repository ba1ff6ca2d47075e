"""A race that is streamed: the engine runs off the main thread, and its events come in batches.

The engine runs in the thread of ``engine_thread`` (on ZeroGPU, in a process of its own) and puts
its events into a queue. While the page's next value is made from them, the engine waits between
two steps, and so does its clock: Python runs one thread at a time, so a step that ran meanwhile
would be measured too slow.
"""

from __future__ import annotations

import contextvars
import functools
import math
import queue
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..settings import limits
from ..settings.settings import Settings
from ..traces.records import Event
from . import engine_thread, presets, zero_gpu
from .loaded_pairs import LEFT, Shelf

if TYPE_CHECKING:
    from ..models.pair import Pair
    from ..traces.records import Preflight

_INTERVAL = 1 / 6
_LOOK = 0.1
_PATIENCE = 60.0
"""Seconds after which a consumer that neither goes on nor leaves counts as one that has left: else
the one thread that computes would wait for it as long as it stays."""
STOPPED = "The run was stopped before its turn came."
_END = object()
_leases = zero_gpu.Leases()
_turns: deque[Callable[[], bool]] = deque()
"""The races that go on, each a step further when it is called: only the engine's thread does it."""


@functools.cache
def shelf() -> Shelf:
    """The pairs of this process. Made at the first call, which begins to load the first pair."""
    return Shelf()


def models() -> Future[Pair]:
    """The first pair, which is loaded in a thread: the page is up before it."""
    return shelf().first


class Flag:
    """Tells a race to stop: when somebody asks for it, or when its time is up.

    ``seconds``: what it may take from ``begin`` on; 0 without a limit. A file and not an Event: on
    ZeroGPU the race is another process, which has its own copy of the flag and begins its time.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._ends = math.inf
        with tempfile.NamedTemporaryFile(prefix="stairs-run-", delete=False) as file:
            self._path = Path(file.name)

    def begin(self) -> None:
        if self.seconds:
            self._ends = time.monotonic() + self.seconds

    def set(self) -> None:
        self._path.unlink(missing_ok=True)

    @property
    def asked(self) -> bool:
        """Whether somebody asked for it; ``set`` at the end of a race counts, too."""
        return not self._path.exists()

    def is_set(self) -> bool:
        return self.asked or time.monotonic() > self._ends


def race(
    prompt: str, settings: dict[str, Settings], flag: Flag, spec: str | None = None
) -> Iterator[tuple[int, Event]]:
    """The events of a race, each with the number of its lane: lane 0 is the target alone, decoding
    in the fastest way there is; then a lane for each of ``settings``, by name.

    Waits for the pair: ``spec``, as for ``Shelf.get``. Raises InputError, for a race larger than
    the host allows too.
    """
    for one in settings.values():
        limits.current().check(prompt + one.system, one.max_new_tokens)
    if zero_gpu.ON:
        presets.resolve(spec or "")  # refuses any other pair than the first
        lanes, tokens = 1 + len(settings), max(s.max_new_tokens for s in settings.values())
        seconds = _leases.seconds(lanes, tokens, flag.seconds)
        flag.seconds = seconds - zero_gpu.START
        events = _race_on_gpu(prompt, settings, flag, seconds)
        return _leases.watch(zero_gpu.receive(events))
    return _race(shelf().get(spec, flag), prompt, settings, flag)


def lease(prompt: str, settings: dict[str, Settings], flag: Flag, seconds: float) -> float:
    """How long ``_race_on_gpu`` takes the GPU with the same arguments."""
    return seconds


@zero_gpu.on_gpu(lease)
def _race_on_gpu(
    prompt: str, settings: dict[str, Settings], flag: Flag, seconds: float
) -> Iterator[tuple[int, Event | InputError]]:
    yield from zero_gpu.carry(_race(models().result(), prompt, settings, flag))


def _race(
    pair: Pair, prompt: str, settings: dict[str, Settings], flag: Flag
) -> Iterator[tuple[int, Event]]:
    from ..measuring.race import race as start
    from ..measuring.runner import Runner

    alone = next(iter(settings.values())).alone()
    racing = {"Target alone": alone, **settings}
    flag.begin()
    runners = [Runner(pair, prompt, s, name) for name, s in racing.items()]
    for runner in [] if zero_gpu.ON else runners:  # on ZeroGPU it would be lost with the process
        if flag.asked:
            raise InputError(LEFT)
        runner.measure_costs()
    yield from start(runners, flag.is_set, match_drafts=True)


def preflight(settings: Settings, spec: str | None = None) -> Preflight:
    """What to expect of a run with these settings. Raises InputError, as the run would."""
    from ..measuring.preflight import preflight as prepare

    return engine_thread.run(prepare, shelf().get(spec), settings)


def batches(
    events: Iterator[tuple[int, Event]], flag: Flag, interval: float = _INTERVAL
) -> Iterator[list[tuple[int, Event]]]:
    """``events``, made in the engine's thread, in batches about every ``interval`` seconds. Several
    races take turns there, a step each.

    While the consumer works on a batch, no event is made. An exception raised in making them is
    raised here. A consumer that leaves early sets ``flag``. While the engine is busy with something
    else batches are empty, and whoever asks to stop then does not wait for it: InputError.
    """
    made: queue.SimpleQueue = queue.SimpleQueue()
    begun, resume, paused = threading.Event(), threading.Event(), threading.Event()
    resume.set()
    taken = threading.Lock()  # by the engine, at its first turn, or by a stop before it

    def turn() -> bool:
        """Makes one event; whether there may be more."""
        if not begun.is_set():
            if not taken.acquire(blocking=False):
                return False
            begun.set()
        try:
            item = next(events, _END)
        except Exception as e:
            item = e
        made.put(item)
        if over := item is _END or isinstance(item, Exception):
            paused.set()
        elif not resume.is_set():
            paused.set()
            if not resume.wait(_PATIENCE):
                flag.set()
        return not over

    context = contextvars.copy_context()  # a ZeroGPU call finds its visitor there
    _start(functools.partial(context.run, turn))
    try:
        while not begun.wait(_LOOK):
            if flag.asked and taken.acquire(blocking=False):
                raise InputError(STOPPED)
            yield []
        while True:
            first = made.get()
            resume.clear()
            paused.wait()  # for the end of the step under way, whose time is being measured too
            batch, end = _drain(made, first)
            if batch:
                yield batch
            paused.clear()
            resume.set()
            if isinstance(end, Exception):
                raise end
            if end:
                return
            time.sleep(interval)
    finally:
        taken.acquire(blocking=False)
        flag.set()
        resume.set()


def _start(turn: Callable[[], bool]) -> None:
    """Calls ``turn`` again and again while it returns True, by turns with other races."""
    if zero_gpu.ON:  # each race has a GPU of its own
        threading.Thread(target=_take_turns, args=(deque([turn]),), daemon=True).start()
    else:
        _turns.append(turn)
        engine_thread.submit(_take_turns, _turns)


def _take_turns(turns: deque[Callable[[], bool]]) -> None:
    while turns:
        turn = turns.popleft()
        if turn():
            turns.append(turn)
        del turn  # it holds a race, and that its models


def _drain(made: queue.SimpleQueue, item: Any) -> tuple[list[tuple[int, Event]], object]:
    """``item`` and what else is in the queue; and how the race ended (``_END``, or the exception),
    None if it goes on."""
    batch = []
    while True:
        if item is _END or isinstance(item, Exception):
            return batch, item
        batch.append(item)
        try:
            item = made.get_nowait()
        except queue.Empty:
            return batch, None
