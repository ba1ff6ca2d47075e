"""An EAGLE-3 head's pass, replayed as CUDA graphs: what ``cuda_graphs`` is to a model.

It is ``EagleHead``'s own pass, recorded over a cache that stays where it is. Passes that follow
others in the cache are replayed, chains and trees; a prompt is read as without graphs.
"""

from __future__ import annotations

from typing import Any

import torch

from . import cuda_graphs
from .cuda_graphs import WIDTHS, Lending, Recordings, Run, padded, run_ahead, width
from .eagle_head import EagleHead, Tree
from .kv_cache import Layer

Outputs = tuple[torch.Tensor, torch.Tensor]
"""What a step gives: outputs [n, width] and logits [n, vocabulary]."""


class StaticEagle:
    """Called like the head that it was made from."""

    def __init__(self, head: EagleHead, recorder: cuda_graphs.Recorder) -> None:
        self.head, self.shape, self.weight = head, head.shape, head.weight
        self.recorder = recorder
        self._caches = Lending[_Cache]()
        # What the graphs read of a pass.
        device, most = self.weight.device, WIDTHS[-1]
        self._ids = torch.zeros(most, dtype=torch.long, device=device)
        self._hidden = torch.zeros(most, self.shape.width, dtype=self.weight.dtype, device=device)
        self.start = torch.zeros(1, dtype=torch.long, device=device)
        self._places = torch.zeros(most, dtype=torch.long, device=device)

    def combine(self, features: torch.Tensor) -> torch.Tensor:
        """As ``EagleHead.combine``."""
        return self.head.combine(features)

    @torch.inference_mode()
    def lend(self, borrower: Any) -> Layer:
        """An empty cache for ``borrower``, for as long as that lives, with the graphs recorded that
        the run needs which is being warmed up (``cuda_graphs.ahead``)."""
        cache = self._caches.lend(borrower, lambda: _Cache(self))
        cache.empty()
        self._hidden.zero_()
        if run := run_ahead():
            cache.record(run)
        return cache

    def step(
        self, ids: torch.Tensor, hidden: torch.Tensor, cache: Any, tree: Tree | None = None
    ) -> Outputs:
        """As ``EagleHead.step``; ``cache``: from ``lend``."""
        tokens, start = len(ids), cache.length
        cache.reserve(start + tokens)
        if not start or (tree is not None and tokens > WIDTHS[-1]):
            return self.head.step(ids, hidden, cache, tree)
        if tree is None and tokens > cache.widest:  # what it missed while others guessed
            parts = zip(ids.split(cache.widest), hidden.split(cache.widest), strict=True)
            return [self.step(*part, cache) for part in parts][-1]
        self._ids[:tokens].copy_(ids)
        self._hidden[:tokens].copy_(hidden)
        self.start.fill_(start)
        if tree is not None:
            self._places[:tokens].copy_(tree[0])
            cache.show(tree[1])
        out, logits = cache.replay(tokens, chain=tree is None)
        cache.length = start + tokens
        rows = slice(tokens - 1 if tree is None else 0, tokens)
        return out[rows].clone(), logits[rows].clone()

    def run(self, tokens: int, cache: _Cache, seen: int, *, chain: bool) -> Outputs:
        """What is recorded: a pass over so many tokens, which see so much of the cache."""
        slots = self.start + torch.arange(tokens, device=self.start.device)
        if chain:
            places = slots
            mask = torch.arange(seen, device=slots.device) <= slots[:, None]
        else:
            places, mask = self._places[:tokens], cache.mask[:tokens, :seen]
        view: Any = _Written(cache, slots, seen)
        return self.head.step(self._ids[:tokens], self._hidden[:tokens], view, (places, mask))


class _Written:
    """A cache as a recorded pass sees it: what is new goes to the places that a tensor names."""

    length = 0  # for the places of a chain, which are not used

    def __init__(self, cache: Layer, slots: torch.Tensor, seen: int) -> None:
        self._cache, self._slots, self._seen = cache, slots, seen

    def update(self, *new: torch.Tensor) -> list[torch.Tensor]:
        """Keys and values, [rows, heads, tokens, head]: those that the pass sees."""
        for buffer, written in zip(self._cache.buffers, new, strict=True):
            buffer.index_copy_(2, self._slots, written)
        return [buffer[:, :, : self._seen] for buffer in self._cache.buffers]


class _Cache(Layer):
    """Keys and values in buffers that stay where they are, and the graphs that use them."""

    def __init__(self, head: StaticEagle) -> None:
        super().__init__(whole_blocks=False)
        self._head = head
        self._recorded = Recordings[tuple[int, int, bool], Outputs](head.recorder)
        self.mask = torch.zeros(0, 0, dtype=torch.bool)  # [tokens, capacity]: a tree's
        self.widest = WIDTHS[-1]  # tokens of the passes that were recorded ahead
        self.reserve(0)

    def empty(self) -> None:
        """Drops all. What another text left may be no numbers, masked or not."""
        self.length = 0
        for buffer in self.buffers:
            buffer.zero_()

    def reserve(self, length: int) -> None:
        """Makes room for a text of ``length`` tokens and a pass after it."""
        needed = length + WIDTHS[-1]
        if needed <= self.mask.shape[1]:
            return
        capacity = max(padded(needed), 2 * self.mask.shape[1])
        like, old = self._head.weight, (self.buffers if self.is_initialized else ())
        attention = self._head.head.layer.self_attn
        shape = 1, attention.kv_heads, capacity, attention.head
        self.keys, self.values = (
            torch.zeros(shape, dtype=like.dtype, device=like.device) for _ in range(2)
        )
        self.is_initialized = True
        self._recorded.clear()
        for new, held in zip(self.buffers, old, strict=False):
            new[:, :, : self.length] = held[:, :, : self.length]
        # The padding of a pass must see something, or what it writes is no numbers.
        self.mask = torch.zeros(WIDTHS[-1], capacity, dtype=torch.bool, device=like.device)
        self.mask[:, 0] = True

    def show(self, mask: torch.Tensor) -> None:
        """Which keys each token of the next pass sees, [tokens, keys]; the first of them always."""
        rows, keys = mask.shape
        self.mask[:rows, keys:] = False
        self.mask[:rows, :keys] = mask

    def replay(self, tokens: int, *, chain: bool) -> Outputs:
        """The pass over the tokens that were handed over; the next one overwrites it."""
        wide = width(tokens)
        graph, outputs = self._recording((wide, padded(self.length + wide), chain))
        graph.replay()
        return outputs

    def record(self, run: Run) -> None:
        """All that a run may need, over an empty text."""
        self.reserve(run.end)
        self.widest = width(run.width)
        self._head.start.fill_(0)
        for tokens, seen, tree in cuda_graphs.keys(run.start, run):
            self._recording((tokens, seen, not tree))

    def _recording(self, key: tuple[int, int, bool]) -> tuple[Any, Outputs]:
        tokens, seen, chain = key
        return self._recorded.of(key, lambda: self._head.run(tokens, self, seen, chain=chain))
