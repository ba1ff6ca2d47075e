"""How a mixture of experts is computed where the bits of a token must not depend on others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_UNEVEN = ("grouped_mm", "eager")
_EVEN = "batched_mm"


@contextmanager
def evenly(model: Any) -> Iterator[None]:
    """Passes inside multiply every token by copies of its experts. Else the tokens of an expert are
    one product, whose rounding depends on how many they are. Does nothing where there are no
    experts, or where they can be computed in one way only.

    The copies take memory for a moment: as much as the experts of all tokens of a pass.
    """
    able = getattr(model, "_can_set_experts_implementation", None)
    before = getattr(model.config, "_experts_implementation", None) if able and able() else None
    if before not in _UNEVEN:
        yield
        return
    model.set_experts_implementation(_EVEN)
    try:
        yield
    finally:
        model.set_experts_implementation(before)
