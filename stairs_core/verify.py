"""The staircase, four ways (design, section 4). All give the same tokens; they differ in cost.

====================  ======================================  ===================================
backend               rows of the batch                         tokens computed, for a text of n
====================  ======================================  ===================================
``matrix``            N + 1, no cache: the paper's picture      (N + 1) * (n + N)
``matrix_kv``         N + 1, over one expanded KV cache         (N + 1) * (N + 1)
``single``            one causal pass, no cache                 n + N
``single_kv``         one causal pass, over the cache           N + 1
====================  ======================================  ===================================

Why one pass is enough: the rows are prefixes of one sequence, and in a causal model what stands
later in a row cannot change what the model says earlier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .lane import Lane

if TYPE_CHECKING:
    import torch

    from .protocols import Proposal, Verifier


class OnePass:
    """``single`` and ``single_kv``: the longest row alone, read at its last N + 1 positions.

    A tree has no longest row; its branches stand side by side and are hidden from each other.
    """

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    def __call__(self, context: list[int], proposal: Proposal) -> torch.Tensor:
        tokens, rows = proposal.tokens, len(proposal.tokens) + 1
        if proposal.parents is None:
            return self._lane.logits(context + tokens, rows)
        return self._lane.tree(context, tokens, proposal.parents, rows)


class Matrix:
    """``matrix`` and ``matrix_kv``: every prefix, or branch, is a row, read at its own end."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    def __call__(self, context: list[int], proposal: Proposal) -> torch.Tensor:
        return self._lane.stairs(context, proposal.tokens, [*proposal.follows])


def build(backend: str, model: Any, numerics: str = "fast") -> Verifier:
    """``backend``, ``numerics``: of ``settings.BACKENDS`` and ``settings.NUMERICS``."""
    way = Matrix if backend.startswith("matrix") else OnePass
    return way(Lane(model, cached=backend.endswith("_kv"), strict=numerics == "strict"))
