"""Whether texts are the same, and whether rounding can explain a difference: ``--check``.

A pass over several tokens runs other kernels than a pass over one, so the last bits of the logits
differ, and where two tokens are nearly equally likely either one may win. How far rounding moves a
logit here is measured, and a difference is scored again in a higher precision.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import torch

from ..decoding import verify
from ..errors import InputError
from ..forward import encoder_decoder
from ..models import load
from ..protocols import Proposal
from ..traces import metrics
from ..traces.metrics import Comparison, Difference
from ..traces.records import Recording

if TYPE_CHECKING:
    from ..models.pair import Pair

_TOKENS = 24
"""Positions at the end of a text at which rounding noise is measured."""
_WIDTHS = (2, 3, 6, 8)
"""Tokens of the passes that are compared with one-token passes."""


def compare(recordings: Sequence[Recording], pair: Pair | None = None) -> list[Comparison]:
    """Compares every lane with the first. With ``pair``, scores differences in a higher precision.

    What cannot be scored again keeps its first result.
    """
    first, *others = recordings
    return [_rescored(metrics.compare(first, other), first, pair) for other in others]


def _rescored(result: Comparison, first: Recording, pair: Pair | None) -> Comparison:
    if pair is None or result.first_difference is None:
        return result
    # Random numbers and penalties decide too, not logits alone; and a quantised model in a higher
    # precision has other weights.
    if first.run.sampling is not None or first.run.defaults or pair.quantised:
        return result
    try:
        return replace(result, first_difference=rescored(pair, first, result.first_difference))
    except (InputError, torch.OutOfMemoryError) as e:
        print(f"The difference could not be scored again: {e}", file=sys.stderr)
        return result


def rescored(pair: Pair, first: Recording, difference: Difference) -> Difference:
    """The same difference, judged by one pass in a higher precision: float64 for float32.

    Loads the target a second time, which is slow; raises InputError where it does not fit.
    """
    higher = torch.float64 if pair.dtype == "float32" else torch.float32
    target = load.load_stock(load.locate(pair.name)[0], pair.device, higher)
    prompt = list(first.run.prompt_ids)
    target = encoder_decoder.bind(target, prompt)
    ids = prompt + first.new_ids[: difference.position]
    logits = verify.build("single", target)(ids, Proposal([]))[0]  # [vocabulary]
    margin = abs(logits[difference.first_id] - logits[difference.second_id]).item()
    verdict = metrics.judge(margin, difference.noise, difference.rounding)
    return replace(difference, rescored=margin, verdict=verdict)


def report(compared: Sequence[Comparison]) -> dict[str, Any]:
    """What ``--json`` reports about the texts; empty where none were compared."""
    if not compared:
        return {}
    identical = [c.identical for c in compared]
    differences = [asdict(c.first_difference) for c in compared if c.first_difference]
    return {
        "identical": None if None in identical else all(identical),
        "first_difference": differences[0] if differences else None,
    }


def status(compared: Sequence[Comparison]) -> int:
    """The exit status: 1 when a text differs by more than rounding, else 0."""
    return int(any(c.identical is False and not is_tie(c) for c in compared))


def is_tie(result: Comparison) -> bool:
    """Whether the texts part where rounding can explain it."""
    where = result.first_difference
    return where is not None and where.verdict == "rounding tie"


@torch.inference_mode()
def measure(pair: Pair, ids: list[int], backend: str, numerics: str) -> float:
    """The rounding noise: the largest change of a logit between one-token passes and wider ones.

    In logits, over the last ``_TOKENS`` positions of ``ids``, computed as ``backend`` does.
    """
    ids = ids[-pair.context_length :]
    first = max(pair.shortest, len(ids) - _TOKENS)
    one = verify.build("single_kv", pair.target, numerics)
    # [positions, vocabulary]: the logits after every prefix, each from a pass of its own.
    alone = torch.cat([one(ids[:at], Proposal([])) for at in range(first, len(ids) + 1)])
    largest = 0.0
    for width in _WIDTHS:
        several = verify.build(backend, pair.target, numerics)
        rows = []
        for at in range(first, len(ids) + 1, width):
            rows.append(several(ids[:at], Proposal(ids[at : at + width - 1])))
        change = torch.cat(rows)[: len(alone)].double() - alone.double()
        largest = max(largest, change.abs().max().item())
    return largest


@torch.inference_mode()
def rounding_limit(pair: Pair, ids: list[int]) -> float:
    """The most by which rounding can move a logit at the end of ``ids``: half of its digits.

    Every number that a logit is computed from is rounded by a relative eps, and layers enlarge or
    shrink the error. Relative to the largest logit, the noise measured on the bundled pair and on
    tiny models was 4 to 10 eps in float32 and at most 2 eps in float16 and bfloat16. The square
    root of eps lies well above: 2900, 32 and 11 eps. Passes that differ by more do not compute the
    same function: the cause is a bug, not rounding.
    """
    logits = verify.build("single", pair.target)(ids[-pair.context_length :], Proposal([]))[0]
    return torch.finfo(pair.target.dtype).eps ** 0.5 * logits.double().abs().max().item()
