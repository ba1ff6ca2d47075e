"""What a model that is being tuned knows of texts that it is not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..evaluate import validation_loss
from .objective import IGNORE, draw_anchors, end_in_masks
from .rows import encoded

ROWS = 16
"""The most held-out rows: they are read several times in a run."""
DRAWS = 4
"""Groups that each row is asked for, a pass each."""


@dataclass(frozen=True)
class Held:
    """``rows``: [rows, length + 1] ids of held-out text; there may be none."""

    rows: torch.Tensor
    k: int
    mask_id: int
    ends: tuple[int, ...]

    @classmethod
    def of(
        cls,
        tokenizer: Any,
        works: Sequence[str],
        end: int | None,
        length: int,
        *facts: Any,
    ) -> Held:
        """From held-out works; ``facts``: the other fields."""
        if not works:
            return cls(torch.empty(0, length + 1, dtype=torch.long), *facts)
        ids = encoded(tokenizer, works, end, ROWS * length + 1, seed=0)
        return cls(ids.unfold(0, length + 1, length), *facts)

    @torch.no_grad()
    def measure(self, model: Any) -> dict[str, float]:
        """``held``: the loss of a token of plain text, in nats. ``mask1`` ... ``maskK``: how often
        each mask says the right token. Empty where nothing is held out."""
        if not len(self.rows):
            return {}
        generator = torch.Generator().manual_seed(0)
        hits, counts = torch.zeros(self.k), torch.zeros(self.k)
        for chunk in self.rows.repeat(DRAWS, 1).split(4):
            rows = chunk[:, :-1]
            anchors = draw_anchors(len(rows), rows.shape[1], generator, self.k, 1)
            facts = (self.k, self.mask_id, self.ends)
            batch = end_in_masks(rows, chunk[:, 1:], anchors, *facts)
            at = anchors + torch.arange(self.k)  # [rows, k]
            wanted = batch["labels"].gather(1, at)
            logits = model(batch["input_ids"].to(model.device), use_cache=False).logits.cpu()
            said = logits.argmax(-1).gather(1, at)
            hits += ((said == wanted) & (wanted != IGNORE)).sum(0)
            counts += (wanted != IGNORE).sum(0)
        right = (hits / counts.clamp(min=1)).tolist()
        found = {f"mask{i + 1}": round(share, 4) for i, share in enumerate(right)}
        return {"held": round(validation_loss(model, self.rows), 4), **found}
