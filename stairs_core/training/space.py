"""SPACE's semi-autoregressive objective (arXiv 2402.11809, section 3.1; the efficient layout).

The row of text is kept whole and groups of k + 1 ``<|mask|>`` slots are laid after it. A group
anchored at s stands for "the text ends before s, what comes next?": its slots take the positions
s .. s+k, see the text before s and the slots of their own group up to themselves, and slot j is
asked for token s+j+1. No text position ever sees a mask, so its logits are those of plain training.
"""

from __future__ import annotations

import torch

from .recipes import SPACE_K
from .stream import END_ID, MASK_ID

IGNORE = -100
ANCHOR_EVERY = 16
"""One mask group for this many tokens of text."""


def add_mask_groups(
    rows: torch.Tensor, labels: torch.Tensor, anchors: torch.Tensor, k: int = SPACE_K
) -> dict[str, torch.Tensor]:
    """Lay mask groups after rows of text.

    ``rows`` and ``labels`` have shape (B, T), labels already shifted (``labels[:, i]`` follows
    ``rows[:, i]``); ``anchors`` (B, G) holds each group's s with 0 < s <= T-1-k. Returns
    ``input_ids``, ``labels``, ``position_ids`` of shape (B, N) and a boolean ``attention_mask`` of
    shape (B, 1, N, N), True where a query may look, with N = T + G (k+1). A slot whose answer lies
    beyond the end of the story has no label.
    """
    batch, length = rows.shape
    slots = k + 1
    offsets = torch.arange(slots)
    positions = (anchors[:, :, None] + offsets).flatten(1)  # (B, G*slots): s .. s+k
    wanted = labels.gather(1, positions)  # labels[s+j] is token s+j+1
    # The token at s itself is unseen too: an end of story there makes the group unanswerable.
    ended = (rows.gather(1, positions) == END_ID).view(batch, -1, slots).cumsum(2) > 0
    wanted = wanted.masked_fill(ended.flatten(1), IGNORE)
    total = length + positions.shape[1]
    mask = torch.zeros(batch, total, total, dtype=torch.bool)
    mask[:, :length, :length] = torch.ones(length, length, dtype=torch.bool).tril()
    before = torch.arange(length) < anchors[:, :, None]  # (B, G, T)
    mask[:, length:, :length] = before.repeat_interleave(slots, dim=1)
    groups = anchors.shape[1]
    own = torch.block_diag(*[torch.ones(slots, slots, dtype=torch.bool).tril()] * groups)
    mask[:, length:, length:] = own.bool()
    text = torch.arange(length).expand(batch, length)
    return {
        "input_ids": torch.cat([rows, torch.full_like(positions, MASK_ID)], 1),
        "labels": torch.cat([labels, wanted], 1),
        "position_ids": torch.cat([text, positions], 1),
        "attention_mask": mask[:, None],
    }


def draw_anchors(
    batch: int, length: int, generator: torch.Generator, k: int = SPACE_K
) -> torch.Tensor:
    """Random anchors, shape (batch, about length/16), each with its whole group inside the row."""
    groups = max(1, length // ANCHOR_EVERY)
    return torch.randint(1, length - k, (batch, groups), generator=generator)
