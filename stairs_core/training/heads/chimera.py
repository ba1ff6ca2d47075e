"""Trains Chimera's heads on the target's texts, with what was guessed before taken from them."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from ...forward import hidden_states
from ...forward.chimera_heads import TRIGRAM, ChimeraHeads
from .ahead import Ahead
from .loop import Batch, Loss

TOKENS = 48
"""Positions of each text that are trained on: the output layer is much of the work."""


def new(
    model: Any, files: Sequence[Path], layers: tuple[int, ...], options: Namespace
) -> tuple[ChimeraHeads, dict[str, Any]]:
    """Untrained heads, and what their config says of them."""
    text = model.config.get_text_config()
    width = text.hidden_size
    most = text.num_attention_heads
    attention = max(n for n in range(1, most + 1) if width % (2 * n) == 0)
    return ChimeraHeads(width, options.heads, attention, width), {
        "stairs_head": "chimera",
        "chimera_num_heads": options.heads,
        "chimera_attention_heads": attention,
        "chimera_intermediate_size": width,
    }


def loss_of(module: ChimeraHeads, model: Any, dtype: torch.dtype) -> Loss:
    """The heads' cross-entropy on the text, and how often each is right."""
    output, embedding = hidden_states.output_layer(model), hidden_states.embedding(model)
    count, device = len(module.heads), model.device

    def loss(batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        ahead = Ahead.of(batch, count, TOKENS * len(batch["ids"]), device)
        hidden = batch["hidden"][:, :, -1].to(device, torch.float32)
        with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
            x, mixed = over_text(module, embedding[batch["ids"].to(device)].float(), hidden)
            found = []
            for number in range(count):
                # The head reads the layer at the token before the one that it predicts.
                place = (ahead.at + 1 + number).clamp(max=x.shape[1] - 1)
                one = module.rest(x[ahead.row, place], mixed[ahead.row, number, place])
                found.append(module.head(number, hidden[ahead.row, ahead.at], one))
            logits = output(torch.stack(found, 1))
        return ahead.cross_entropy(logits), ahead.right(logits)

    return loss


def over_text(
    module: ChimeraHeads, embedded: torch.Tensor, hidden: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The layer at every position of texts: its inputs [texts, length, width], and the values
    that its attention mixes for each head, [texts, heads, length, width].

    At position i, head k sees the target's hidden states up to i - k - 1, then the trigrams up to
    its own: as many as there were guesses. ``embedded``, ``hidden``: [texts, length, width].
    """
    texts, length, width = hidden.shape
    count, places = len(module.heads), torch.arange(length, device=hidden.device)
    before = F.pad(embedded.mT, (TRIGRAM - 1, 0), "replicate").mT
    x = module.trigrams(before.unfold(1, TRIGRAM, 1).mT)
    of_target, of_trigrams = module.keys(hidden, places), module.keys(x, places)
    keys, values = (torch.cat(pair, 2) for pair in zip(of_target, of_trigrams, strict=True))
    seen = seen_by(length, count, hidden.device)
    queries = module.queries(x, places).repeat(1, 1, count, 1)  # once for each head
    mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=seen)
    return x, mixed.transpose(1, 2).reshape(texts, count, length, width)


def seen_by(length: int, count: int, device: torch.device | None = None) -> torch.Tensor:
    """[heads * length, 2 * length] booleans: which of the target's hidden states, and after them
    which trigrams, each head sees at each position.

    >>> seen_by(3, 2).int()[3:]  # head 1: the hidden states up to i - 2, the trigrams from i - 1 on
    tensor([[0, 0, 0, 1, 0, 0],
            [0, 0, 0, 1, 1, 0],
            [1, 0, 0, 0, 1, 1]], dtype=torch.int32)
    """
    places = torch.arange(length, device=device)
    parts = []
    for number in range(count):
        read = places <= places[:, None] - number - 1
        guessed = (places <= places[:, None]) & ~read
        parts.append(torch.cat([read, guessed], 1))
    return torch.cat(parts)
