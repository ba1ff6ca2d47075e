"""Trains Medusa's heads: head k learns the token k + 2 positions later in the target's texts."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ...forward import hidden_states
from ...forward.medusa_heads import MedusaHeads
from .ahead import Ahead
from .loop import Batch, Loss

TOKENS = 64
"""Positions of each text that are trained on: the output layer is most of the work."""


def new(
    model: Any, files: Sequence[Path], layers: tuple[int, ...], options: Namespace
) -> tuple[MedusaHeads, dict[str, Any]]:
    """Untrained heads, and what their config says of them."""
    module = MedusaHeads(model.config.get_text_config().hidden_size, options.heads, options.depth)
    return module, {
        "stairs_head": "medusa",
        "medusa_num_heads": options.heads,
        "medusa_num_layers": options.depth,
    }


def loss_of(module: MedusaHeads, model: Any, dtype: torch.dtype) -> Loss:
    """The heads' cross-entropy on the text, and how often each is right."""
    output = hidden_states.output_layer(model)
    count = len(module.heads)

    def loss(batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        ahead = Ahead.of(batch, count, TOKENS * len(batch["ids"]), model.device)
        row, at = ahead.row.cpu(), ahead.at.cpu()
        hidden = batch["hidden"][row, at, -1].to(model.device, torch.float32)
        with torch.autocast(model.device.type, dtype, enabled=dtype is not torch.float32):
            logits = output(module(hidden))
        return ahead.cross_entropy(logits), ahead.right(logits)

    return loss
