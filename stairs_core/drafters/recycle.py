"""What the target found likely after a token is guessed when that token comes again.

Token Recycling (Luo et al. 2024, arXiv 2408.08696): the eight likeliest successors of every token
that the target has read, accepted or not, kept from its last pass over it; guesses are a tree of
successors' successors. The paper's tree is fixed; here its shape follows how often each rank was
right in this run. No second model, and nothing to read beforehand.
"""

from __future__ import annotations

import heapq

from ..protocols import Kit, Outcome, Proposal

RANKS = 8
_PRIOR = (40.0, 12.0, 7.0, 5.0, 4.0, 3.0, 3.0, 2.0)  # of 100: what a rank is held for at first


class RecycleDrafter:
    name = "recycle"
    uses_draft_model = False
    doubts = False

    def __init__(self) -> None:
        self._successors: dict[int, list[int]] = {}
        self._right, self._seen = list(_PRIOR), 100.0
        self._last = 0

    def propose(self, context: list[int], k: int) -> Proposal:
        """A tree of at most ``k`` tokens, those whose ranks make them likeliest."""
        self._last = context[-1]
        tokens: list[int] = []
        parents: list[int] = []
        heap: list[tuple[float, int, int, int]] = []

        def offer(token: int, at: int, chance: float) -> None:
            for rank, successor in enumerate(self._successors.get(token, ())):
                likely = chance * self._right[rank] / self._seen
                heapq.heappush(heap, (-likely, len(heap), at, successor))

        offer(self._last, -1, 1.0)
        while heap and len(tokens) < k:
            chance, _, parent, token = heapq.heappop(heap)
            tokens.append(token)
            parents.append(parent)
            offer(token, len(tokens) - 1, -chance)
        return Proposal(tokens, self.name, parents)

    def observe(self, outcome: Outcome) -> None:
        """Counts which ranks were right, then takes what the target said after every token."""
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


def build(kit: Kit) -> RecycleDrafter:
    return RecycleDrafter()
