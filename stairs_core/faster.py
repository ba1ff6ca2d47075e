"""How a loaded model is made faster: ``--compile auto``, ``off`` or ``on``.

Measured on two CPU cores with the bundled pair, ms for a target pass over one token and over eight:
as transformers made it 7.2 and 9.4; packed 5.6 and 6.3; lean 3.7 and 4.5; torch.compile
with its weights frozen 5.1 and 8.4, after 12 seconds of compiling for each shape.
"""

from __future__ import annotations

from typing import Any

import torch

from . import lean, packed, quantised


def build(model: Any, how: str) -> Any:
    """A model to be called as the one given.

    ``off``: the one given. ``on``: through torch.compile, which needs a C++ compiler on a CPU.
    ``auto``: on a CPU, what was measured to be faster there, now (``lean``, else ``packed``);
    elsewhere the one given.
    """
    if how == "on":
        model.forward = torch.compile(model.forward)
    spread = len(set(getattr(model, "hf_device_map", {}).values())) > 1
    # Quantised layers are of other kinds than those that are packed, or read, here.
    odd = spread or quantised.label(model.config) is not None
    if how != "auto" or odd or not packed.pays(model):
        return model
    if lean.fits(model):
        return lean.LeanLlama(model, consume=True)
    packed.pack(model)
    return model
