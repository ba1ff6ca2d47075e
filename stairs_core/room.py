"""Whether a pair fits into this machine's memory, asked before it is fetched or loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import psutil
import torch

from . import container, devices, quantised
from .errors import InputError
from .pair import Pair

Bytes = dict[torch.device, int]
"""Memory by device."""

_CPU = torch.device("cpu")
_BESIDES = 1.1  # caches, and what passes need for a moment


def needed(models: Iterable[tuple[int, Path]]) -> Bytes:
    """What models take when they are loaded. Of each, the bytes of its weights, and its config."""
    where = devices.placement("auto", "auto")
    sizes = [int(size * _growth(config, where) * _BESIDES) for size, config in models]
    # On its way to a GPU, a model is in the machine's own memory first.
    return {_CPU: max(sizes), where.device: sum(sizes)}


def held(pair: Pair) -> Bytes:
    """What a loaded pair takes, of which its weights are by far the most."""
    return {pair.device: sum(pair.bytes)}


def check(needs: Bytes, spare: Bytes, spec: str) -> None:
    """Raises InputError where ``needs`` is more than is free. ``spare``: what could be freed."""
    for device, size in needs.items():
        there = free(device) + spare.get(device, 0)
        if size > there:
            what = "GPU" if device.type == "cuda" else "machine"
            raise InputError(
                f"{spec.replace(':', ' and ')} take {size / 1e9:.1f} GB, and this {what} has "
                f"{there / 1e9:.1f} GB of memory free: choose smaller models."
            )


def free(device: torch.device) -> int:
    """Bytes that can be had on a device; in a container, within its limit."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    there = psutil.virtual_memory().available
    unused = container.memory()
    return there if unused is None else min(there, unused)


def _growth(config: Path, where: devices.Placement) -> float:
    """Of a byte of the weights. A config that does not say its dtype means float32."""
    try:
        said = json.loads(config.read_text(encoding="utf-8"))
        dtype = getattr(torch, str(said.get("dtype") or said.get("torch_dtype") or "float32"))
        return quantised.growth(said, where.device, where.dtype.itemsize, dtype.itemsize)
    except (AttributeError, OSError, ValueError):
        return where.dtype.itemsize / 4
