"""How a loaded model is made faster: ``--compile auto``, ``off`` or ``on``.

Measured on two CPU cores with the bundled pair, ms for a target pass over one token and over eight:
as transformers made it 7.2 and 9.4; packed 5.6 and 6.3; lean 3.7 and 4.5; torch.compile
with its weights frozen 5.1 and 8.4, after 12 seconds of compiling for each shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from . import lean, packed, quantised
from .encoded import bind
from .lane import Lane
from .tryouts import agree, tokens, tried


def build(model: Any, how: str, again: Callable[[], Any]) -> Any:
    """A model to be called as the one given, which may be used up.

    ``off``: the one given. ``on``: through torch.compile, which needs a C++ compiler on a CPU.
    ``auto``: on a CPU, what was measured to be faster there, now (``lean``, else ``packed``), if it
    says the same on a few tokens; elsewhere the one given. ``again`` loads that one anew, where it
    was used up in vain.
    """
    if how == "on":
        model.forward = torch.compile(model.forward)
    spread = len(set(getattr(model, "hf_device_map", {}).values())) > 1
    # Quantised layers are of other kinds than those that are packed, or read, here.
    odd = spread or quantised.label(model.config) is not None
    if how != "auto" or odd or not packed.pays(model):
        return model
    said = _says(model)
    try:
        quick = _quicker(model)
    except torch.OutOfMemoryError:
        raise
    except Exception:
        return again()
    return quick if agree(_says(quick), said) else again()


def _quicker(model: Any) -> Any:
    if lean.fits(model):
        return lean.LeanLlama(model, consume=True)
    packed.pack(model)
    return model


def _says(model: Any) -> torch.Tensor | None:
    """[3, vocabulary]: its logits over a few tokens, in two passes; None where it fails.

    A layer's weights, packed, are where some models' own code does not find them.
    """
    ids = tokens(model, 6)
    lane = Lane(bind(model, ids[:1]))

    def passes() -> torch.Tensor:
        return torch.cat([lane.logits(ids[:4], 1), lane.logits(ids, 2)])

    return tried(passes)
