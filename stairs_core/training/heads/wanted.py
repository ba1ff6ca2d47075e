"""What a head is taught that guesses as the target would: the target's own distribution.

Over the tokens that the head can guess, which are those that the target writes most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

ROWS = 8192
"""Positions whose logits over all of the target's tokens are in memory at once."""


def counted(files: Sequence[Path], size: int, tokens: int) -> torch.Tensor:
    """[vocabulary], ascending: at most ``size`` ids, the most frequent of the ``tokens`` ids in the
    target's texts."""
    counts = torch.zeros(tokens, dtype=torch.long)
    for file in files:
        with safe_open(file, "pt") as texts:
            ids, lengths = texts.get_tensor("ids"), texts.get_tensor("lengths")
        there = torch.arange(ids.shape[1]) < lengths[:, None]
        counts += torch.bincount(ids[there].long(), minlength=tokens)
    return counts.argsort(descending=True, stable=True)[:size].sort().values


@dataclass(frozen=True, slots=True)
class Wanted:
    """The target's answers at N positions of a batch. ``probs`` [N, the head's vocabulary]: they
    add up to less than 1, as the target may want other tokens; ``best`` [N]: the target's likeliest
    token of all; ``row`` [texts, length]: which of the N a position is, where it is one."""

    probs: torch.Tensor
    best: torch.Tensor
    row: torch.Tensor
    ids: torch.Tensor

    @classmethod
    @torch.no_grad()
    def at(
        cls,
        where: torch.Tensor,
        hidden: torch.Tensor,
        output: Callable[[torch.Tensor], torch.Tensor],
        ids: torch.Tensor,
    ) -> Wanted:
        """``where`` [texts, length]: the positions. ``hidden`` [texts, length, width]: the target's
        last layer, ``output``: its logits from that; ``ids``: the target's id of each of the head's
        tokens."""
        probs, best = [], []
        for part in hidden[where].split(ROWS):
            logits = output(part).float()
            probs.append((logits[:, ids] - logits.logsumexp(-1, keepdim=True)).exp())
            best.append(logits.argmax(-1))
        row = where.flatten().cumsum(0).sub(1).view_as(where)
        return cls(torch.cat(probs), torch.cat(best), row, ids)

    def judge(self, row: torch.Tensor, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The cross-entropy in nats of a head's ``logits`` [n, the head's vocabulary] at the
        positions ``row`` [n], and the share whose likeliest token is the target's."""
        nats = -(self.probs[row] * logits.float().log_softmax(-1)).sum(-1).mean()
        right = self.ids[logits.detach().argmax(-1)] == self.best[row]
        return nats, right.float().mean()
