"""Stairs: see, measure and trust assisted (speculative) decoding.

The names below are loaded on first use, so that ``import stairs_core`` stays quick and torch-free.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .decoding.engine import generate
    from .errors import InputError
    from .integration.custom_generate import custom_generate
    from .measuring.runner import Runner
    from .models.load import fetch, load_pair
    from .models.pair import Pair
    from .settings.sampling import Sampling
    from .settings.settings import Settings
    from .traces.metrics import compare, fold

_HOME = {
    "InputError": "errors",
    "Pair": "models.pair",
    "Runner": "measuring.runner",
    "Sampling": "settings.sampling",
    "Settings": "settings.settings",
    "compare": "traces.metrics",
    "custom_generate": "integration.custom_generate",
    "fetch": "models.load",
    "fold": "traces.metrics",
    "generate": "decoding.engine",
    "load_pair": "models.load",
}

__all__ = [
    "InputError",
    "Pair",
    "Runner",
    "Sampling",
    "Settings",
    "compare",
    "custom_generate",
    "fetch",
    "fold",
    "generate",
    "load_pair",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
