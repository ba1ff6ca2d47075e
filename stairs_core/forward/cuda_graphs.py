"""CUDA graphs of a model's passes over one token and over a few, each recorded once and replayed.

A pass of a small model launches hundreds of kernels, and launching them takes a GPU's host many
times as long as the GPU needs to read the weights. A graph is launched as one. It is bound to its
shapes and addresses, so there is one for each number of tokens (``WIDTHS``; other numbers are
padded) and for each length of cache that is read, in steps, and caches are lent again with the
graphs recorded over them. Only chains and trees of tokens after a text are replayed; prompts,
batches of rows and strict numerics run as they do without graphs, over the same buffers.

A graph is recorded when it is first needed. ``ahead`` records all that a run may need, so that this
happens in its warm-up and not on its clock.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

from . import static_llama, token_trees
from .fitted_draft import Fitted, Ids
from .kv_cache import KV
from .static_llama import BITS, Branches, StaticLlama

WIDTHS = (1, 2, 3, 5, 7, 9, 13, 17, 33)
"""Tokens of a pass that is replayed: those whose cost is measured (``pass_timing``)."""
_STEP = 256
"""Tokens between the lengths of cache that passes read; more for long texts (``padded``)."""
_KEPT = 4
"""Caches that are kept for later runs of a model."""

_GRAPHS: weakref.WeakKeyDictionary[Any, Graphs] = weakref.WeakKeyDictionary()
"""By model. Not an attribute of it: a view of a model (``layer_skip_view``) is another model."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a run may need: texts of ``start`` to ``length`` tokens, passes over at most ``width``,
    and over ``trees`` or not."""

    start: int
    length: int
    width: int
    trees: bool

    @property
    def end(self) -> int:
        """Tokens of the longest text: a draft's tree may be read beyond what can be committed."""
        return self.length + (BITS if self.trees else 0)


_AHEAD: ContextVar[Run | None] = ContextVar("ahead", default=None)

Tree = tuple[int, Sequence[int], int]
"""The tokens of a tree from one on: the arguments of ``token_trees.bits``."""


def fits(model: Any) -> bool:
    """Whether the model's passes can be replayed: a Llama-like one as a whole on one GPU.

    On ZeroGPU ``is_initialized`` is false where models are loaded: there is no GPU there yet.
    """
    return static_llama.fits(model) and model.device.type == "cuda" and torch.cuda.is_initialized()


def attach(model: Any, recorder: Recorder | None = None) -> None:
    """From now on, a ``CachedModel`` of this model replays graphs."""
    _GRAPHS[model] = Graphs(StaticLlama(model), recorder or _recorder(model.device))


def detach(model: Any) -> None:
    """Takes ``attach`` back."""
    _GRAPHS.pop(model, None)


def of(model: Any) -> Graphs | None:
    """The model's graphs, where it has any."""
    try:
        found = _GRAPHS.get(model)
    except TypeError:  # cannot be referred to weakly, as some stand-ins
        return None
    if found is None and isinstance(model, Fitted) and (inner := of(model.inner)):
        found = _GRAPHS[model] = Graphs(inner.forward, inner.recorder, model.ids)
    return found


@contextlib.contextmanager
def ahead(run: Run) -> Iterator[None]:
    """Inside, all graphs that the run may need are recorded: a model's by its passes, those of
    EAGLE's head where its cache is lent."""
    token = _AHEAD.set(run)
    try:
        yield
    finally:
        _AHEAD.reset(token)


def run_ahead() -> Run | None:
    """What ``ahead`` was told."""
    return _AHEAD.get()


T = TypeVar("T")


class Lending(Generic[T]):
    """Lends each borrower a thing of its own, for as long as it lives, and then lends it again."""

    def __init__(self) -> None:
        self._free: list[T] = []

    def lend(self, borrower: Any, make: Callable[[], T]) -> T:
        thing = self._free.pop() if self._free else make()
        weakref.finalize(borrower, self._take_back, thing).atexit = False
        return thing

    def _take_back(self, thing: T) -> None:
        self._free.append(thing)
        del self._free[:-_KEPT]


K = TypeVar("K")


