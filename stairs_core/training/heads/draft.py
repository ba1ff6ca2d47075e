"""Trains a small draft: one or two layers on the target's embedding, started from its own.

It is taught the target's distribution at every place of the target's texts (Hinton et al. 2015,
arXiv 1503.02531), as DistillSpec (arXiv 2310.08461) does with texts of the target's.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from ...forward import hidden_states
from ...forward.small_draft import SmallDraft
from ...models import heads
from .loop import Batch, Loss, taught
from .wanted import Wanted, counted

SMALL = 0.3
"""The last norm at the start, of the target's: what a lowest layer gives, read as if it were the
highest's, would have losses of tens of nats."""


def new(
    model: Any, files: Sequence[Path], layers: tuple[int, ...], options: Namespace
) -> tuple[SmallDraft, dict[str, Any]]:
    """An untrained draft, and its config. ``files``: the target's texts."""
    ids = counted(files, options.vocabulary, model.config.get_text_config().vocab_size)
    draft = SmallDraft(model, max(1, options.depth), ids.to(model.device)).float()
    draft.norm.weight.data.mul_(SMALL)
    return draft.requires_grad_(), {
        heads.KIND: "draft",
        "layers": len(draft.layers),
        "vocabulary": len(ids),
    }


def loss_of(module: SmallDraft, model: Any, dtype: torch.dtype) -> Loss:
    """The draft's cross-entropy against the target's distribution, and how often its most likely
    token is the target's."""
    output, ids_of = hidden_states.output_layer(model), module.ids.to(model.device)
    embedding = hidden_states.embedding(model).float()
    whole = module.joined(model)
    body, rows = whole.get_decoder(), whole.get_output_embeddings().linear

    def loss(batch: Batch) -> tuple[torch.Tensor, dict[str, Any]]:
        ids = batch["ids"].to(model.device)
        next_taught = F.pad(taught(batch, model.device)[:, 1:], (0, 1))
        last = batch["hidden"].to(model.device)[:, :, -1]
        with torch.autocast(model.device.type, dtype, enabled=dtype is not torch.float32):
            wanted = Wanted.at(next_taught, last.to(dtype), output, ids_of)
            read = body(inputs_embeds=F.embedding(ids, embedding), use_cache=False)
            logits = rows(read.last_hidden_state[next_taught])
            nats, right = wanted.judge(wanted.row[next_taught], logits)
        return nats, {"right1": right}

    return loss
