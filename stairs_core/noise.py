"""How far rounding moves a logit, and what a difference between two texts is worth (design, 5).

A pass over several tokens runs other kernels than a pass over one, so the last bits of the logits
differ, and where two tokens are as good as equal the other one may win.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from . import encoded, models, verify
from .metrics import Difference, judge
from .protocols import Proposal
from .trace import Recording

if TYPE_CHECKING:
    from .pair import Pair

_TOKENS = 24
_WIDTHS = (2, 3, 6, 8)


@torch.inference_mode()
def measure(pair: Pair, ids: list[int], backend: str, numerics: str) -> float:
    """The largest change of a logit between passes over one token and passes over several.

    In logits, over the last ``_TOKENS`` positions of ``ids``, computed as ``backend`` does.
    """
    ids = ids[-pair.context_length :]
    first = max(pair.shortest, len(ids) - _TOKENS)
    one = verify.build("single_kv", pair.target, numerics)
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
def most(pair: Pair, ids: list[int]) -> float:
    """The most by which rounding can move a logit at the end of ``ids``: half of its digits.

    Every number on the way to a logit is rounded, by one part in 1 / eps, and layers make what is
    lost larger or smaller. Of the largest logit, what was measured on the bundled pair and on tiny
    models was 4 to 10 eps in float32, 2 at most in float16 and bfloat16. The root of eps lies well
    beyond: 2900, 32 and 11 eps. Passes that differ by more do not compute the same function, and
    the "noise" is a fault's.
    """
    row = verify.build("single", pair.target)(ids[-pair.context_length :], Proposal([]))[0]
    return torch.finfo(pair.target.dtype).eps ** 0.5 * row.double().abs().max().item()


def rescored(pair: Pair, first: Recording, difference: Difference) -> Difference:
    """The same difference, judged by a pass in a higher precision: float64 for float32.

    Loads the target anew, which takes its time; raises InputError where it does not fit.
    """
    ids = list(first.run.prompt_ids)
    new = [t.id for step in first.steps for t in step.committed]
    higher = torch.float64 if pair.dtype == "float32" else torch.float32
    target = models.load_stock(models.locate(pair.name)[0], pair.device, higher)
    target = encoded.bind(target, ids)
    logits = verify.build("single", target)(ids + new[: difference.position], Proposal([]))[0]
    margin = abs(logits[difference.first_id] - logits[difference.second_id]).item()
    verdict = judge(margin, difference.noise, difference.rounding)
    return replace(difference, rescored=margin, verdict=verdict)
