"""The KV cache that lanes hold: buffers that a pass writes its own tokens to, and nothing moves.

``transformers``' ``DynamicCache`` copies every key and value it holds at every pass. Here the price
of a step does not grow with the text, but for attention itself. Only ``lane.py`` uses this file.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

BLOCK = 128
"""Tokens by which buffers grow at least, and by which strict passes see more keys."""


class KV(Cache):
    """``whole_blocks``: a pass sees its position's whole block, to be masked by the caller."""

    layers: list[Layer]  # type: ignore[assignment]

    def __init__(self, whole_blocks: bool = False) -> None:
        super().__init__(layers=[])
        self._whole_blocks = whole_blocks

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_, **__
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes a pass's own keys and values; returns all that the pass may see.

        All are [rows, heads, tokens, head].
        """
        while len(self.layers) <= layer_idx:
            self.layers.append(Layer(self._whole_blocks))
        return self.layers[layer_idx].update(key_states, value_states)

    def keep(self, length: int) -> None:
        """Forget all but the first ``length`` tokens. Their memory is kept for what comes."""
        for layer in self.layers:
            layer.length = min(length, layer.length)

    def repeat(self, rows: int) -> None:
        """Make ``rows`` equal rows of one."""
        for layer in self._written:
            layer.keys, layer.values = (
                t[:, :, : layer.length].repeat_interleave(rows, dim=0) for t in layer.buffers
            )

    def select(self, row: int) -> None:
        """Keep one row."""
        for layer in self._written:
            layer.keys, layer.values = (t[row : row + 1].contiguous() for t in layer.buffers)

    def gather(self, start: int, places: list[int]) -> None:
        """Keep the first ``start`` tokens and, after them, those that stand at ``places``."""
        end = start + len(places)
        moves = places != [*range(start, end)]
        for layer in self._written:
            layer.length = end
            for buffer in layer.buffers if moves else ():
                buffer[:, :, start:end] = buffer[:, :, places]

    def stretch(self, length: int, loud: int) -> None:
        """Stand in for a text of ``length`` tokens, for try-outs: keys come round again, and of the
        values only the first ``loud`` tokens have any, so much that each is heard if it is seen.
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
        """A layer whose attention is skipped has nothing."""
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
        """Empty buffers of the right shape."""
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
    """The name by which a model's pass takes its cache: transformers 5.24 renamed it."""
    takes = _takes(model)
    return _OLD if _OLD in takes and "cache" not in takes else "cache"


def takes_cache(model: Any) -> bool:
    """Whether a pass of the model takes one; the oldest keep none."""
    return not _takes(model).isdisjoint({"cache", _OLD})


_OLD = "past_key_values"


def _takes(model: Any) -> set[str]:
    """What a pass of the model may be given, by name."""
    return {*inspect.signature(getattr(model, "forward", model)).parameters}


def begins_anew(model: Any, length: int) -> bool:
    """Whether ``generate`` reads the whole text again once it has more than ``length`` tokens, in
    place of going on from its cache: Phi-3 does, where its rotary angles change."""
    kv = KV()
    kv.layers.append(Layer(whole_blocks=False))
    kv.layers[0].length = length
    ids = torch.zeros(1, length + 1, dtype=torch.long, device=model.device)
    name, mask = argument(model), torch.ones_like(ids)
    inputs = model.prepare_inputs_for_generation(ids, attention_mask=mask, **{name: kv})
    return inputs.get(name) is None


def _grown(buffer: torch.Tensor, tokens: int) -> torch.Tensor:
    """The same with room for ``tokens``, doubled so that growing stays rare."""
    rows, heads, capacity, head = buffer.shape
    # Zeros: what is masked must still be a number.
    new = buffer.new_zeros(rows, heads, max(tokens, 2 * capacity, BLOCK), head)
    new[:, :, :capacity] = buffer
    return new
