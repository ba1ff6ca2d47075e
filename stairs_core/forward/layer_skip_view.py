"""Views of a model without some of its sublayers, sharing all of its weights.

A view is called like its model. A skipped sublayer adds nothing to the residual stream, and a
skipped attention writes nothing to a cache.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from ..errors import InputError, Use, Value, Word

INSTEAD = Use(drafter=("lookup", "suffix"))
"""Drafters that need nothing but the text."""
_ATTENTION = {"self_attn", "self_attention", "attention", "attn"}
_MLP = {"mlp"}


def skip(model: Any, attentions: Collection[int], mlps: Collection[int]) -> Any:
    """``model`` without the attention of the layers ``attentions`` and the MLP of ``mlps``.

    The first layer's attention must stay, since a cache's length is taken from it. Raises
    InputError for a model whose layers have no such parts, or whose ``forward`` was replaced.
    """
    assert 0 not in attentions
    if own := getattr(model, "without", None):  # a model of ours
        return own(attentions, mlps)
    view = layers = _twin(model)
    for name in _path(model):
        layers = _with_twin(layers, name)
    for index in {*attentions, *mlps}:
        layer = _with_twin(layers, str(index))
        if index in attentions:
            layer._modules[_part(layer, _ATTENTION)] = _NoAttention()
        if index in mlps:
            layer._modules[_part(layer, _MLP)] = _NoMLP()
    return view


class _NoAttention(nn.Module):
    def forward(self, hidden_states: torch.Tensor, **_: Any) -> tuple[torch.Tensor, None]:
        return torch.zeros_like(hidden_states), None


class _NoMLP(nn.Module):
    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(hidden_states)


def twin(module: Any) -> Any:
    """A shallow copy of a module, in which submodules can be replaced without changing the
    original. Not for one whose ``forward`` ``is_replaced``."""
    found = copy.copy(module)
    found._modules = dict(module._modules)
    return found


def is_replaced(module: Any) -> bool:
    """Whether the module has a ``forward`` of its own, as where it is compiled or spread. That is
    bound to the module, so a twin would run the original's submodules."""
    return "forward" in vars(module)


def _twin(module: Any) -> Any:
    """The same, or InputError where that cannot be."""
    if is_replaced(module):
        raise InputError(
            "The ",
            Word("drafter"),
            " ",
            Value("drafter", "layer-skip"),
            " cannot leave out parts of a compiled or spread model: ",
            Use(compile="auto", drafter=("lookup", "suffix")),
            ".",
        )
    return twin(module)


def _with_twin(module: Any, name: str) -> Any:
    """Replaces a module's submodule of that name by its twin, and returns the twin."""
    found = module._modules[name] = _twin(module._modules[name])
    return found


def _path(model: Any) -> list[str]:
    """The names that lead to the list of decoder layers."""
    count = model.config.get_text_config().num_hidden_layers
    decoder = {*model.get_decoder().modules()}  # beside it there may be one that sees
    found = [
        name
        for name, module in model.named_modules()
        if module in decoder
        and isinstance(module, nn.ModuleList)
        and len(module) == count
        and all(_part(layer, _ATTENTION) and _part(layer, _MLP) for layer in module)
    ]
    if len(found) != 1:
        raise InputError(
            f"The layers of {model.config.model_type} have no attention and MLP that could be left "
            "out: ",
            INSTEAD,
            ".",
        )
    return found[0].split(".")


def _part(layer: nn.Module, names: set[str]) -> str | None:
    """The name of the layer's submodule that is called one of ``names``."""
    return next((name for name in layer._modules if name in names), None)
