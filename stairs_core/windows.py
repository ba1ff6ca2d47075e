"""What a position sees: masks of our own, with the windows that a model's layers have in them.

A model that is given no mask makes its own. One that is given a mask uses it as it is, in every
layer: so the masks of trees and of strict passes are made here, one for every kind of layer, as
``transformers.masking_utils.create_masks_for_generate`` names them. Our cache keeps every token,
so a window is a matter of the mask alone; and it counts positions, not places in the cache, where
the branches of a tree stand side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

Near = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Of query positions [queries, 1] and key positions [keys]: which keys a window leaves in sight."""


class Windows:
    """The windows of a model's layers. ``any``: whether it has some."""

    def __init__(self, config: Any) -> None:
        text = config.get_text_config()
        window, chunk = (getattr(text, n, None) for n in ("sliding_window", "attention_chunk_size"))
        near: dict[str, Near] = {}
        if not config.is_encoder_decoder:
            near |= {"sliding_attention": partial(_slides, window)} if window else {}
            near |= {"chunked_attention": partial(_chunked, chunk)} if chunk else {}
        kinds = set(getattr(text, "layer_types", None) or ())
        # With no layer types, all layers are of the one kind that the config has a size for.
        self._every = None if kinds else next(iter(near.values()), None)
        self._kinds = {kind: near.get(kind) for kind in kinds} if kinds & near.keys() else {}
        self.any = bool(self._kinds) or self._every is not None

    def masks(
        self, seen: torch.Tensor, queries: torch.Tensor, keys: torch.Tensor, model: Any
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """What ``model`` takes as its ``attention_mask``: [1, 1, queries, keys], or one by kind of
        layer. ``seen``: booleans of that shape, what may be seen but for windows. ``queries`` and
        ``keys``: the positions of both.
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
    """The widest window that a config speaks of, of those under ``most`` tokens; 0: none.

    By any name: a model may keep a window that the library's masks do not know (GPT-Neo's
    ``window_size``). That something else is taken for a window does no harm to who tries it out.
    """
    text = config.get_text_config().to_dict()
    sizes = [n for name, n in text.items() if ("window" in name or "chunk" in name)]
    return max((n for n in sizes if type(n) is int and 0 < n < most), default=0)
