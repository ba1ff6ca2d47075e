"""Whether texts are the same, and what it means where they are not: ``--check``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from . import metrics
from .errors import InputError
from .metrics import Comparison
from .trace import Recording

if TYPE_CHECKING:
    from .pair import Pair


def compare(recordings: Sequence[Recording], pair: Pair | None = None) -> list[Comparison]:
    """Every lane against the first. With ``pair``, differences are scored anew, more exactly."""
    first, *others = recordings
    return [_rescored(metrics.compare(first, other), first, pair) for other in others]


def _rescored(result: Comparison, first: Recording, pair: Pair | None) -> Comparison:
    # Dice and penalties decide by more than logits, and fewer bits are another model's weights.
    run = first.run
    shaped = run.sampling is not None or bool(run.defaults)
    other = shaped or (pair is not None and pair.quantised)
    if pair is None or other or result.first_difference is None:
        return result
    import torch

    from .noise import rescored

    try:
        return replace(result, first_difference=rescored(pair, first, result.first_difference))
    except (InputError, torch.OutOfMemoryError) as e:
        print(f"The difference could not be scored again: {e}", file=sys.stderr)
        return result


def report(compared: Sequence[Comparison]) -> dict[str, Any]:
    """What ``--json`` says of the texts; nothing where none were compared."""
    if not compared:
        return {}
    said = [c.identical for c in compared]
    parted = [asdict(c.first_difference) for c in compared if c.first_difference]
    return {
        "identical": None if None in said else all(said),
        "first_difference": parted[0] if parted else None,
    }


def status(compared: Sequence[Comparison]) -> int:
    """1 when a text differs by more than rounding, else 0."""
    return int(any(c.identical is False and not _tie(c) for c in compared))


def _tie(result: Comparison) -> bool:
    where = result.first_difference
    return where is not None and where.verdict == "rounding tie"
