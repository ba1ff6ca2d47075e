"""Weights in fewer bits than floats have, by what a config says of them (``quantization_config``).

A config is a model's own, its ``config.json`` as a dict, or nothing.
"""

from __future__ import annotations

import re
from enum import Enum
from importlib.util import find_spec
from typing import Any

import torch

_PLAIN = {"bitsandbytes 8-bit": "int8", "bitsandbytes 4-bit": "int4"}
"""What ``--dtype`` can ask for by a name of its own (see ``settings.BITS``)."""
_UNPACKED = {"fp8": 8, "mxfp4": 4}
"""Methods whose weights transformers makes floats where the device cannot multiply them; bits."""


def label(config: Any) -> str | None:
    """The method and its bits, such as ``gptq 8-bit`` or ``fp8``; None for weights in floats."""
    said = _said(config)
    if said is None:
        return None
    method = _method(said)
    if re.search(r"\d", method):
        return method
    bits = "/".join(map(str, sorted(_bits(said))))
    name = f"{method} {bits}-bit" if bits else method
    return _PLAIN.get(name, name)


def growth(config: Any, device: torch.device, itemsize: int, saved: int) -> float:
    """How many bytes a byte of a model's files becomes when it is loaded.

    ``itemsize``: bytes of a float that is asked for. ``saved``: of one in the files.
    """
    said = _said(config)
    if said is None:
        return itemsize / saved
    bits = _UNPACKED.get(method := _method(said))
    return itemsize * 8 / bits if bits and not _multiplies(device, method) else 1.0


def placed(config: Any, device: torch.device) -> dict[str, Any]:
    """What ``from_pretrained`` must be told besides: packed weights are made where they stay."""
    if _said(config) is None or device.type == "cpu":
        return {}
    return {"device_map": {"": str(device)}}


def _multiplies(device: torch.device, method: str) -> bool:
    """Whether weights stay as they are there, by what transformers asks for."""
    if device.type == "cpu":
        return False
    if method == "fp8":
        return torch.cuda.get_device_capability(device) >= (8, 9)
    return find_spec("kernels") is not None


def _said(config: Any) -> dict[str, Any] | None:
    if not isinstance(config, dict):
        config = {"quantization_config": getattr(config, "quantization_config", None)}
    said = config.get("quantization_config")
    if said is None or isinstance(said, dict):
        return said or None
    return said.to_dict() if hasattr(said, "to_dict") else dict(vars(said))


def _method(said: dict[str, Any]) -> str:
    named = said.get("quant_method")
    named = str(named.value if isinstance(named, Enum) else named or "")
    if said.get("load_in_8bit") or said.get("load_in_4bit") or named.startswith("bitsandbytes"):
        return "bitsandbytes"
    return named or "quantised"


_NESTED = ("quant_config", "weight_quant_params", "global_quant_config", "weight", "default")


def _bits(said: dict[str, Any]) -> set[int]:
    """How many a weight has, by the words of the method; several where parts differ."""
    if said.get("load_in_8bit") or said.get("load_in_4bit"):
        return {8 if said.get("load_in_8bit") else 4}
    for key in ("bits", "num_bits", "nbits", "w_bit", "weights", "quant_type", "forward_dtype"):
        if found := re.search(r"\d+", str(said.get(key, ""))):
            return {int(found[0])}
    inner = [v for k, v in said.items() if k in _NESTED and isinstance(v, dict)]
    inner += [g["weights"] for g in _groups(said) if isinstance(g.get("weights"), dict)]
    return set().union(*map(_bits, inner))


def _groups(said: dict[str, Any]) -> list[dict[str, Any]]:
    groups = said.get("config_groups")
    return [g for g in groups.values() if isinstance(g, dict)] if isinstance(groups, dict) else []
