"""The pairs of models in memory: the first one always, and as many others as fit beside it.

Where room is needed, those not asked for longest go first, but for those that a run holds.
One pair is loaded at a time, in a thread. All who ask for the same pair wait for the same loading,
which goes on while one of them still waits. A loading that fails or is stopped changes nothing.
On ZeroGPU, whoever makes the shelf loads the first pair, and there is no other.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Protocol

from ..errors import InputError
from ..importing import importing
from ..models import out_of_memory
from ..models.worker import Say
from ..text import bounded_template
from . import engine_thread, presets, zero_gpu

if TYPE_CHECKING:
    from ..models.memory import Bytes
    from ..models.pair import Pair

WAITING = "Waiting for another pair to be loaded …"
STARTING = "Looking for the models …"
MEASURING = "Measuring passes …"
STOPPED = (
    "Loading was stopped, and the pair in use has not changed: files that came whole stay in the "
    "hub's cache for the next time, and so does what came from the package registry."
)
HELD = (
    "The models that others run now leave no room for these: load them when those runs are over, "
    "or choose smaller models."
)
LEFT = "The run was stopped before its models were ready."
_LOOK = 0.2


class Asker(Protocol):
    """Somebody who waits for a pair, until ``set``: a ``live_race.Flag``, or an Event."""

    def is_set(self) -> bool: ...
    def set(self) -> None: ...


class Loading:
    """A pair that is being loaded. ``words``: how far it is."""

    def __init__(self, spec: str) -> None:
        self.spec, self.words = spec, WAITING
        self.askers: list[Asker] = []
        self.pair: Future[Pair] = Future()

    @property
    def wanted(self) -> bool:
        return not all(asker.is_set() for asker in self.askers)


class Shelf:
    """The pairs in memory. ``load``: loads one, as the function ``load`` below does."""

    def __init__(self, load: Callable[[str, Say, MakeRoom], Pair] | None = None) -> None:
        self._load = load or self._load_priced
        self._lock = threading.Lock()
        self._pairs: dict[str, Pair] = {}  # the one asked for longest ago comes first
        self._under_way: dict[str, Loading] = {}
        self._thread = ThreadPoolExecutor(1, "load")
        self.first = self._ask(presets.first(), threading.Event()).pair

    def get(self, asked: str | None = None, flag: Asker | None = None) -> Pair:
        """The pair of a spec (None: the first). Loads it if it is not in memory, and waits for it.

        Raises InputError where it cannot be had, is not allowed here, or ``flag`` is set first.
        """
        flag = flag or threading.Event()
        loading = self._ask(presets.resolve(asked or ""), flag)
        for _ in self._follow(loading, flag, LEFT):
            pass
        return loading.pair.result()

    def has(self, asked: str) -> bool:
        """Whether a pair is in memory. False for one that is not allowed here."""
        try:
            return presets.resolve(asked) in self._pairs
        except InputError:
            return False

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
                self._pairs[spec] = self._pairs.pop(spec)
                loading.pair.set_result(self._pairs[spec])
                return loading
            self._under_way[spec] = loading
        if zero_gpu.ON:
            self._work(loading)
        else:
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
        """Loads one pair. Runs in the thread that loads."""
        try:
            pair = self._make(loading)
        except BaseException as e:
            out_of_memory.forget(e)
            with self._lock:
                if self._under_way.get(loading.spec) is loading:
                    del self._under_way[loading.spec]
            loading.pair.set_exception(e)
        else:
            with self._lock:
                self._pairs[loading.spec] = pair
                del self._under_way[loading.spec]
            loading.pair.set_result(pair)
        out_of_memory.collect()

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
        """Loads a pair; then tries and times its passes, for the menus, the card and the charts."""
        from ..measuring import pass_timing

        pair = load(spec, say, make_room)
        if not zero_gpu.ON:  # there is no GPU there but during a race
            say(MEASURING)
            engine_thread.run(pair.try_target)
            # A stop is seen before every pass: whoever runs something next does not wait for more.
            engine_thread.run(pass_timing.measure_all, pair, look=partial(say, MEASURING))
        return pair

    def _make_room(self, spec: str, needs: Bytes, now: bool) -> None:
        """Raises InputError where a pair does not fit, even in place of all others but the first.

        ``now``: it is about to be loaded, and others are dropped until it fits; each is loaded
        again when somebody asks for it.
        """
        from ..models import memory

        with self._lock:
            first = [pair for s, pair in self._pairs.items() if s == presets.first()]
            names = [s for s in self._pairs if s != presets.first()]
            memory.check(needs, first, [self._pairs[s] for s in names], spec)
            while now and not memory.fits(needs, self._pairs.values()):
                if not any(self._drop(s) for s in names if s in self._pairs):
                    raise InputError(HELD)

    def _drop(self, spec: str) -> bool:
        """Drops a pair unless something else, such as a run, holds it: its memory would not return.

        With the lock held: nobody can ask for it meanwhile.
        """
        held = weakref.ref(self._pairs.pop(spec))
        out_of_memory.collect()
        if (pair := held()) is None:
            return True
        self._pairs = {spec: pair, **self._pairs}
        return False


MakeRoom = Callable[["Bytes", bool], None]
"""Takes the bytes that a pair needs, and whether it is about to be loaded. Raises InputError where
they cannot be had."""


def load(spec: str, say: Say, make_room: MakeRoom) -> Pair:
    """Loads a pair, fetched from the hub if need be. Raises what ``say`` and ``make_room`` raise,
    and InputError for what cannot be used."""
    with importing():
        from ..models import load, memory, source

    target, draft = load.locate(spec)
    roles = {target: "target", **({draft: "draft"} if draft and draft != target else {})}
    found = {name: source.find(name, say) for name in roles}
    needs = memory.needed((one.weights, one.config) for one in found.values())
    make_room(needs, False)
    folders = {name: one.folder(roles[name], say) for name, one in found.items()}
    make_room(needs, True)
    pair = engine_thread.run(load.load_pair, spec, say=say, folders=folders)
    if not presets.is_vouched_for(spec):
        bounded_template.distrust(pair.tokenizer, pair.draft_tokenizer)
    return pair
