"""What heads that guess several tokens at once are trained on: the tokens after a position."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .loop import Batch, taught

LATER = 0.8
"""The loss of each guess weighs this times that of the one before, as in Medusa's paper."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """N positions of a batch, and K guesses for each. After position i, guess k is the token at
    i + k + 2, where the text has one: the token at i + 1 is the target's own.

    ``row``, ``at``: [N]: the text, and the position in it. ``wanted``: [N, K], the tokens.
    ``there``: [N, K], whether the text has them.
    """

    row: torch.Tensor
    at: torch.Tensor
    wanted: torch.Tensor
    there: torch.Tensor

    @classmethod
    def of(cls, batch: Batch, count: int, most: int, device: torch.device) -> Ahead:
        """At most ``most`` positions, spread evenly over all that have a token to guess."""
        asked = taught(batch, device)[:, 2:].nonzero()
        asked = asked[torch.linspace(0, len(asked) - 1, min(most, len(asked))).long()]
        return cls.after(batch, count, asked[:, 0], asked[:, 1])

    @classmethod
    def after(cls, batch: Batch, count: int, row: torch.Tensor, at: torch.Tensor) -> Ahead:
        """At these positions."""
        ids, there = batch["ids"].to(row.device), taught(batch, row.device)
        ahead = at[:, None] + 2 + torch.arange(count, device=row.device)
        inside = ahead < ids.shape[1]
        ahead = row[:, None], ahead.clamp(max=ids.shape[1] - 1)
        return cls(row, at, ids[ahead], there[ahead] & inside)

    def cross_entropy(self, logits: torch.Tensor) -> torch.Tensor:
        """The weighted mean, in nats, of ``logits`` [N, K, vocabulary] on the text."""
        flat = logits.float().flatten(0, 1)
        nats = F.cross_entropy(flat, self.wanted.flatten(), reduction="none")
        return self.mean(nats.view_as(self.wanted))

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Of ``values`` [N, K], where the text has a token, later guesses weighing less."""
        count = values.shape[1]
        weights = torch.tensor([LATER**k for k in range(count)], device=values.device)
        weights = self.there * weights
        return (values * weights).sum() / weights.sum().clamp(min=1)

    def right(self, logits: torch.Tensor) -> dict[str, float]:
        """How often each guess of ``logits`` [N, K, vocabulary] is the text's token."""
        hits = ((logits.argmax(-1) == self.wanted) & self.there).sum(0)
        shares = hits / self.there.sum(0).clamp(min=1)
        return {f"right{k + 1}": float(x) for k, x in enumerate(shares)}
