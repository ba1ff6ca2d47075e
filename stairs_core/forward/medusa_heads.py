"""Medusa's heads (Cai et al. 2024, arXiv 2401.10774): each looks one token further ahead.

Head k reads the target's last hidden state at a position and predicts the token k + 2 positions
after it (the target itself predicts the next one). It is residual, ``x + SiLU(Linear(x))``, and
ends in the target's own final norm and output matrix, which stay as they are. ``x`` is the last
layer's output before the final norm, scaled to a root mean square of one: so an untrained head
predicts what the target predicts for the next token.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class MedusaHeads(nn.Module):
    """``count`` heads of ``depth`` residual blocks each, for hidden states of ``width``."""

    def __init__(self, width: int, count: int, depth: int = 1) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.ModuleList(nn.Linear(width, width) for _ in range(depth)) for _ in range(count)
        )
        for linear in self.modules():
            if isinstance(linear, nn.Linear):
                nn.init.zeros_(linear.weight)
                nn.init.zeros_(linear.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., heads, width], to be given to the target's output layer, from [..., width]."""
        x = F.rms_norm(hidden, hidden.shape[-1:], eps=1e-6)
        found = []
        for blocks in self.heads:
            y = x
            for linear in blocks:  # type: ignore[union-attr]
                y = y + F.silu(linear(y))
            found.append(y)
        return torch.stack(found, -2)
