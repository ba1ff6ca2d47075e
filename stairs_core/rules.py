"""Acceptance: which part of a guess is kept. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many drafted tokens hold, and the target's word after each row: ``predictions``.

    ``margins``: best logit minus second best, one a row. The target's own token of this step is
    ``predictions[accepted]``: its correction at the mismatch, or its bonus when all hold.
    """

    accepted: int
    predictions: list[int]
    margins: list[float]


def greedy(logits: torch.Tensor, drafted: list[int]) -> Verdict:
    """Keeps drafted tokens while each is the target's most likely one (arXiv 2407.19947).

    ``logits``: [N + 1, vocabulary], on any device; read in one transfer.
    """
    ids = logits.argmax(dim=-1, keepdim=True)
    best = logits.gather(-1, ids)
    second = logits.scatter(-1, ids, float("-inf")).amax(dim=-1, keepdim=True)
    # float64 holds every token id exactly, so ids and margins can travel together.
    packed = torch.cat([ids.double(), best.double() - second.double()], dim=-1).tolist()
    predictions = [int(row[0]) for row in packed]
    accepted = 0
    while accepted < len(drafted) and drafted[accepted] == predictions[accepted]:
        accepted += 1
    return Verdict(accepted, predictions, [row[1] for row in packed])
