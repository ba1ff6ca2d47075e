"""Devices and dtypes from the names that a person gives."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from ..errors import InputError
from ..settings.settings import BITS, DTYPES
from . import container


@dataclass(frozen=True)
class Placement:
    """The device and dtype to load models with. ``options``: further arguments of
    ``from_pretrained``, which, if there are any, moves the model to its device itself."""

    device: torch.device
    dtype: torch.dtype
    options: dict[str, Any] = field(default_factory=dict)


def placement(device_name: str, dtype_name: str) -> Placement:
    """The placement for a device and a dtype. Raises InputError for what is not available.

    ``device_name``: a device, or ``all``: spread by accelerate over all GPUs and, when these are
    full, the CPU. ``dtype_name``: a dtype, or ``int8`` or ``int4``: quantised by bitsandbytes.
    """
    spread = device_name == "all"
    where = device("auto" if spread else device_name)
    bits = BITS.get(dtype_name)
    kind = dtype("auto" if bits else dtype_name, where)
    if not bits:
        return Placement(where, kind, {"device_map": "auto"} if spread else {})
    if find_spec("bitsandbytes") is None:
        raise InputError(
            f"The dtype {dtype_name} needs bitsandbytes: pip install bitsandbytes, or use bfloat16."
        )
    fewer = BitsAndBytesConfig(load_in_8bit=bits == 8, load_in_4bit=bits == 4)
    mapped = "auto" if spread else {"": str(where)}
    return Placement(where, kind, {"device_map": mapped, "quantization_config": fewer})


def keep_to_cores() -> None:
    """Limits torch's threads to the cores of the container's quota, which torch does not look at.

    Does nothing where the user has set OMP_NUM_THREADS.
    """
    if not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(min(torch.get_num_threads(), container.cores()))


def hardware(device: torch.device) -> str:
    """The device's name, for people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' * (threads > 1)}"


def device(name: str) -> torch.device:
    """The device of that name; ``auto``: a GPU if there is one. Raises InputError for one that is
    not available."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(name)
    except RuntimeError as e:
        raise InputError(f"There is no device {name!r:.40}: use auto, cpu, cuda or all.") from e
    if found.type not in ("cpu", "cuda"):
        raise InputError(f"The device {name} is not supported: use auto, cpu, cuda or all.")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise InputError(f"This machine has no {name} that torch can use: use auto or cpu.")
    return found


def has_bfloat16(gpu: torch.device) -> bool:
    """Whether the GPU has bfloat16 units. Below compute capability 8, CUDA emulates them,
    slowly."""
    if torch.version.hip is not None:
        return True
    return torch.cuda.get_device_capability(gpu) >= (8, 0)


def dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of that name; ``auto``: float32 on a CPU, bfloat16 on a GPU that has it, else
    float16."""
    if name == "auto" and device.type == "cpu":
        return torch.float32
    if name == "auto":
        return torch.bfloat16 if has_bfloat16(device) else torch.float16
    if name not in DTYPES:
        raise InputError(
            f"There is no dtype {name!r:.40}: use auto, {', '.join((*DTYPES, *BITS))}."
        )
    return getattr(torch, name)