class Recordings(dict[K, tuple[Any, T]]):
    """Graphs, and the tensors that they leave their results in, by what they were recorded of."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def of(self, key: K, run: Callable[[], T]) -> tuple[Any, T]:
        """The graph of that key; of ``run``, if there is none yet."""
        if key not in self:
            self[key] = self._recorder.record(run)
        return self[key]


class Graphs:
    """A model's static pass, and the caches with the graphs recorded over them. ``fit``: from the
    ids that it is given to its own, and back."""

    def __init__(self, forward: StaticLlama, recorder: Recorder, fit: Ids | None = None) -> None:
        self.forward, self.recorder, self.fit = forward, recorder, fit
        self._caches = Lending[StaticCache]()
        # What the graphs read: the tokens of a pass, and, in one tensor, how many tokens are before
        # them and what ``Branches`` has of a tree.
        self.ids = torch.zeros(WIDTHS[-1], dtype=torch.long, device=forward.device)
        self._told = torch.zeros(2 + 2 * WIDTHS[-1], dtype=torch.long, device=forward.device)
        self._told[1] = 1  # a token that sees nothing would put no numbers into the cache
        self.start = self._told[:1]

    def lend(self, borrower: Any) -> StaticCache:
        """A cache for ``borrower`` alone, for as long as that lives."""
        return self._caches.lend(borrower, lambda: StaticCache(self))

    def tell(self, start: int, tree: Tree | None) -> None:
        """Where the next pass's tokens stand."""
        if tree is None:
            self.start.fill_(start)
            return
        place, rows = token_trees.bits(*tree)
        rest = [0] * (WIDTHS[-1] - len(rows))
        told = [start, place, *token_trees.positions(*tree), *rest, *rows, *rest]
        self._told.copy_(torch.tensor(told))

    def branches(self, width: int) -> Branches:
        """The tree of a pass over so many tokens, as the graphs read it."""
        positions, rows = self._told[2:].chunk(2)
        return Branches(positions[:width], self._told[1:2], rows[:width])


Key = tuple[int, int, tuple[int, ...], bool]
"""Tokens of a pass, how much of the cache it reads, the layers whose output is kept, and whether
the tokens are a tree's."""
Result = tuple[torch.Tensor, torch.Tensor | None]


class StaticCache:
    """Keys and values in buffers that stay where they are, and the graphs that use them."""

    def __init__(self, graphs: Graphs) -> None:
        self._graphs = graphs
        self._buffers: torch.Tensor | None = None  # as ``StaticLlama.new_cache`` makes them
        self._recorded = Recordings[Key, Result](graphs.recorder)
        self._widest = WIDTHS[-1]  # tokens of the passes that were recorded ahead

    def ready(self, kv: KV | None, more: int, layers: Sequence[int]) -> KV:
        """``kv`` with room for ``more`` tokens: an empty one over these buffers for None, and over
        larger ones where these are too small. One that has left the buffers stays as it is.

        Records what the run that is being warmed up may need after them (see ``ahead``); its passes
        keep the output of ``layers``.
        """
        run, length = run_ahead(), 0 if kv is None else kv.get_seq_length()
        if kv is not None and not self._holds(kv):
            return kv
        needed = max(length + more, run.end if run else 0) + WIDTHS[-1]
        capacity = 0 if self._buffers is None else self._buffers.shape[2]
        if self._buffers is None or capacity < needed:
            self._buffers = self._grown(max(padded(needed), 2 * capacity), length)
            self._recorded.clear()
            kv = None
        elif kv is None:
            self._buffers.zero_()  # what another text left may be no numbers, masked or not
        if run is not None:
            self._widest = width(run.width)
            self._graphs.start.fill_(length)
            for wide, seen, tree in keys(length + more, run):
                self._recording((wide, seen, tuple(layers), tree))
        return KV.over(self._buffers, length) if kv is None else kv

    def _holds(self, kv: KV) -> bool:
        return self._buffers is not None and kv.lies_in(self._buffers)

    def _grown(self, capacity: int, length: int) -> torch.Tensor:
        """Larger buffers, with the first ``length`` tokens of the old ones."""
        new = self._graphs.forward.new_cache(capacity)
        if self._buffers is not None:
            new[:, :, :length] = self._buffers[:, :, :length]
        return new

    def takes(self, kv: KV, tokens: int, tree: Tree | None = None) -> bool:
        """Whether a pass over so many tokens can be replayed: one that follows others, and is of no
        tree that is too large."""
        start = kv.get_seq_length()
        if tree is not None and start + tokens - min(tree[0], start) > BITS:
            return False
        return 0 < tokens <= WIDTHS[-1] and start > 0 and self._holds(kv)

    def run(
        self, kv: KV, ids: torch.Tensor, layers: Sequence[int], tree: Tree | None = None
    ) -> Result:
        """Logits [tokens, vocabulary] and hidden states [tokens, layers, width] after the text in
        ``kv``, which the tokens ``ids`` join. The next pass overwrites both."""
        if tree is None and len(ids) > self._widest:  # what a draft missed while others guessed
            parts = [_kept(self.run(kv, part, layers)) for part in ids.split(self._widest)]
            logits, hidden = zip(*parts, strict=True)
            return torch.cat(logits), torch.cat(hidden) if layers else None
        graphs, tokens, length = self._graphs, len(ids), kv.get_seq_length()
        graphs.ids[:tokens].copy_(ids)
        graphs.tell(length, tree)
        wide = width(tokens)
        key = wide, padded(length + wide), tuple(layers), tree is not None
        graph, (logits, hidden) = self._recording(key)
        graph.replay()
        kv.written(tokens)
        return logits[:tokens], None if hidden is None else hidden[:tokens]

    def _forward(self, key: Key) -> Result:
        tokens, seen, layers, tree = key
        graphs, ids = self._graphs, self._graphs.ids[:tokens]
        ids = graphs.fit.known(ids) if graphs.fit else ids
        assert self._buffers is not None
        branches = graphs.branches(tokens) if tree else None
        logits, hidden = graphs.forward(ids, graphs.start, self._buffers, seen, layers, branches)
        return graphs.fit.fitted(logits) if graphs.fit else logits, hidden

    def _recording(self, key: Key) -> tuple[Any, Result]:
        return self._recorded.of(key, lambda: self._forward(key))


