"""The KV cache: buffers that each pass writes its keys and values into, without moving the others.

``transformers``' ``DynamicCache`` copies all keys and values at every pass. Here the cost of a step
does not grow with the text, apart from attention itself. Only ``CachedModel``,
graphs, the checks, our own models and what was trained on a target use this file.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

BLOCK = 128
"""Buffers grow by at least so many tokens, and strict passes see keys in multiples of it."""


class KV(Cache):
    """All layers' keys and values. ``whole_blocks``: a pass sees the whole block that its position
    is in; the caller masks the rest of it."""

    layers: list[Layer]  # type: ignore[assignment]

    def __init__(self, whole_blocks: bool = False) -> None:
        super().__init__(layers=[])
        self._whole_blocks = whole_blocks
        self._over: torch.Tensor | None = None  # that all layers were put into

    @classmethod
    def over(cls, buffers: torch.Tensor, length: int) -> KV:
        """A cache that lies in the given buffers, [layers, 2 * heads, capacity, head], keys before
        values, and holds their first ``length`` tokens."""
        kv = cls()
        kv._over = buffers
        for buffer in buffers:
            layer = Layer(whole_blocks=False)
            layer.keys, layer.values = buffer[None].chunk(2, 1)
            layer.is_initialized, layer.length = True, length
            kv.layers.append(layer)
        return kv

    def lies_in(self, buffers: torch.Tensor) -> bool:
        """Whether it still lies in these buffers: it leaves them when it grows, or for a batch."""
        return self.layers[0].buffers[0].data_ptr() == buffers.data_ptr()

    def written(self, tokens: int) -> None:
        """So many tokens were written to the buffers, after the others."""
        for layer in self.layers:
            layer.length += tokens

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_, **__
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes a pass's keys and values; returns all that the pass may see.

        All are [rows, heads, tokens, head].
        """
        while len(self.layers) <= layer_idx:
            self.layers.append(Layer(self._whole_blocks))
        return self.layers[layer_idx].update(key_states, value_states)

    def keep(self, length: int) -> None:
        """Crops to the first ``length`` tokens. The memory of the others is reused."""
        for layer in self.layers:
            layer.length = min(length, layer.length)

    def repeat(self, rows: int) -> None:
        """Copies the one row to ``rows`` rows."""
        for layer in self._written:
            layer.keys, layer.values = (
                t[:, :, : layer.length].repeat_interleave(rows, dim=0) for t in layer.buffers
            )

    def select(self, row: int) -> None:
        """Keeps only one row."""
        for layer in self._written:
            layer.keys, layer.values = (t[row : row + 1].contiguous() for t in layer.buffers)

    def gather(self, start: int, places: list[int]) -> None:
        """Keeps the first ``start`` tokens and, after them, those at ``places``."""
        end = start + len(places)
        for layer in self._written:
            layer.length = end
        if places != [*range(start, end)] and self._written:
            index = torch.tensor(places, device=self._written[0].buffers[0].device)
            for buffer in self._buffers():
                buffer[..., start:end, :] = buffer.index_select(-2, index)

    def _buffers(self) -> Iterable[torch.Tensor]:
        """All keys and values, in as few tensors as there are."""
        if self._over is not None and self.lies_in(self._over):
            return [self._over]
        return [buffer for layer in self._written for buffer in layer.buffers]

    def stretch(self, length: int, loud: int) -> None:
        """Repeats the content to ``length`` tokens, for try-outs beyond a sliding window.

        Values are zero except for the first ``loud`` tokens. Theirs are scaled up, so that the
        logits change visibly if a mask lets one of these tokens be seen.
        """
        for layer in self._written:
            keys, values = layer.buffers
            places = torch.arange(length, device=keys.device)
            gain = (places < loud).to(values.dtype)[:, None] * (length / loud)
            layer.keys = keys[:, :, places % layer.length]
            layer.values = values[:, :, places % layer.length] * gain
            layer.length = length

    @property
    def _written(self) -> list[Layer]:
        """The layers that hold something: one whose attention is skipped does not."""
        return [layer for layer in self.layers if layer.is_initialized]


class Layer(CacheLayerMixin):
    """One layer's keys and values: [rows, heads, capacity, head], ``length`` tokens of it used."""

    is_sliding = False
    is_croppable = True

    def __init__(self, whole_blocks: bool) -> None:
        super().__init__()
        self._whole_blocks = whole_blocks
        self.length = 0

    @property
    def buffers(self) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.keys is not None
        assert self.values is not None
        return self.keys, self.values

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Creates empty buffers of the right shape."""
        self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_, **__
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized or key_states.shape[0] != self.buffers[0].shape[0]:
            self.lazy_initialization(key_states, value_states)
        start, self.length = self.length, self.length + key_states.shape[2]
        seen = (start // BLOCK + 1) * BLOCK if self._whole_blocks else self.length
        keys, values = self.buffers
        if keys.shape[2] < max(seen, self.length):
            keys, values = (_grown(t, max(seen, self.length)) for t in (keys, values))
            self.keys, self.values = keys, values
        keys.narrow(2, start, key_states.shape[2]).copy_(key_states)
        values.narrow(2, start, key_states.shape[2]).copy_(value_states)
        return keys.narrow(2, 0, seen), values.narrow(2, 0, seen)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return -1


def argument(model: Any) -> str:
    """The name of the cache argument of a model's forward pass: transformers 5.24 renamed it."""
    takes = _takes(model)
    return _OLD if _OLD in takes and "cache" not in takes else "cache"


def takes_cache(model: Any) -> bool:
    """Whether the model's forward pass takes a cache; the oldest models have none."""
    return not _takes(model).isdisjoint({"cache", _OLD})


_OLD = "past_key_values"


def _takes(model: Any) -> set[str]:
    """The names of the arguments of the model's forward pass."""
    return {*inspect.signature(getattr(model, "forward", model)).parameters}


def begins_anew(model: Any, length: int) -> bool:
    """Whether ``generate`` drops its cache and feeds the whole text again once that has more than
    ``length`` tokens. Phi-3 does so where its rotary angles change."""
    kv = KV()
    kv.layers.append(Layer(whole_blocks=False))
    kv.layers[0].length = length
    ids = torch.zeros(1, length + 1, dtype=torch.long, device=model.device)
    name, mask = argument(model), torch.ones_like(ids)
    inputs = model.prepare_inputs_for_generation(ids, attention_mask=mask, **{name: kv})
    return inputs.get(name) is None


def _grown(buffer: torch.Tensor, tokens: int) -> torch.Tensor:
    """The buffer with room for at least ``tokens``; doubled, so that it seldom grows."""
    rows, heads, capacity, head = buffer.shape
    # Zeros rather than uninitialised: masked entries must not be NaN.
    new = buffer.new_zeros(rows, heads, max(tokens, 2 * capacity, BLOCK), head)
    new[:, :, :capacity] = buffer
    return new
