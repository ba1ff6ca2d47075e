"""What every kind of training checks and how it reports. Standard library only."""

from __future__ import annotations

import json
import math
from typing import Any

from ..errors import InputError


def check_seed(seed: int) -> None:
    """Raises InputError for a seed that torch does not take."""
    if abs(seed) >= 2**63:
        raise InputError(f"The seed is {seed}: give a number of at most 18 digits.")


def as_json(found: Any, indent: int | None = None) -> str:
    """A report in JSON, which has no word for a loss that is not a number: null."""
    return json.dumps(_finite(found), indent=indent, allow_nan=False)


def _finite(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: _finite(one) for name, one in found.items()}
    if isinstance(found, list | tuple):
        return [_finite(one) for one in found]
    return None if isinstance(found, float) and not math.isfinite(found) else found
