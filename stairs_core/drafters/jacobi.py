"""The target refines its own guesses: every pass over them says better ones (Jacobi decoding).

Santilli et al. 2023, arXiv 2305.10427; the exact part of FastCoT, arXiv 2311.08263 (its answers
from unfinished guesses are left out, because they change the text). No second model: what the
target said after a guess that did not hold is the next step's guess of what follows there.
"""

from __future__ import annotations

import random

from ..protocols import Kit, Outcome, Proposal


class JacobiDrafter:
    name = "jacobi"
    uses_draft_model = False
    doubts = False

    def __init__(self) -> None:
        self._refined: list[int] = []
        self._random = random.Random(0)

    def propose(self, context: list[int], k: int) -> Proposal:
        """Always ``k`` tokens: what is not refined yet starts as any token of the text."""
        new = self._random.choices(context, k=max(0, k - len(self._refined)))
        return Proposal([*self._refined, *new][:k], self.name)

    def observe(self, outcome: Outcome) -> None:
        """The rows behind the accepted ones were computed anyway: what the target said there."""
        self._refined = outcome.logits[outcome.accepted + 1 :].argmax(-1).tolist()


def build(kit: Kit) -> JacobiDrafter:
    return JacobiDrafter()
