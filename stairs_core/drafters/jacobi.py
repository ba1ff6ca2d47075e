"""Jacobi decoding: the target's predictions after rejected guesses are the next step's guesses.

Santilli et al. 2023, arXiv 2305.10427; the exact part of FastCoT, arXiv 2311.08263 (its answers
from unfinished guesses are left out, because they change the text). No second model.
"""

from __future__ import annotations

import random

from ..protocols import Outcome, Proposal
from . import DrafterInputs


class JacobiDrafter:
    name = "jacobi"
    reads_layers = ()

    def __init__(self) -> None:
        self._refined: list[int] = []
        self._random = random.Random(0)

    def propose(self, context: list[int], k: int) -> Proposal:
        """Always ``k`` tokens: positions without a prediction get random tokens of the text."""
        new = self._random.choices(context, k=max(0, k - len(self._refined)))
        return Proposal([*self._refined, *new][:k], self.name)

    def observe(self, outcome: Outcome) -> None:
        """Keeps the target's predictions after the rejected guesses, which were computed anyway."""
        self._refined = outcome.logits[outcome.accepted + 1 :].argmax(-1).tolist()


def build(inputs: DrafterInputs) -> JacobiDrafter:
    return JacobiDrafter()
