"""Copies where a long run of the last tokens occurred before; else asks EAGLE's head for a tree."""

from __future__ import annotations

from . import DrafterInputs
from . import build as build_drafter
from .search.copy_first import CopyFirst


def build(inputs: DrafterInputs) -> CopyFirst:
    """Raises InputError for a target on which no such head was trained."""
    return CopyFirst("hybrid-eagle-tree", build_drafter("eagle-tree", inputs))
