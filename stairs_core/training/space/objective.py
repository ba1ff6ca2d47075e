"""SPACE's semi-autoregressive objective (arXiv 2402.11809, section 3.1), in both layouts.

A group of k + 1 masks with anchor s asks: the text ends before s, what comes next? Its masks have
the positions s .. s+k, see the text before s and their own group up to themselves, and mask j must
predict token s+j+1.

In the plain layout (``end_in_masks``) the masks stand in the place of the text from s on, and the
rest of the row is not used: any causal model reads that. In the efficient layout
(``add_mask_groups``) the row stays whole and groups are appended to it. Text positions never see a
mask, so their logits are those of plain training.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..recipes import SPACE_K
from ..stream import END_ID, MASK_ID

IGNORE = -100
ANCHOR_EVERY = 16
"""There is one mask group per this many tokens of text."""
ENDS = (END_ID,)


def add_mask_groups(
    rows: torch.Tensor,
    labels: torch.Tensor,
    anchors: torch.Tensor,
    k: int = SPACE_K,
    mask_id: int = MASK_ID,
    ends: Sequence[int] = ENDS,
) -> dict[str, torch.Tensor]:
    """Append mask groups to rows of text.

    ``rows`` and ``labels`` have shape (B, T), labels already shifted (``labels[:, i]`` follows
    ``rows[:, i]``); ``anchors`` (B, G) holds each group's s with 0 < s <= T-1-k. ``ends``: ids
    after which another text begins. Returns ``input_ids``, ``labels``, ``position_ids`` of shape
    (B, N) and a boolean ``attention_mask`` of shape (B, 1, N, N), True where a query may look, with
    N = T + G (k+1). A mask whose token would be beyond the end of the text has no label.
    """
    batch, length = rows.shape
    slots = k + 1
    offsets = torch.arange(slots)
    positions = (anchors[:, :, None] + offsets).flatten(1)  # (B, G*slots): s .. s+k
    wanted = labels.gather(1, positions)  # labels[s+j] is token s+j+1
    # The token at s is not seen either: if the text ends there, no mask has a label.
    ended = is_end(rows.gather(1, positions), ends).view(batch, -1, slots).cumsum(2) > 0
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
        "input_ids": torch.cat([rows, torch.full_like(positions, mask_id)], 1),
        "labels": torch.cat([labels, wanted], 1),
        "position_ids": torch.cat([text, positions], 1),
        "attention_mask": mask[:, None],
    }


def end_in_masks(
    rows: torch.Tensor,
    labels: torch.Tensor,
    anchors: torch.Tensor,
    k: int = SPACE_K,
    mask_id: int = MASK_ID,
    ends: Sequence[int] = ENDS,
) -> dict[str, torch.Tensor]:
    """Put one mask group in the place of each row's text from its anchor on.

    As ``add_mask_groups``, with one anchor a row: ``anchors`` (B, 1). Returns ``input_ids`` and
    ``labels`` (B, T). Behind the group stand more masks without labels, which nothing sees.
    """
    slot = torch.arange(rows.shape[1]) - anchors  # (B, T): from 0 on in the group
    ended = (is_end(rows, ends) & (slot >= 0)).cumsum(1) > 0
    return {
        "input_ids": rows.masked_fill(slot >= 0, mask_id),
        "labels": labels.masked_fill((slot > k) | ended, IGNORE),
    }


def is_end(ids: torch.Tensor, ends: Sequence[int]) -> torch.Tensor:
    """Which ids end a text: booleans in the shape of ``ids``."""
    return torch.isin(ids, torch.tensor([*ends], dtype=ids.dtype))


def draw_anchors(
    batch: int, length: int, generator: torch.Generator, k: int = SPACE_K, groups: int | None = None
) -> torch.Tensor:
    """Random anchors, shape (batch, groups), each with its whole group inside the row.

    ``groups``: about length/16 unless it is given.
    """
    count = max(1, length // ANCHOR_EVERY) if groups is None else groups
    return torch.randint(1, length - k, (batch, count), generator=generator)
