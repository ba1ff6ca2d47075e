"""Texts as rows of ids, and the batches of every step: a function of seed and step alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ...errors import InputError
from ..corpus import passages
from ..trainer import Batch
from .objective import add_mask_groups, draw_anchors, end_in_masks

AT_ONCE = 256
"""Texts that are encoded in one call."""


def encoded(
    tokenizer: Any, works: Sequence[str], end: int | None, count: int, seed: int
) -> torch.Tensor:
    """[count]: the ids of texts, in an order drawn by ``seed``, as often as need be; each text is
    followed by ``end``, if the model has one. Raises InputError for texts without a token."""
    pieces = [piece for work in works for piece in passages(work)]
    parts: list[list[int]] = []
    got = number = 0
    while got < count:
        order = random.Random(f"{seed}/{number}").sample(pieces, len(pieces))
        for start in range(0, len(order), AT_ONCE):
            for ids in tokenizer(order[start : start + AT_ONCE])["input_ids"]:
                # Where the tokenizer begins a text with its end token, that parts them already.
                apart = end is None or not ids or end in (ids[0], ids[-1])
                ids = ids if apart else [*ids, end]
                parts.append(ids)
                got += len(ids)
            if got >= count:
                break
        if not got:
            raise InputError("The corpus holds no text that the tokenizer can read: add some.")
        number += 1
    return torch.tensor([i for ids in parts for i in ids][:count])


@dataclass(frozen=True)
class Rows:
    """Makes the batches of every step from ``ids``, one long text: ``rows`` of ``length`` tokens,
    of which the share ``masked`` has groups of ``k`` + 1 masks.

    ``at_once``: rows in a pass. ``added``: whether the model adds its attention mask to the scores,
    instead of taking booleans.
    """

    ids: torch.Tensor
    length: int
    rows: int
    at_once: int
    masked: float
    k: int
    mask_id: int
    ends: tuple[int, ...]
    efficient: bool
    added: bool
    seed: int

    @property
    def with_masks(self) -> int:
        """Rows of a step that have masks."""
        return min(self.rows, max(1, round(self.rows * self.masked)))

    def __call__(self, step: int) -> list[Batch]:
        """The batches of a step, ready for ``LanguageLoss``."""
        count = self.rows * self.length
        part = self.ids[step * count : (step + 1) * count + 1]
        rows, labels = part[:-1].view(-1, self.length), part[1:].view(-1, self.length)
        n = self.with_masks
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        draw = partial(draw_anchors, n, self.length, generator, self.k)
        rest = {"input_ids": rows[n:], "labels": labels[n:]}
        facts = (self.k, self.mask_id, self.ends)
        if self.efficient:
            masked = add_mask_groups(rows[:n], labels[:n], draw(), *facts)
            if self.added:
                hidden = ~masked["attention_mask"]
                lowest = torch.finfo(torch.float32).min
                masked["attention_mask"] = torch.zeros(hidden.shape).masked_fill(hidden, lowest)
            return self._split(masked) + self._split(rest)
        masked = end_in_masks(rows[:n], labels[:n], draw(groups=1), *facts)
        return self._split({key: torch.cat([masked[key], rest[key]]) for key in rest})

    def _split(self, batch: Batch) -> list[Batch]:
        count = len(batch["input_ids"])
        starts = range(0, count, self.at_once)
        return [{n: t[i : i + self.at_once] for n, t in batch.items()} for i in starts]
