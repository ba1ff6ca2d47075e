"""Four backends that compute the target's logits after the text and after each drafted token.

All give the same tokens; they differ in cost.

====================  ======================================  ===================================
backend               rows of the batch                         tokens computed, for a text of n
====================  ======================================  ===================================
``matrix``            N + 1, no cache: the paper's staircase    (N + 1) * (n + N)
``matrix_kv``         N + 1, over one expanded KV cache         (N + 1) * (N + 1)
``single``            one causal pass, no cache                 n + N
``single_kv``         one causal pass, over the cache           N + 1
====================  ======================================  ===================================

N: drafted tokens. One causal pass is enough because the rows are prefixes of one sequence: in a
causal model, later tokens do not change the logits at earlier positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..forward.cached_model import CachedModel

if TYPE_CHECKING:
    import torch

    from ..protocols import Proposal, Verifier


class _OverCachedModel:
    """What both have in common: the cached model, which keeps the hidden states."""

    def __init__(self, model: CachedModel) -> None:
        self._model = model

    def read_layers(self, layers: Sequence[int]) -> None:
        self._model.read_layers(layers)

    def hidden(self, context: list[int], committed: list[int], first: int) -> torch.Tensor | None:
        return self._model.hidden(context, committed[:-1], first)


class OnePass(_OverCachedModel):
    """``single`` and ``single_kv``: only the longest row, with logits at its last N + 1 positions.

    For a tree, whose branches are no prefixes of one row, all tokens are in the row and a mask
    hides the branches from each other.
    """

    def __call__(self, context: list[int], proposal: Proposal) -> torch.Tensor:
        tokens, rows = proposal.tokens, len(proposal.tokens) + 1
        if proposal.parents is None:
            return self._model.logits(context + tokens, rows)
        return self._model.tree(context, tokens, proposal.parents, rows)


class Matrix(_OverCachedModel):
    """``matrix`` and ``matrix_kv``: every prefix, or branch, is a row, with logits at its end."""

    def __call__(self, context: list[int], proposal: Proposal) -> torch.Tensor:
        return self._model.stairs(context, proposal.tokens, [*proposal.follows])


def build(backend: str, model: Any, numerics: str = "fast") -> Verifier:
    """``backend``: of ``settings.BACKENDS``. ``numerics``: of ``settings.NUMERICS``."""
    verifier = Matrix if backend.startswith("matrix") else OnePass
    return verifier(CachedModel(model, cached=backend.endswith("_kv"), strict=numerics == "strict"))
