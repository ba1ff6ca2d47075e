"""Some of a model's layers alone: from one layer's hidden states to those of a later one.

Hidden states are named as in ``hidden_states``, by how many layers have run.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch

from ..errors import InputError, Use
from ..settings.methods import FREE
from . import hidden_states
from .kv_cache import KV, argument
from .sliding_windows import Windows


def check(model: Any) -> None:
    """Raises InputError for a model whose layers cannot be run without the ones below."""
    if getattr(model, "through", None):  # a model of ours
        return
    layers = hidden_states.decoder_layers(model)
    takes = inspect.signature(layers[0].forward).parameters
    rotary = getattr(model.get_decoder(), "rotary_emb", None)
    if rotary is None or "position_embeddings" not in takes or Windows(model.config).any:
        raise InputError(
            f"The upper layers of {model.config.model_type} cannot be run alone here: ",
            Use(drafter=FREE),
            ".",
        )


def through(
    model: Any,
    x: torch.Tensor,
    layers: tuple[int, int],
    places: torch.Tensor,
    seen: torch.Tensor,
    kv: KV | None = None,
) -> torch.Tensor:
    """[rows, tokens, width]: the output of layer ``layers[1]``, from that of layer ``layers[0]``.

    ``x``: [rows, tokens, width]. ``places``: [tokens], their positions. ``seen``: [tokens, keys]
    booleans, what each token may attend to: first the tokens in ``kv``, then those of ``x``, which
    join it.
    """
    if own := getattr(model, "through", None):  # a model of ours
        return own(x, layers, places, seen, kv)
    mask = torch.zeros(seen.shape, dtype=x.dtype, device=x.device)
    mask = mask.masked_fill_(~seen, torch.finfo(x.dtype).min)[None, None]
    turns = model.get_decoder().rotary_emb(x, places[None])
    for layer in hidden_states.decoder_layers(model)[slice(*layers)]:
        out = layer(
            x,
            attention_mask=mask,
            position_ids=places[None],
            position_embeddings=turns,
            use_cache=kv is not None,
            **{argument(layer): kv},
        )
        x = out[0] if isinstance(out, tuple) else out
    return x
