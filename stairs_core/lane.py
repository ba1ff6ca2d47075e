"""One model, one KV cache, and the tokens that the cache holds. Nothing else touches a cache.

Nobody counts rejections: a lane that is asked about a sequence keeps the longest prefix that its
cache already holds, crops the rest and feeds the remainder. The same rule serves the target, the
draft model, and a run that was abandoned halfway.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from transformers import DynamicCache

from .errors import InputError
from .kv import BLOCK, KV

WIDTH = 8
"""Tokens of every strict pass (design, section 5); more are fed in several.

A model may name another ``strict_width``. MKL rounds the rows of a product alike only when they are
a multiple of four.
"""


class Lane:
    """``cached=False`` keeps nothing between calls: every pass starts from the first token.

    ``strict``: every pass has as many tokens (``WIDTH``), of which those that are not needed are
    masked, and sees a whole number of cache blocks that depends on its position alone. So a
    position's logits are the same bits, however the tokens were grouped into passes.
    """

    def __init__(self, model: Any, *, cached: bool = True, strict: bool = False) -> None:
        self._model = model
        self._cached, self._strict = cached, strict
        self._width = getattr(model, "strict_width", WIDTH)
        self._trims = model._supports_logits_to_keep()
        self._kv: KV | None = None
        self._held: list[int] = []

    @torch.inference_mode()
    def logits(self, ids: list[int], last: int) -> torch.Tensor:
        """[last, vocabulary]: logits at the last positions of ``ids``, in one causal pass."""
        kept = self._keep(ids, len(ids) - last)
        if self._strict:
            out = self._in_chunks(ids, kept, len(ids) - last)
        else:
            out = self._forward(torch.tensor([ids[kept:]]), last)[0]
        self._held = ids[:] if self._cached else []
        return out

    @torch.inference_mode()
    def greedy(
        self,
        context: list[int],
        count: int,
        eos_ids: Collection[int] = (),
        go_on: Callable[[float], bool] | None = None,
    ) -> list[int]:
        """At most ``count`` tokens that the model itself would write next, up to an end of text.

        For a lane that keeps a cache and is not strict. ``go_on`` is asked after each, with its
        probability, whether to write another; without it the tokens leave the device together.
        """
        if not count:
            return []
        row = self.logits(context, 1)[0]
        found = [row.argmax()]
        while go_on is None or go_on(float(row.softmax(-1).amax())):
            if len(found) == count:
                break
            row = self._forward(found[-1].view(1, 1), 1)[0, 0]
            found.append(row.argmax())
        tokens = torch.stack(found).tolist()
        self._held = context + tokens[:-1]
        end = next((i for i, token in enumerate(tokens) if token in eos_ids), len(tokens))
        return tokens[: end + 1]

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
        if self._kv is not None:
            self._kv.repeat(rows)
        every = self._forward(torch.tensor(batch), rows)
        if self._kv is not None:
            # The longest row contains all the others, so its keys and values serve them all.
            self._kv.select(rows - 1)
        self._held = longest if self._cached else []
        return every.diagonal(dim1=0, dim2=1).T

    def _keep(self, ids: list[int], at_most: int) -> int:
        """Crop the cache to what it shares with ``ids``; returns how many tokens it then holds."""
        kept = min(_common_prefix(self._held, ids), at_most)
        if self._kv is None and (self._cached or self._strict):
            self._kv = KV(self._strict)
            kept = 0
        if self._kv is not None:
            self._kv.keep(kept)
        return kept

    def _in_chunks(self, ids: list[int], start: int, wanted: int) -> torch.Tensor:
        """[tokens from ``wanted`` on, vocabulary]: strict passes over those from ``start`` on.

        None of them crosses a block's end, so that a position always sees as many keys.
        """
        rows = []
        while start < len(ids):
            end = min(start + self._width, len(ids), (start // BLOCK + 1) * BLOCK)
            out = self._strict_pass(ids[start:end], start)
            if end > wanted:
                rows.append(out[max(0, wanted - start) :])
            start = end
        return torch.cat(rows)

    def _strict_pass(self, ids: list[int], start: int) -> torch.Tensor:
        kv = self._kv
        assert kv is not None
        keys = torch.arange((start // BLOCK + 1) * BLOCK)
        slots = start + torch.arange(self._width)
        # Padding stands where the last token does: a position past the context may not exist.
        positions = slots.clamp(max=start + len(ids) - 1)
        hidden = torch.finfo(self._model.dtype).min
        mask = torch.zeros(self._width, len(keys), dtype=self._model.dtype)
        mask.masked_fill_(keys > slots[:, None], hidden)
        out = self._forward(
            torch.tensor([ids + [0] * (self._width - len(ids))]),
            self._width,
            position_ids=positions[None].to(self._model.device),
            attention_mask=mask[None, None].to(self._model.device),
        )
        kv.keep(start + len(ids))
        return out[0, : len(ids)]

    def _forward(self, batch: torch.Tensor, last: int, **where: torch.Tensor) -> torch.Tensor:
        """[rows, last, vocabulary]. An interrupted pass leaves an empty lane, not a torn one."""
        kv, self._kv, self._held = self._kv, None, []
        out = self._model(
            input_ids=batch.to(self._model.device),
            past_key_values=kv,
            use_cache=kv is not None,
            **({"logits_to_keep": last} if self._trims else {}),
            **where,
        )
        self._kv = kv
        return out.logits[:, -last:]


def _common_prefix(a: list[int], b: list[int]) -> int:
    """Length of the longest common prefix, by halves: lists compare fast, Python loops do not."""
    same, most = 0, min(len(a), len(b))
    if a[:most] == b[:most]:
        return most
    while same < most:
        middle = (same + most + 1) // 2
        if a[same:middle] == b[same:middle]:
            same = middle
        else:
            most = middle - 1
    return same


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


def check_strict(model: Any, name: str) -> None:
    """Raises InputError when strict passes of this model are not what they promise.

    Tried here, on a few tokens: they agree with a plain pass, and give the same bits in any groups.
    """
    ids = list(range(2 * WIDTH))
    kind = model.config.model_type
    one, several = Lane(model, strict=True), Lane(model, strict=True)
    try:
        rows = torch.cat([one.logits(ids[: n + 1], 1) for n in range(WIDTH, 2 * WIDTH)])
        fits = _close(rows, Lane(model, cached=False).logits(ids, WIDTH))
    except (IndexError, RuntimeError, TypeError, ValueError):
        fits, rows = False, torch.empty(0)
    if not fits:
        raise InputError(
            f"{name} ({kind}) does not take the masks that strict numerics needs: "
            "use --numerics fast."
        )
    if not torch.equal(rows, several.logits(ids, WIDTH)):
        raise InputError(
            f"{name} ({kind}) rounds differently by a token's place in a pass on this machine: "
            "use --compile auto, or --numerics fast."
        )


def window(model: Any) -> int | None:
    """Tokens after which some layer forgets, and its cache can no longer be rolled back."""
    layers: list[Any] = DynamicCache(config=model.config).layers
    sizes = [layer.sliding_window for layer in layers if layer.is_sliding]
    return min(sizes, default=None)


def _croppable(model: Any) -> bool:
    """Rolls a real cache back by two tokens and asks whether the answer is what a new one gives."""
    lane, ids = Lane(model), [0, 1, 2, 3]
    try:
        lane.logits([*ids[:2], 3, 2], 1)
        return _close(lane.logits(ids, 1), Lane(model, cached=False).logits(ids, 1))
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return False


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    tolerance = 1e-3 if a.dtype == torch.float32 else 0.25
    return torch.allclose(a, b, atol=tolerance, rtol=tolerance)
