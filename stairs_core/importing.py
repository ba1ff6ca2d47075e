"""Importing large libraries without a search for garbage, which would take a third of the time."""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SCAN = "create_import_structure_from_path"
"""transformers' function that reads all files of a folder for what they export."""
_CACHE = functools.lru_cache


@contextmanager
def importing() -> Iterator[None]:
    """No garbage is looked for inside, nor ever in what is made inside: the libraries' own objects,
    350,000 of torch and transformers alone, which stay until the end. Looking them through takes a
    second while they are imported, another one when the program ends, and a quarter of one now and
    then, in the midst of a step that is timed.

    And transformers reads its 1,700 files once: it scans all folders of models twice, as its cache
    holds 128 of the 560. That takes half a second.
    """
    looked_for, before = gc.isenabled(), len(sys.modules)
    gc.disable()
    functools.lru_cache = _roomier  # type: ignore[assignment]
    try:
        yield
    finally:
        functools.lru_cache = _CACHE
        # Not again where all was there already: models may be in memory then, which are dropped.
        if len(sys.modules) > before:
            gc.freeze()
        if looked_for:
            gc.enable()


@functools.wraps(_CACHE)
def _roomier(maxsize: Any = 128, typed: bool = False) -> Any:
    """``functools.lru_cache``, but without a limit for that function alone."""
    scan = getattr(maxsize, "__name__", "") == _SCAN
    return _CACHE(None)(maxsize) if scan else _CACHE(maxsize, typed)
