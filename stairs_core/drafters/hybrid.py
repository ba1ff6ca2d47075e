"""Copies where a long run of the last tokens occurred before; else asks the draft model."""

from __future__ import annotations

from . import DrafterInputs
from . import build as build_drafter
from .search.copy_first import CopyFirst


def build(inputs: DrafterInputs) -> CopyFirst:
    return CopyFirst("hybrid", build_drafter("model", inputs))
