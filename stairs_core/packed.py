"""Linear layers whose weights are packed once for oneDNN, on CPUs where that is faster.

Stock ``nn.Linear`` hands oneDNN a plain matrix, which is packed again at every call. For the few
rows of a decoding pass that packing is most of the time, and it is why a stock pass over six tokens
costs 1.6 times a pass over one. These are the operators that torch's own compiler uses when it
freezes a model (``torch._inductor.fx_passes.mkldnn_fusion``).
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn

_ROWS = 8  # what the weights are laid out for: a step's guess and its own token
_TRIALS = 12


class PackedLinear(nn.Module):
    """``nn.Linear`` for inference: [..., in] to [..., out], float32, on a CPU."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach()
        self.bias = linear.bias
        # Not a buffer: an opaque layout can neither be saved nor moved.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self._weight, self.bias, "none", [], "")


def pack(model: Any) -> int:
    """Packs the model's linear layers where that pays; returns how many (0 where it does not)."""
    found = [m for m in model.modules() if type(m) is nn.Linear]
    if not found or not _possible(model) or not _pays(max(found, key=lambda m: m.weight.numel())):
        return 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, PackedLinear(child))
    return len(found)


def _possible(model: Any) -> bool:
    on_cpu = model.device.type == "cpu" and model.dtype == torch.float32
    return on_cpu and torch.backends.mkldnn.is_available()


@torch.inference_mode()
def _pays(linear: nn.Linear) -> bool:
    """Whether one row and six together come out faster, on this machine, now."""
    packed = PackedLinear(linear)
    inputs = [torch.randn(1, rows, linear.in_features) for rows in (1, 6)]
    return sum(_best(packed, x) for x in inputs) < sum(_best(linear, x) for x in inputs)


def _best(layer: nn.Module, x: torch.Tensor) -> float:
    layer(x)
    times = []
    for _ in range(_TRIALS):
        began = time.perf_counter()
        layer(x)
        times.append(time.perf_counter() - began)
    return min(times)
