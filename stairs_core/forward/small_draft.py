"""A small draft made of a target: its embedding, a few layers of the draft's own, and the output
rows of the tokens that the target writes most.

It is a model of the target's class, so every pass that fits the target's kind fits it. Embedding
and output rows are the target's, in memory once and in no file; layers and last norm are trained
(``training.heads.draft``). Not all output rows, since reading them takes longer than the layers do.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from . import hidden_states
from .hidden_states import spread
from .layer_skip_view import twin


class SomeTokens(nn.Module):
    """An output layer over the tokens ``ids`` [n] of ``width``: logits [..., width] from what
    ``linear`` gives for these, -inf for the others, so that they have no chance."""

    ids: torch.Tensor
    linear: nn.Linear

    def __init__(self, linear: nn.Linear, ids: torch.Tensor, width: int) -> None:
        super().__init__()
        self.linear, self.width = linear, width
        self.register_buffer("ids", ids, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.spread(self.linear(x))

    def spread(self, logits: torch.Tensor) -> torch.Tensor:
        """[..., width], from [..., n]."""
        return spread(logits, self.ids, self.width)


def output_rows(lm_head: nn.Module) -> tuple[Any, Callable[[torch.Tensor], torch.Tensor]]:
    """The linear of an output layer, and what makes logits of all tokens of what it gives."""
    if isinstance(lm_head, SomeTokens):
        return lm_head.linear, lm_head.spread
    return lm_head, lambda logits: logits


class SmallDraft(nn.Module):
    """The parts that are a draft's own, for a stock target: at first copies of its lowest layers
    and of its last norm. ``ids`` [n]: the target's id of each token that it can guess."""

    ids: torch.Tensor

    def __init__(self, target: Any, layers: int, ids: torch.Tensor) -> None:
        """Raises InputError for a target in which layers, norm or output rows are not found."""
        super().__init__()
        hidden_states.output_layer(target)
        self.layers = copy.deepcopy(hidden_states.decoder_layers(target)[:layers])
        self.norm = copy.deepcopy(target.get_decoder().norm)
        self.register_buffer("ids", ids)

    def joined(self, target: Any) -> Any:
        """The draft, called like the target, with which it shares its embedding. Trained further,
        the parts of this module are trained."""
        whole, body = twin(target), twin(target.get_decoder())
        vars(whole).pop("weights_fingerprint", None)
        all_layers, rows = hidden_states.decoder_layers(target), target.get_output_embeddings()
        config = whole.config = body.config = copy.deepcopy(target.config)
        config.num_hidden_layers = len(self.layers)
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[: len(self.layers)]
        config.tie_word_embeddings = False
        whole.generation_config = copy.deepcopy(target.generation_config)
        with torch.device("meta"):
            some = nn.Linear(rows.in_features, len(self.ids), bias=rows.bias is not None)
        some.weight = nn.Parameter(rows.weight.detach()[self.ids], requires_grad=False)
        if rows.bias is not None:
            some.bias = nn.Parameter(rows.bias.detach()[self.ids], requires_grad=False)
        _replace(body, all_layers, self.layers)
        _replace(body, body.norm, self.norm)
        _replace(whole, target.get_decoder(), body)
        _replace(whole, rows, SomeTokens(some, self.ids, len(rows.weight)))
        return whole


def _replace(module: Any, old: nn.Module, new: nn.Module) -> None:
    """Puts ``new`` where ``old`` is a part of the module."""
    name = next(name for name, part in module._modules.items() if part is old)
    module._modules[name] = new
