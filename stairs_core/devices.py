"""Devices and dtypes by the names that a person gives them."""

from __future__ import annotations

import torch

from .errors import InputError
from .settings import DTYPES


def hardware(device: torch.device) -> str:
    """What the models run on, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def device(name: str) -> torch.device:
    """``auto``: a GPU where there is one. Raises InputError for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(name)
    except RuntimeError as e:
        raise InputError(f"There is no device {name!r:.40}: use auto, cpu or cuda.") from e
    if found.type not in ("cpu", "cuda"):
        raise InputError(f"The device {name} is not supported: use auto, cpu or cuda.")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise InputError(f"This machine has no {name} that torch can use: use auto or cpu.")
    return found


def dtype(name: str, device: torch.device) -> torch.dtype:
    """``auto``: float32 on a CPU; on a GPU bfloat16 where it has that, else float16."""
    if name == "auto" and device.type == "cpu":
        return torch.float32
    if name == "auto":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if name not in DTYPES:
        raise InputError(f"There is no dtype {name!r:.40}: use auto, {', '.join(DTYPES)}.")
    return getattr(torch, name)