def _kept(result: Result) -> Result:
    """A copy of what the next pass overwrites."""
    logits, hidden = result
    return logits.clone(), None if hidden is None else hidden.clone()


class Recorder:
    """Records graphs on one GPU. They run one after the other, so they share their memory."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        # Torch gives up a pool that no graph uses, and does not take it up again.
        number = torch.zeros(1, device=device)
        self._anchor = self.record(lambda: number + 1)

    def record(self, run: Callable[[], Any]) -> tuple[torch.cuda.CUDAGraph, Any]:
        """The graph of ``run``, and what that returned, which each replay overwrites.

        It runs once before it is recorded, because libraries set themselves up then. What a pass
        writes to the cache stands after the text, where the next one will write.
        """
        here, graph = torch.cuda.current_stream(self._device), torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device):
            self._stream.wait_stream(here)
            with torch.cuda.stream(self._stream):
                run()
            here.wait_stream(self._stream)
            # Another thread may ask something of the GPU meanwhile: only this one records.
            with torch.cuda.graph(graph, self._pool, self._stream, "thread_local"):
                result = run()
        return graph, result


_recorder = functools.cache(Recorder)


def keys(length: int, run: Run) -> Iterator[tuple[int, int, bool]]:
    """Of all passes that ``run`` may make after a text of ``length`` tokens: the tokens, how much
    of the cache is read, and whether it is over a tree."""
    for wide in WIDTHS[: WIDTHS.index(width(run.width)) + 1]:
        seen = padded(length + wide)
        while seen <= padded(run.end + wide):
            yield from ((wide, seen, tree) for tree in ((False, True) if run.trees else (False,)))
            seen = padded(seen + 1)


def width(tokens: int) -> int:
    """Tokens of the pass that a pass over so many is padded to."""
    return next((w for w in WIDTHS if w >= tokens), WIDTHS[-1])


def padded(length: int) -> int:
    """How much of a cache a pass that ends at ``length`` reads: at most a quarter more, or a step.

    >>> [padded(length) for length in (1, 257, 1025, 2049, 5000)]
    [256, 512, 1280, 2560, 5120]
    """
    step = max(_STEP, (1 << (length - 1).bit_length()) // 8)
    return -(-length // step) * step
