"""Stairs: see, measure and trust assisted (speculative) decoding.

The names below are loaded on first use, so that ``import stairs_core`` stays quick and torch-free.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine import generate
    from .errors import InputError
    from .inside import custom_generate
    from .metrics import compare, fold
    from .models import load_pair
    from .pair import Pair
    from .race import Runner
    from .settings import Settings

_HOME = {
    "InputError": "errors",
    "Pair": "pair",
    "Runner": "race",
    "Settings": "settings",
    "compare": "metrics",
    "custom_generate": "inside",
    "fold": "metrics",
    "generate": "engine",
    "load_pair": "models",
}

__all__ = [
    "InputError",
    "Pair",
    "Runner",
    "Settings",
    "compare",
    "custom_generate",
    "fold",
    "generate",
    "load_pair",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
