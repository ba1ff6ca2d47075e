"""The loaded pairs of a page: the first one for good, and beside it the latest that was asked for.

One is loaded at a time, in a thread. All who ask for the same wait for the same loading, which goes
on while one of them still waits. What fails, or is stopped, leaves the others as they are.
"""

from __future__ import annotations

import gc
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from . import presets, worker
from .errors import InputError
from .hub import Remote, Say

if TYPE_CHECKING:
    from .pair import Pair
    from .room import Bytes

WAITING = "Waiting for another pair to be loaded …"
STARTING = "Looking for the models …"
STOPPED = (
    "Loading was stopped, and the pair in use has not changed: files that came whole stay in the "
    "hub's cache for the next time."
)
LEFT = "The run was stopped before its models were ready."
_LOOK = 0.2


class Asker(Protocol):
    """Somebody who waits: ``live.Flag``, or an Event."""

    def is_set(self) -> bool: ...
    def set(self) -> None: ...


class Loading:
    """One pair on its way. ``words``: how far it is."""

    def __init__(self, spec: str) -> None:
        self.spec, self.words = spec, WAITING
        self.askers: list[Asker] = []
        self.pair: Future[Pair] = Future()

    @property
    def wanted(self) -> bool:
        return not all(asker.is_set() for asker in self.askers)


class Shelf:
    """``load``: makes a pair of a spec; see ``load`` below for what it is handed."""

    def __init__(self, load: Callable[[str, Say, MakeRoom], Pair] | None = None) -> None:
        self._load = load or self._load_priced
        self._lock = threading.Lock()
        self._pairs: dict[str, Pair] = {}
        self._under_way: dict[str, Loading] = {}
        self._thread = ThreadPoolExecutor(1, "load")
        self.first = self._ask(presets.first(), threading.Event()).pair

    def get(self, asked: str | None = None, flag: Asker | None = None) -> Pair:
        """The pair of a spec (None: the first), loaded again if it has been dropped.

        Raises InputError where it cannot be had, is not allowed here, or ``flag`` is set first.
        """
        flag = flag or threading.Event()
        loading = self._ask(presets.resolve(asked or ""), flag)
        for _ in self._follow(loading, flag, LEFT):
            pass
        return loading.pair.result()

    def loading(self, asked: str, flag: Asker) -> Iterator[str]:
        """Loads a pair, unless it is there; yields sentences on how far it is, as they change.

        Ends when it is there. Raises InputError, one sentence, where it cannot be had, is not
        allowed here, or ``flag`` is set. A consumer that leaves early sets ``flag``.
        """
        try:
            yield from self._follow(self._ask(presets.resolve(asked), flag), flag, STOPPED)
        finally:
            flag.set()

    def _ask(self, spec: str, flag: Asker) -> Loading:
        with self._lock:
            if loading := self._under_way.get(spec):
                loading.askers.append(flag)
                return loading
            loading = Loading(spec)
            loading.askers.append(flag)
            if spec in self._pairs:
                loading.pair.set_result(self._pairs[spec])
                return loading
            self._under_way[spec] = loading
        self._thread.submit(self._work, loading)
        return loading

    def _follow(self, loading: Loading, flag: Asker, stopped: str) -> Iterator[str]:
        said = ""
        while not loading.pair.done():
            time.sleep(_LOOK)
            if flag.is_set():
                raise InputError(stopped)
            if loading.words != said:
                said = loading.words
                yield said
        loading.pair.result()

    def _work(self, loading: Loading) -> None:
        """In the thread: one pair after the other."""
        try:
            pair = self._make(loading)
        except BaseException as e:
            _forget(e)
            with self._lock:
                if self._under_way.get(loading.spec) is loading:
                    del self._under_way[loading.spec]
            loading.pair.set_exception(e)
        else:
            with self._lock:
                kept = self._pairs if loading.spec == presets.first() else self._first()
                self._pairs = {**kept, loading.spec: pair}
                del self._under_way[loading.spec]
            loading.pair.set_result(pair)
        _collect()

    def _make(self, loading: Loading) -> Pair:
        def say(words: str) -> None:
            with self._lock:
                if not loading.wanted:
                    # Who asks for it from now on waits for a new loading of it.
                    self._under_way.pop(loading.spec, None)
                    raise InputError(STOPPED)
            loading.words = words

        def make_room(needs: Bytes, now: bool) -> None:
            self._make_room(loading.spec, needs, now)

        say(STARTING)
        pair = self._load(loading.spec, say, make_room)
        say("Ready.")
        return pair

    def _load_priced(self, spec: str, say: Say, make_room: MakeRoom) -> Pair:
        """Its passes tried and timed: what the menus, the card and the charts reckon with."""
        pair = load(spec, say, make_room)
        if not presets.ZERO_GPU:  # there is no GPU there but during a race
            say("Measuring passes …")
            worker.run(pair.try_target)
            worker.run(pair.measure_prices)
        return pair

    def _first(self) -> dict[str, Pair]:
        return {spec: pair for spec, pair in self._pairs.items() if spec == presets.first()}

    def _make_room(self, spec: str, needs: Bytes, now: bool) -> None:
        """Raises InputError where a pair does not fit, not even in the place of the other one.

        ``now``: it is about to be loaded, and the other one goes if it must. Whoever uses that
        then has it loaded again.
        """
        from . import room

        with self._lock:
            others = [room.held(p) for s, p in self._pairs.items() if s != presets.first()]
        room.check(needs, others[0] if others else {}, spec)
        if now and any(size > room.free(device) for device, size in needs.items()):
            with self._lock:
                self._pairs = self._first()
            _collect()
            room.check(needs, {}, spec)  # a race may still hold it


MakeRoom = Callable[["Bytes", bool], None]
"""Takes what a pair needs, and whether it is about to be loaded. Raises InputError if in vain."""


def load(spec: str, say: Say, make_room: MakeRoom) -> Pair:
    """A pair, fetched from the hub if it must be. Raises what ``say`` and ``make_room`` raise, and
    InputError for what cannot be used."""
    from . import hub, models, room

    target, draft = models.locate(spec)
    roles = {target: "target", **({draft: "draft"} if draft and draft != target else {})}
    found = {name: _find(name, say) for name in roles}
    make_room(needs := room.needed(_weights(model) for model in found.values()), False)
    folders = {
        name: hub.fetch(model, roles[name], say) if isinstance(model, Remote) else model
        for name, model in found.items()
    }
    make_room(needs, True)
    return worker.run(models.load_pair, spec, say=say, folders=folders)


def _find(name: str, say: Say) -> Remote | Path:
    """A model's folder, or what the hub has of it."""
    from . import hub, weights

    if weights.check_folder(name):
        return Path(name).expanduser()
    return hub.find(name, say)


def _weights(model: Remote | Path) -> tuple[int, Path]:
    """The bytes of a model's weights, and its config."""
    from . import weights

    if isinstance(model, Remote):
        return model.weights, model.config
    return sum(p.stat().st_size for p in weights.shards(model)), model / "config.json"


def _forget(error: BaseException | None) -> None:
    """Lets go of what the frames of a failed loading hold: half of a pair, perhaps."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _collect() -> None:
    """Gives back the memory of what nobody holds any more."""
    import torch

    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
