"""Quantised weights: their method and bits, read from a config's ``quantization_config``.

A config is a model's ``config``, its ``config.json`` as a dict, or None.
"""

from __future__ import annotations

import re
from enum import Enum
from importlib.util import find_spec
from typing import Any

import torch

_PLAIN = {"bitsandbytes 8-bit": "int8", "bitsandbytes 4-bit": "int4"}
"""Labels of what ``--dtype`` calls by another name (see ``settings.BITS``)."""
_UNPACKED = {"fp8": 8, "mxfp4": 4}
"""Methods, with their bits, whose weights transformers converts to floats where the device cannot
multiply them."""


def label(config: Any) -> str | None:
    """The method and its bits, such as ``gptq 8-bit`` or ``fp8``; None for float weights."""
    found = _config(config)
    if found is None:
        return None
    method = _method(found)
    if re.search(r"\d", method):
        return method
    bits = "/".join(map(str, sorted(_bits(found))))
    name = f"{method} {bits}-bit" if bits else method
    return _PLAIN.get(name, name)


def growth(config: Any, device: torch.device, itemsize: int, saved: int) -> float:
    """How many bytes in memory a byte of a model's files becomes.

    ``itemsize``: bytes of a float in memory. ``saved``: bytes of a float in the files.
    """
    found = _config(config)
    if found is None:
        return itemsize / saved
    bits = _UNPACKED.get(method := _method(found))
    return itemsize * 8 / bits if bits and not _multiplies(device, method) else 1.0


def placed(config: Any, device: torch.device) -> dict[str, Any]:
    """Further arguments of ``from_pretrained``: quantised weights are created on their device."""
    if _config(config) is None or device.type == "cpu":
        return {}
    return {"device_map": {"": str(device)}}


def _multiplies(device: torch.device, method: str) -> bool:
    """Whether the device multiplies such weights without converting them, as transformers
    decides."""
    if device.type == "cpu":
        return False
    if method == "fp8":
        return torch.cuda.get_device_capability(device) >= (8, 9)
    return find_spec("kernels") is not None


def _config(config: Any) -> dict[str, Any] | None:
    if not isinstance(config, dict):
        config = {"quantization_config": getattr(config, "quantization_config", None)}
    found = config.get("quantization_config")
    if found is None or isinstance(found, dict):
        return found or None
    return found.to_dict() if hasattr(found, "to_dict") else dict(vars(found))


def _method(config: dict[str, Any]) -> str:
    named = config.get("quant_method")
    named = str(named.value if isinstance(named, Enum) else named or "")
    if config.get("load_in_8bit") or config.get("load_in_4bit") or named.startswith("bitsandbytes"):
        return "bitsandbytes"
    return named or "quantised"


_NESTED = ("quant_config", "weight_quant_params", "global_quant_config", "weight", "default")


def _bits(config: dict[str, Any]) -> set[int]:
    """The bits of a weight, from the keys that each method uses; several where parts differ."""
    if config.get("load_in_8bit") or config.get("load_in_4bit"):
        return {8 if config.get("load_in_8bit") else 4}
    for key in ("bits", "num_bits", "nbits", "w_bit", "weights", "quant_type", "forward_dtype"):
        if found := re.search(r"\d+", str(config.get(key, ""))):
            return {int(found[0])}
    inner = [v for k, v in config.items() if k in _NESTED and isinstance(v, dict)]
    inner += [g["weights"] for g in _groups(config) if isinstance(g.get("weights"), dict)]
    return set().union(*map(_bits, inner))


def _groups(config: dict[str, Any]) -> list[dict[str, Any]]:
    groups = config.get("config_groups")
    return [g for g in groups.values() if isinstance(g, dict)] if isinstance(groups, dict) else []
