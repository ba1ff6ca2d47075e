"""Linear layers with weights packed once for oneDNN, on CPUs where that is faster.

``nn.Linear`` passes oneDNN a plain matrix, which is packed again at every call. For the few rows of
a decoding pass, packing takes most of the time, and makes a pass over six tokens cost 1.6 times a
pass over one. The operators here are those that torch's compiler uses when it freezes a model
(``torch._inductor.fx_passes.mkldnn_fusion``).
"""

from __future__ import annotations

import functools
import time
from typing import Any

import torch
from torch import nn

_ROWS = 8  # rows that the layout is chosen for: a step's guesses and one more
_TRIALS = 12
_SAMPLE = 2**22
"""So many of a layer's weights are timed: all of a large one would take half a second, to say the
same."""
_EACH = 16
"""Up to so many rows a pass has its own kernels; above, see ``_padded``."""
_DOUBTED = 3
"""Times that it is measured before packed weights are taken for slower. Beside other work, one
measurement in ten says so where they are twice as fast, and what it says holds until the end."""


class PackedLinear(nn.Module):
    """``nn.Linear`` for inference: [..., in] to [..., out], float32, on a CPU."""

    weight = None  # T5 reads it for its dtype, and accepts None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        # Looked up here, not at import: a torch without oneDNN has no such operators.
        self._unary = torch.ops.mkldnn._linear_pointwise.default
        self._binary = torch.ops.mkldnn._linear_pointwise.binary
        # Not a buffer: an opaque layout can neither be saved nor moved.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _ROWS)

    @classmethod
    def joined(cls, linears: list[nn.Linear]) -> PackedLinear:
        """One layer whose output is the outputs of several layers, concatenated."""
        size = linears[0].in_features, sum(m.out_features for m in linears)
        out = nn.Linear(*size, bias=False, device="meta")  # random weights would take a while
        with torch.no_grad():
            out.weight = nn.Parameter(torch.cat([m.weight for m in linears]))
            if any(m.bias is not None for m in linears):
                parts = [torch.zeros(m.out_features) if m.bias is None else m.bias for m in linears]
                out.bias = nn.Parameter(torch.cat(parts))
        return cls(out)

    def forward(
        self,
        x: torch.Tensor,
        activation: str = "none",
        *,
        add: torch.Tensor | None = None,
        times: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The output after ``activation``, or with a tensor of its shape added or multiplied."""
        rows = x.numel() // self.in_features
        if rows != (most := _padded(rows)):
            # Rows that nobody reads. The slice is of the first dimension, and so contiguous.
            wide = [None if t is None else _with_rows(t, most) for t in (x, add, times)]
            out = self(wide[0], activation, add=wide[1], times=wide[2])[:rows]
            return out.view(*x.shape[:-1], self.out_features)
        if add is not None:
            return self._binary(x, add, self._weight, self.bias, "add")
        if times is not None:
            return self._binary(x, times, self._weight, self.bias, "mul")
        return self._unary(x, self._weight, self.bias, activation, [], "")


def _padded(rows: int) -> int:
    """``rows``, above 16 rounded up to 24, 32, 48, 64, 96 and so on.

    oneDNN makes kernels for every number of rows that a layer meets, and does not let go of all of
    them: half a MB was measured for each, of each shape of layer, and prompts have all lengths.

    >>> [_padded(rows) for rows in (1, 16, 17, 24, 25, 48, 49, 500)]
    [1, 16, 24, 24, 32, 48, 64, 512]
    """
    if rows <= _EACH:
        return rows
    power = 1 << (rows - 1).bit_length()
    return power * 3 // 4 if rows <= power * 3 // 4 else power


def _with_rows(x: torch.Tensor, rows: int) -> torch.Tensor:
    """[..., n] as [rows, n], with zeros behind."""
    flat = x.reshape(-1, x.shape[-1])
    return nn.functional.pad(flat, (0, 0, 0, rows - len(flat)))


def pack(model: Any) -> int:
    """Packs the model's linear layers; returns how many."""
    found = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, PackedLinear(child))
                found += 1
    return found


def pays(model: Any) -> bool:
    """Whether packed weights are faster for this model on this machine, measured now."""
    found = [m for m in model.modules() if type(m) is nn.Linear]
    on_cpu = model.device.type == "cpu" and model.dtype == torch.float32
    if not (found and on_cpu and torch.backends.mkldnn.is_available()):
        return False
    largest = max(found, key=lambda m: m.weight.numel())
    rows = min(largest.out_features, max(1, _SAMPLE // largest.in_features))
    return _pays(rows, largest.in_features, torch.get_num_threads())


@functools.cache
def _pays(out: int, width: int, threads: int) -> bool:
    """Whether packed weights are faster in one of a few measurements. ``threads``: they hold for so
    many alone."""
    return any(_faster(out, width) for _ in range(_DOUBTED))


@torch.inference_mode()
def _faster(out: int, width: int) -> bool:
    """Whether a pass over one row and one over six, added up, are faster with packed weights of a
    layer [``out``, ``width``], measured once."""
    plain = nn.Linear(width, out, bias=False, device="meta")
    plain.weight = nn.Parameter(torch.ones(out, width), requires_grad=False)
    packed = PackedLinear(plain)
    inputs = [torch.randn(1, rows, width) for rows in (1, 6)]
    return sum(_best(packed, x) for x in inputs) < sum(_best(plain, x) for x in inputs)


def _best(layer: nn.Module, x: torch.Tensor) -> float:
    layer(x)
    times = []
    for _ in range(_TRIALS):
        began = time.perf_counter()
        layer(x)
        times.append(time.perf_counter() - began)
    return min(times)
