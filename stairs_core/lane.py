"""One model, one KV cache, and the tokens that the cache holds. Nothing else touches a cache.

Nobody counts rejections: a lane that is asked about a sequence keeps the longest prefix that its
cache already holds, crops the rest and feeds the remainder. The same rule serves the target, the
draft model, and a run that was abandoned halfway.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache

from .errors import InputError


class Lane:
    """``cached=False`` keeps nothing between calls: every pass starts from the first token."""

    def __init__(self, model: Any, *, cached: bool = True) -> None:
        self._model = model
        self._cached = cached
        self._trims = model._supports_logits_to_keep()
        self._cache: DynamicCache | None = None
        self._held: list[int] = []

    @torch.inference_mode()
    def logits(self, ids: list[int], last: int) -> torch.Tensor:
        """[last, vocabulary]: logits at the last positions of ``ids``, in one causal pass."""
        kept = self._keep(ids, len(ids) - last)
        out = self._forward([ids[kept:]], last)[0]
        self._held = ids[:] if self._cached else []
        return out

    @torch.inference_mode()
    def stairs(self, context: list[int], drafted: list[int]) -> torch.Tensor:
        """[N + 1, vocabulary]: the same logits as ``logits``, from N + 1 rows padded on the right.

        Row i is ``context`` and the first i of ``drafted``; causal attention keeps the padding,
        which stands after a row's end, from being seen.
        """
        longest = context + drafted
        rows = len(drafted) + 1
        kept = self._keep(longest, len(context) - 1)
        batch = [longest[kept : len(context) + i] + [0] * (rows - 1 - i) for i in range(rows)]
        if self._cache is not None:
            self._cache.batch_repeat_interleave(rows)
        every = self._forward(batch, rows)
        if self._cache is not None:
            # The longest row contains all the others, so its keys and values serve them all.
            self._cache.batch_select_indices(torch.tensor([rows - 1], device=every.device))
        self._held = longest if self._cached else []
        return every.diagonal(dim1=0, dim2=1).T

    def _keep(self, ids: list[int], at_most: int) -> int:
        """Crop the cache to what it shares with ``ids``; returns how many tokens it then holds."""
        if not self._cached:
            return 0
        kept = min(_common_prefix(self._held, ids), at_most)
        if self._cache is None or kept == 0:
            self._cache = DynamicCache(config=self._model.config)
            return 0
        if len(self._held) > kept:
            self._cache.crop(kept - len(self._held))
        return kept

    def _forward(self, batch: list[list[int]], last: int) -> torch.Tensor:
        """[rows, last, vocabulary]. An interrupted pass leaves an empty lane, not a torn one."""
        cache, self._cache, self._held = self._cache, None, []
        out = self._model(
            input_ids=torch.tensor(batch, device=self._model.device),
            past_key_values=cache,
            use_cache=self._cached,
            **({"logits_to_keep": last} if self._trims else {}),
        )
        self._cache = cache
        return out.logits[:, -last:]


def _common_prefix(a: list[int], b: list[int]) -> int:
    """Length of the longest common prefix. One comparison in C when ``a`` is a prefix of ``b``."""
    if a == b[: len(a)]:
        return len(a)
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))


def check_model(model: Any, name: str) -> None:
    """Raises InputError when the model's cache cannot be rolled back, with the reason."""
    kind = model.config.model_type
    if getattr(model.config, "is_encoder_decoder", False):
        raise InputError(f"{name} ({kind}) is an encoder-decoder model: choose a decoder-only one.")
    if getattr(model, "_is_stateful", False) or not _croppable(model):
        raise InputError(
            f"{name} ({kind}) keeps a state that cannot be rolled back to an earlier token, so "
            "rejected guesses cannot be undone: choose a model with a plain KV cache."
        )


def window(model: Any) -> int | None:
    """Tokens after which some layer forgets, and its cache can no longer be rolled back."""
    layers: list[Any] = DynamicCache(config=model.config).layers
    sizes = [layer.sliding_window for layer in layers if layer.is_sliding]
    return min(sizes, default=None)


@torch.inference_mode()
def _croppable(model: Any) -> bool:
    """Rolls a real cache back by two tokens and asks whether the answer is what a new one gives."""
    ids = torch.arange(4, device=model.device)[None] % model.config.get_text_config().vocab_size
    used, fresh = DynamicCache(config=model.config), DynamicCache(config=model.config)
    try:
        first = model(input_ids=ids, past_key_values=used, use_cache=True).past_key_values
        first.crop(-2)
        again = model(input_ids=ids[:, 2:], past_key_values=used, use_cache=True)
        plain = model(input_ids=ids, past_key_values=fresh, use_cache=True)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return False
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.25
    return torch.allclose(again.logits[:, -1], plain.logits[:, -1], atol=tolerance, rtol=tolerance)
