"""Importing large libraries without a search for garbage, which would take a third of the time."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """No garbage is looked for inside, nor ever in what is made inside: the libraries' own objects,
    350,000 of torch and transformers alone, which stay until the end. Looking them through takes a
    second while they are imported, another one when the program ends, and a quarter of one now and
    then, in the midst of a step that is timed."""
    looked_for, before = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        # Not again where all was there already: models may be in memory then, which are dropped.
        if len(sys.modules) > before:
            gc.freeze()
        if looked_for:
            gc.enable()
