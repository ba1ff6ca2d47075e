"""How likely the models held the tokens of a step, by their logits as they came: before temperature
and whatever else a sampler does to them. Decoding needs none of it, so it is off the clock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from .errors import NoNumbers
from .protocols import Proposal
from .trace import Step, Token

Odds = tuple[float, int]
"""A probability, of 4 significant digits, and a rank: 1 is the model's favourite."""


def weigh(step: Step, proposal: Proposal, logits: torch.Tensor) -> Step:
    """The step, its tokens with what the target gave them in the row after which they stand, and
    what the draft gave its guesses. ``logits``: [N + 1 or more, vocabulary], the target's. Raises
    NoNumbers for a draft's that are none: its guesses can do no harm, but do not hold either.
    """
    ids = [token.id for token in step.tokens]
    asked = [_stacked(logits[list(step.rows)], ids)]
    if proposal.rows:
        asked.append(_stacked(torch.stack(proposal.rows), ids[: len(proposal.rows)]))
    # float64 holds every rank exactly, so both models' can travel together.
    told = [*map(_rounded, torch.cat([a.to(logits.device) for a in asked]).tolist())]
    if any(math.isnan(draft) for draft, _ in told[len(ids) :]):
        assert proposal.rows
        raise NoNumbers("the draft", proposal.rows[0].dtype)
    drafts: list[float | None] = [draft for draft, _ in told[len(ids) :]]
    drafts += [None] * (len(ids) - len(drafts))
    return replace(step, tokens=tuple(map(_with, step.tokens, told, drafts)))


@torch.inference_mode()
def _stacked(rows: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
    """[N, 2], float64: probability and rank of token i in row i of [N, vocabulary].

    Some models pad their vocabulary: a token that a row lacks is impossible there, and last.
    """
    rows, width = rows.float(), rows.shape[-1]
    wanted = torch.tensor(ids, device=rows.device)[:, None]
    own = rows.gather(-1, wanted.clamp(max=width - 1))
    own = own.masked_fill(wanted >= width, float("-inf"))
    chance = (own.double() - rows.logsumexp(-1, keepdim=True).double()).exp()
    return torch.cat([chance, 1.0 + (rows > own).sum(-1, keepdim=True)], dim=-1)


def _rounded(pair: list[float]) -> Odds:
    return float(f"{pair[0]:.4g}"), int(pair[1])


def _with(token: Token, target: Odds, draft: float | None) -> Token:
    return replace(token, probability=target[0], rank=target[1], draft_probability=draft)
