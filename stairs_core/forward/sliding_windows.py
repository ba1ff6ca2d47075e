"""Attention masks for models whose layers have sliding windows or chunks.

A model given no mask makes its own. One that is given a mask uses it in every layer as it is, so
the masks of trees and of strict passes must include the windows: one mask for every kind of layer,
named as in ``transformers.masking_utils.create_masks_for_generate``. Our cache keeps every token,
so only the mask implements a window. It goes by positions, not by places in the cache, since the
branches of a tree share positions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

Near = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From query positions [queries, 1] and key positions [keys]: [queries, keys], whether the key is
inside the query's window."""


class Windows:
    """The windows of a model's layers. ``any``: whether any layer has one."""

    def __init__(self, config: Any) -> None:
        text = config.get_text_config()
        window, chunk = (getattr(text, n, None) for n in ("sliding_window", "attention_chunk_size"))
        near: dict[str, Near] = {}
        if not config.is_encoder_decoder:
            near |= {"sliding_attention": partial(_slides, window)} if window else {}
            near |= {"chunked_attention": partial(_chunked, chunk)} if chunk else {}
        kinds = set(getattr(text, "layer_types", None) or ())
        # Without layer types, all layers are of the one kind for which the config has a size.
        self._every = None if kinds else next(iter(near.values()), None)
        self._kinds = {kind: near.get(kind) for kind in kinds} if kinds & near.keys() else {}
        self.any = bool(self._kinds) or self._every is not None

    def masks(
        self, seen: torch.Tensor, queries: torch.Tensor, keys: torch.Tensor, model: Any
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """The ``attention_mask`` for ``model``: [1, 1, queries, keys], or a dict of one per kind of
        layer. ``seen``: [queries, keys] booleans, the mask without windows. ``queries`` and
        ``keys``: their positions.
        """

        def mask(near: Near | None) -> torch.Tensor:
            left = seen if near is None else seen & near(queries[:, None], keys)
            hidden = torch.zeros(left.shape, dtype=model.dtype)
            hidden.masked_fill_(~left, torch.finfo(model.dtype).min)
            return hidden[None, None].to(model.device)

        if self._kinds:
            return {kind: mask(near) for kind, near in self._kinds.items()}
        return mask(self._every)


def _slides(window: int, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    return keys > queries - window


def _chunked(size: int, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    return keys // size == queries // size


def widest(config: Any, most: int) -> int:
    """The size of the widest window in a config, of those under ``most`` tokens; 0 for none.

    Any key with "window" or "chunk" in its name counts, since a model may have windows of its own
    (GPT-Neo's ``window_size``). A wrong match only makes a check try a needless length.
    """
    text = config.get_text_config().to_dict()
    sizes = [n for name, n in text.items() if ("window" in name or "chunk" in name)]
    return max((n for n in sizes if type(n) is int and 0 < n < most), default=0)
