"""Token Recycling: guesses what the target found likely after the same token earlier.

Luo et al. 2024, arXiv 2408.08696: for every token that the target has read, accepted or not, its
eight likeliest successors are kept from the last pass over it. The guesses are a tree of
successors, their successors, and so on. The paper's tree has a fixed shape; here it follows how
often each rank was right in this run. No second model.
"""

from __future__ import annotations

import heapq

from ..protocols import Outcome, Proposal
from . import DrafterInputs

RANKS = 8
_PRIOR = (40.0, 12.0, 7.0, 5.0, 4.0, 3.0, 3.0, 2.0)
"""How often each rank is right, out of 100, before any was counted."""


class RecycleDrafter:
    name = "recycle"
    reads_layers = ()

    def __init__(self) -> None:
        self._successors: dict[int, list[int]] = {}
        self._right, self._seen = list(_PRIOR), 100.0
        self._last = 0

    def propose(self, context: list[int], k: int) -> Proposal:
        """A tree of at most ``k`` tokens, the likeliest by how often their ranks were right."""
        self._last = context[-1]
        tokens: list[int] = []
        parents: list[int] = []
        heap: list[tuple[float, int, int, int]] = []

        def offer(token: int, at: int, probability: float) -> None:
            for rank, successor in enumerate(self._successors.get(token, ())):
                likely = probability * self._right[rank] / self._seen
                heapq.heappush(heap, (-likely, len(heap), at, successor))

        offer(self._last, -1, 1.0)
        while heap and len(tokens) < k:
            negative, _, parent, token = heapq.heappop(heap)
            tokens.append(token)
            parents.append(parent)
            offer(token, len(tokens) - 1, -negative)
        return Proposal(tokens, self.name, parents)

    def observe(self, outcome: Outcome) -> None:
        """Counts which ranks were right, then keeps the top tokens after every token read."""
        before = self._last
        for token in outcome.committed:
            known = self._successors.get(before)
            if known:
                self._seen += 1
                if token in known:
                    self._right[known.index(token)] += 1
            before = token
        count = min(RANKS, outcome.logits.shape[-1])
        best = outcome.logits.topk(count, dim=-1).indices.tolist()
        read = [self._last, *outcome.proposal.tokens]
        self._successors.update(zip(read, best, strict=True))


def build(inputs: DrafterInputs) -> RecycleDrafter:
    return RecycleDrafter()
