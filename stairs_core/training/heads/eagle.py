"""Trains EAGLE-3's head: as it will draft, several tokens in a row from its own outputs.

Li et al. 2025, arXiv 2503.01840, training-time test. Step 0 reads the target's features at every
position at once; step i reads what step i - 1 gave, one token later. A query of step i sees the
features' keys up to where its draft began, and after them the keys of its own draft. Every step is
taught the target's own distribution of the next token, and weighs 0.8 times the step before.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from transformers import LlamaConfig

from ...forward import hidden_states
from ...forward.eagle_head import EagleHead, EagleShape
from ...models.eagle_format import config_of
from .loop import Batch, Loss, taught
from .wanted import Wanted, counted

LATER = 0.8
"""The loss of each step weighs this times that of the one before, as in the authors' code."""
SMALL = 0.1
"""The last norm at the start. Output rows are the target's own, whose logits would begin so large
that the first losses are tens of nats."""
ALONE = 0.3
"""The share of training in which only step 0 is trained: later steps read what it gives."""


def shape_for(model: Any, layers: tuple[int, ...], vocabulary: int) -> EagleShape:
    """A head for a target: as wide as one of its layers."""
    text = model.config.get_text_config()
    width = text.hidden_size

    def like_the_targets(name: str, otherwise: int) -> int:
        found = getattr(text, name, None)  # some families have none, or one for each layer
        return found if type(found) is int and found > 0 else otherwise

    heads = like_the_targets("num_attention_heads", max(1, width // 64))
    config = LlamaConfig(
        vocab_size=text.vocab_size,
        hidden_size=width,
        intermediate_size=like_the_targets("intermediate_size", 2 * width),
        num_hidden_layers=1,
        num_attention_heads=heads,
        num_key_value_heads=like_the_targets("num_key_value_heads", heads),
        head_dim=like_the_targets("head_dim", max(2, width // heads)),
        max_position_embeddings=like_the_targets("max_position_embeddings", 2048),
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=False,
    )
    return EagleShape(
        config, layers[:3], width, vocabulary, norm_before_residual=True, fc_norm=True
    )


def new(
    model: Any, files: Sequence[Path], layers: tuple[int, ...], options: Namespace
) -> tuple[EagleHead, dict[str, Any]]:
    """An untrained head, and its config. ``files``: the target's texts.

    It begins with the target's output rows and, where the target has such, the norms that its own
    layers put before the features.
    """
    tokens = model.config.get_text_config().vocab_size
    ids = counted(files, options.vocabulary, tokens)
    head = EagleHead(shape_for(model, layers, len(ids)), tokens)
    head.unroll, head.alone = options.unroll, 0.0 if options.start else ALONE
    for module in head.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=0.5 * module.in_features**-0.5)
    assert head.fc_norm is not None
    own = hidden_states.decoder_layers(model)
    for layer, norm in zip(layers, head.fc_norm, strict=False):  # not the last layer's output
        weight = getattr(getattr(own[layer], "input_layernorm", None), "weight", None)
        if isinstance(weight, torch.Tensor) and isinstance(norm, torch.nn.RMSNorm):
            norm.weight.data.copy_(weight / weight.float().pow(2).mean().sqrt())
    rows = model.get_output_embeddings().weight.detach()[ids.to(model.device)].float().cpu()
    head.lm_head.weight.data.copy_(rows)
    torch.nn.init.constant_(head.norm.weight, SMALL)
    head.d2t.copy_(ids - torch.arange(len(ids)))
    head.t2d[ids] = True
    return head, config_of(head.shape, model, guesses=options.unroll)


def loss_of(module: EagleHead, model: Any, dtype: torch.dtype) -> Loss:
    """The head's cross-entropy against the target's distribution, and how often each step's most
    likely token is the target's."""
    output, ids_of = hidden_states.output_layer(model), module.ids.to(model.device)
    module.embedding = hidden_states.embedding(model).float()
    kinds, low = model.device.type, dtype is not torch.float32
    count = len(module.shape.features)

    def loss(batch: Batch) -> tuple[torch.Tensor, dict[str, Any]]:
        ids = batch["ids"].to(model.device)
        next_taught = F.pad(taught(batch, model.device)[:, 1:], (0, 1))
        hidden = batch["hidden"].to(model.device)
        unrolled = module.unroll if float(batch["done"]) >= module.alone else 1
        with torch.autocast(kinds, dtype, enabled=low):
            wanted = Wanted.at(next_taught, hidden[:, :, -1].to(dtype), output, ids_of)
            every = _unrolled(module, ids, hidden[:, :, :count].float(), unrolled)
            total, weights, shown = torch.zeros((), device=ids.device), 0.0, {}
            for i, normed in enumerate(every):
                # Index t of step i has read the text up to token t + 1 + i.
                at = slice(i + 1, normed.shape[1] + i + 1)
                there = next_taught[:, at]
                rows = wanted.row[:, at][there]
                if i and not len(rows):  # no text of this step is so long
                    break
                nats, right = wanted.judge(rows, module.lm_head(normed[there]))
                total, weights = total + LATER**i * nats, weights + LATER**i
                shown[f"right{i + 1}"] = right
        return total / weights, shown

    return loss


def _unrolled(
    module: EagleHead, ids: torch.Tensor, features: torch.Tensor, steps: int
) -> list[torch.Tensor]:
    """For each step, its outputs after the last norm, [texts, tokens, width].

    Index t belongs to the draft that begins after the features of position t, in every step; so
    step i has i tokens fewer. ``features``: [texts, length, layers, width].
    """
    attention = module.layer.self_attn
    hidden = module.combine(features)[:, :-1]
    keys, values, found = [], [], []
    for i in range(steps):
        tokens = ids.shape[1] - 1 - i
        if tokens < 1:
            break
        hidden = hidden[:, :tokens]
        residual, x = module.opened(ids[:, 1 + i :], hidden)
        places = torch.arange(i, tokens + i, device=ids.device)
        q, k, v = attention.heads_of(x, module.angles(x, places))
        group = q.shape[1] // k.shape[1]
        keys.append(k.repeat_interleave(group, 1))
        values.append(v.repeat_interleave(group, 1))
        hidden, normed = module.closed(residual, _attend(q, keys, values))
        found.append(normed)
    return found


def _attend(q: torch.Tensor, keys: list[torch.Tensor], values: list[torch.Tensor]) -> torch.Tensor:
    """Attention of the last step, all [texts, heads, tokens, head]: over the first step's keys up
    to the query's own index, and the later steps' at that index."""
    if len(keys) == 1:
        return F.scaled_dot_product_attention(q, keys[0], values[0], is_causal=True)
    tokens, q = q.shape[2], q * q.shape[3] ** -0.5
    future = torch.ones(tokens, tokens, dtype=torch.bool, device=q.device).triu(1)
    text = (q @ keys[0][:, :, :tokens].transpose(2, 3)).masked_fill(future, float("-inf"))
    own = [(q * k[:, :, :tokens]).sum(-1, keepdim=True) for k in keys[1:]]
    weights = torch.cat([text, *own], -1).softmax(-1, dtype=torch.float32).to(q.dtype)
    mixed = weights[..., :tokens] @ values[0][:, :, :tokens]
    for i, v in enumerate(values[1:]):
        mixed = mixed + weights[..., tokens + i, None] * v[:, :, :tokens]
    return mixed
