"""A draft model in the target's ids, where the two do not have the same ones.

Models of one tokenizer may pad their vocabularies differently, or have another token added. What
both have means the same to both; of the rest, what the draft would say is ruled out, so that its
law is one over ids that the target has, and what it hears is replaced. What a draft reads and says
never changes the text, so it stays the target's own.
"""

from __future__ import annotations

from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import torch


class Fitted:
    """Called as the model that it is made of, with the target's ids; ``logits`` are as wide as the
    target's, and -inf for ids that are not in ``shared``, which is not empty."""

    def __init__(self, model: Any, width: int, shared: Collection[int]) -> None:
        self._model, self._width = model, width
        known = torch.zeros(max(width, vocabulary(model)), dtype=torch.bool)
        known[sorted(shared)] = True
        heard = torch.where(known, torch.arange(len(known)), min(shared))
        self._heard = heard.to(model.device)
        self._ruled_out = (~known[:width]).nonzero()[:, 0].to(model.device)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, input_ids: torch.Tensor, **rest: Any) -> SimpleNamespace:
        logits = self._model(input_ids=self._heard[input_ids], **rest).logits
        fitted = logits.new_full((*logits.shape[:-1], self._width), float("-inf"))
        both = min(self._width, logits.shape[-1])
        fitted[..., :both] = logits[..., :both]
        fitted.index_fill_(-1, self._ruled_out.to(logits.device), float("-inf"))
        return SimpleNamespace(logits=fitted)


def vocabulary(model: Any) -> int:
    """Ids that a model reads and says; many pad it, so that it is more than the tokenizer has."""
    return model.config.get_text_config().vocab_size
