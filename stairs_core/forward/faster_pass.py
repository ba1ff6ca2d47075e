"""Makes a loaded model's forward pass faster: ``--compile auto``, ``off`` or ``on``.

Measured on two CPU cores with the bundled pair, ms for a target pass over one token and over eight:
transformers' own 7.2 and 9.4; packed 5.6 and 6.3; lean 3.7 and 4.5; torch.compile
with its weights frozen 5.1 and 8.4, after 12 seconds of compiling for each shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from . import cuda_graphs, lean_llama, packed_linear, quantised_weights
from .cached_model import CachedModel
from .encoder_decoder import bind
from .hidden_states import fingerprint
from .tryouts import TRIED, agree, rounding, tokens, tried


def build(model: Any, how: str, again: Callable[[], Any]) -> Any:
    """The same model with a faster pass. It may take the given model's weights away.

    ``off``: the given model. ``on``: compiled by torch.compile, which needs a C++ compiler on a
    CPU. ``auto``: on a CPU where packed weights are measured to be faster, ``lean_llama`` or else
    ``packed_linear``, if its logits agree on a few tokens; on a GPU the given model, whose short
    passes are then replayed by ``cuda_graphs`` where these fit it and agree. ``again``: loads the
    model once more, for when the faster pass failed after taking the weights.
    """
    if how == "on":
        model.forward = torch.compile(model.forward)
    spread = len(set(getattr(model, "hf_device_map", {}).values())) > 1
    # Quantised layers are of kinds that cannot be packed here.
    odd = spread or quantised_weights.label(model.config) is not None
    if how == "auto" and not odd and cuda_graphs.fits(model):
        _replay(model)
        return model
    if how != "auto" or odd or not packed_linear.pays(model):
        return model
    fingerprint(model)  # before packing takes weights away
    expected, tolerance = _logits(model, whole=True), rounding(model)
    try:
        quick = _quicker(model)
    except torch.OutOfMemoryError:
        raise
    except Exception:
        return again()
    return quick if agree(_logits(quick), expected, tolerance) else again()


def kind(model: Any) -> str:
    """What computes the model's passes now: "graphs", "lean", "packed", "compiled" or "stock"."""
    if isinstance(model, lean_llama.LeanLlama):
        return "lean"
    if cuda_graphs.of(model) is not None:
        return "graphs"
    if not isinstance(model, torch.nn.Module):  # wraps one, whose graphs it does not replay
        found = kind(model.inner)
        return "stock" if found == "graphs" else found
    if hasattr(model.forward, "_torchdynamo_orig_callable"):
        return "compiled"
    packed = any(isinstance(part, packed_linear.PackedLinear) for part in model.modules())
    return "packed" if packed else "stock"


def _quicker(model: Any) -> Any:
    if lean_llama.fits(model):
        return lean_llama.LeanLlama(model, consume=True)
    packed_linear.pack(model)
    return model


def _replay(model: Any) -> None:
    """Gives the model graphs, unless its logits are others with them or they cannot be recorded."""
    chain, tree, tolerance = _logits(model), _of_tree(model), rounding(model)
    cuda_graphs.attach(model)
    try:
        right = agree(_logits(model), chain, tolerance) and agree(_of_tree(model), tree, tolerance)
    except torch.OutOfMemoryError:
        right = False
    if not right:
        cuda_graphs.detach(model)


def _of_tree(model: Any) -> torch.Tensor | None:
    """[4, vocabulary]: logits over a small tree; None where the model fails."""
    ids, cached = tokens(model, TRIED), CachedModel(model)

    def passes() -> torch.Tensor:
        cached.logits(ids[:-3], 1)
        return cached.tree(ids[:-3], ids[-3:], [-1, -1, 0], 4)

    return tried(passes)


def _logits(model: Any, *, whole: bool = False) -> torch.Tensor | None:
    """[3, vocabulary]: logits over a few tokens, in two passes, or in one over the ``whole``, which
    is what others are compared with; None where the model fails, as some do whose code reads the
    weights that were packed.
    """
    ids = tokens(model, TRIED)
    cached = CachedModel(bind(model, ids[:1]))

    def passes() -> torch.Tensor:
        if whole:
            return cached.logits(ids, 3)
        return torch.cat([cached.logits(ids[:-2], 1), cached.logits(ids, 2)])

    return tried(passes)
