"""``pytest --device cuda``: tests that name the CPU run on that device, and so do their tensors.

Values stay those of the CPU, where random ones are drawn. Our own pass, which only a CPU has, is
the stock one there. A pair that a test loads on the CPU, in
whatever dtype is usual there, is loaded on the device in float32.
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = str(Path(__file__).resolve().parents[1]) + os.sep
_NAMES = "tensor zeros ones full empty eye arange linspace rand randn randint as_tensor from_numpy"
DEVICE = "cpu"
"""Where tests run."""


def placed(thing: Any) -> Any:
    """A model or a tensor, where tests run."""
    return thing if DEVICE == "cpu" else thing.to(DEVICE)


def install(name: str) -> None:
    """From now on, in this process, tests run on the device ``name``."""
    global DEVICE
    import torch
    from torch.utils._device import _device_constructors

    from stairs_core.forward.lean_eagle import LeanEagle
    from stairs_core.forward.lean_llama import LeanLlama
    from stairs_core.models import devices

    DEVICE = name
    usual = devices.placement

    def placement(device_name: str, dtype_name: str) -> devices.Placement:
        if device_name != "cpu":
            return usual(device_name, dtype_name)
        return usual(DEVICE, "float32" if dtype_name == "auto" else dtype_name)

    devices.placement = placement
    # ``with torch.device("meta")``, where transformers makes what it loads, names these functions.
    # It must know them from before, or buffers are left uninitialised.
    _device_constructors()
    for lean in (LeanLlama, LeanEagle):
        lean.__new__ = staticmethod(functools.partial(_unpacked, lean))
    for maker in _NAMES.split():
        setattr(torch, maker, _made(getattr(torch, maker)))
    with torch.device("meta"):
        assert torch.empty(0).is_meta


def _unpacked(lean: type, cls: type, model: Any, *_: Any, **__: Any) -> Any:
    """What a test gets that asks for our own pass, which only a CPU has: the stock one."""
    by = sys._getframe(1).f_code.co_filename
    assert by.startswith(TESTS), f"{by} makes a pass that is for CPUs, on {DEVICE}"
    if cls is not lean:
        pytest.skip("a subclass of a pass that only a CPU has")
    return model


def _made(maker: Any) -> Any:
    """The function of torch, whose tensor goes to the device where a test calls it."""

    @functools.wraps(maker)
    def made(*args: Any, **named: Any) -> Any:
        tensor = maker(*args, **named)
        by = sys._getframe(1).f_code.co_filename
        ours = by.startswith(TESTS) and by not in _SAVING and "device" not in named
        return tensor.to(DEVICE) if ours else tensor

    return made


_SAVING = {
    str(Path(__file__).with_name(f"{name}.py"))
    for name in ("elsewhere", "families", "gguf_files", "heads", "tiny_models")
}
"""Helpers whose tensors stay on the CPU, where random ones fill models."""
