"""A draft model over the target's vocabulary, where the two models' vocabularies differ in size.

Models of one tokenizer may pad their vocabularies differently, or have different added tokens. Ids
that only the target has are replaced in the draft's input; ids that only the draft has get the
logit -inf, so that q is a distribution over the target's vocabulary. Neither can change the
output, which the target verifies.
"""

from __future__ import annotations

from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import torch


class Fitted:
    """Called like ``model``, with the target's ids. ``logits``: [..., width], -inf for ids that are
    not in ``shared``, which must not be empty."""

    def __init__(self, model: Any, width: int, shared: Collection[int]) -> None:
        self.inner, self.ids = model, Ids(model, width, shared)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __call__(self, input_ids: torch.Tensor, **rest: Any) -> SimpleNamespace:
        logits = self.inner(input_ids=self.ids.known(input_ids), **rest).logits
        return SimpleNamespace(logits=self.ids.fitted(logits))


class Ids:
    """From the target's ids to the draft's, and back from the draft's logits."""

    def __init__(self, model: Any, width: int, shared: Collection[int]) -> None:
        self._width = width
        known = torch.zeros(max(width, vocabulary(model)), dtype=torch.bool)
        known[sorted(shared)] = True
        replaced = torch.where(known, torch.arange(len(known)), min(shared))
        self._replaced = replaced.to(model.device)
        self._ruled_out = (~known[:width]).nonzero()[:, 0].to(model.device)

    def known(self, ids: torch.Tensor) -> torch.Tensor:
        """The ids that the draft is given."""
        return self._replaced[ids]

    def fitted(self, logits: torch.Tensor) -> torch.Tensor:
        """[..., width], over the target's vocabulary, from logits over the draft's."""
        fitted = logits.new_full((*logits.shape[:-1], self._width), float("-inf"))
        both = min(self._width, logits.shape[-1])
        fitted[..., :both] = logits[..., :both]
        fitted.index_fill_(-1, self._ruled_out.to(logits.device), float("-inf"))
        return fitted


def vocabulary(model: Any) -> int:
    """The size of a model's vocabulary: often padded, so larger than the tokenizer's."""
    return model.config.get_text_config().vocab_size
