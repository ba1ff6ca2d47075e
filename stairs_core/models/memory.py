"""Checks that a pair fits into this machine's memory, before it is fetched or loaded."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import psutil
import torch

from ..errors import InputError
from ..forward import quantised_weights
from ..settings import limits
from ..settings.pair_spec import pinned
from . import container, devices
from .pair import Pair

Bytes = dict[torch.device, int]
"""Bytes of memory by device."""

_CPU = torch.device("cpu")
_OVERHEAD = 1.1  # for caches, and for what a pass needs while it runs


def needed(models: Iterable[tuple[int, Path]]) -> Bytes:
    """The memory that models take when loaded. For each: the bytes of its weight files, and its
    config."""
    where = devices.placement("auto", "auto")
    sizes = [int(size * _growth(config, where) * _OVERHEAD) for size, config in models]
    # On the way to a GPU, each model is in the machine's memory first.
    return {_CPU: max(sizes), where.device: sum(sizes)}


def held(pair: Pair) -> Bytes:
    """The memory that a loaded pair takes: its weights."""
    return {pair.device: sum(pair.bytes)}


def fits(needs: Bytes, loaded: Iterable[Pair]) -> bool:
    """Whether there is memory for ``needs`` now, beside the pairs that are ``loaded``."""
    room = allowed(loaded)
    return all(size <= min(free(device), room) for device, size in needs.items())


def check(needs: Bytes, kept: Iterable[Pair], others: Iterable[Pair], spec: str) -> None:
    """Raises InputError where ``needs`` would not fit even if all ``others`` made room for it."""
    names = " and ".join(pinned(name)[0] for name in spec.split(":"))
    room = allowed(kept)
    spare = Counter[torch.device]()
    for pair in others:
        spare.update(held(pair))
    for device, size in needs.items():
        there = free(device) + spare[device]
        if size > min(there, room):
            what = "GPU" if device.type == "cuda" else "machine"
            has = f"this {what} has {there / 1e9:.1f} GB of memory free"
            if room < there:
                has = f"this page has {max(room, 0) / 1e9:.1f} GB of memory for it"
            raise InputError(f"{names} take {size / 1e9:.1f} GB, and {has}: choose smaller models.")


def allowed(loaded: Iterable[Pair]) -> float:
    """Bytes that the host leaves for models beside those that are ``loaded``."""
    if not (most := limits.current().memory_gb):
        return math.inf
    return most * 1e9 - sum(sum(held(pair).values()) for pair in loaded)


def free(device: torch.device) -> int:
    """Free bytes on a device; in a container, within its limit."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    there = psutil.virtual_memory().available
    unused = container.memory()
    return there if unused is None else min(there, unused)


def _growth(config: Path, where: devices.Placement) -> float:
    """Bytes in memory per byte of the weight files. A config without a dtype means float32."""
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
        dtype = getattr(torch, str(values.get("dtype") or values.get("torch_dtype") or "float32"))
        return quantised_weights.growth(values, where.device, where.dtype.itemsize, dtype.itemsize)
    except (AttributeError, OSError, ValueError):
        return where.dtype.itemsize / 4
