"""FIRP: as Hidden Transfer, but all pseudo hidden states enter at the same middle layer.

Shen et al. 2024, arXiv 2410.20488. See ``hidden_transfer.py``, which both are.
"""

from __future__ import annotations

from . import DrafterInputs, hidden_transfer


def build(inputs: DrafterInputs) -> hidden_transfer.HiddenTransferDrafter:
    """Raises InputError for a target on which no such maps were trained."""
    return hidden_transfer.build(inputs, "firp")
