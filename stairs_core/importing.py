"""Importing large libraries without a search for garbage, which would take a third of the time."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """No garbage is looked for inside, nor ever in what is made inside: the libraries' own objects,
    350,000 of torch and transformers alone, which stay until the end. Looking them through takes a
    second while they are imported, another one when the program ends, and a quarter of one now and
    then, in the midst of a step that is timed."""
    looked_for = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if looked_for:
            gc.enable()
