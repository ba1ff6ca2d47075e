"""SPACE: the target guesses at mask tokens, in the same pass that checks its last guesses.

Yi et al. 2024, arXiv 2402.11809. A pass reads the K candidates and K + 1 groups of K mask tokens,
one group after the text and one after each candidate. A group sees the text, the candidates before
it and itself; nothing sees a group. So the pass is a tree of (K + 1)^2 - 1 tokens, and there is no
second model. The target was trained to say, at mask j of a group, which token comes j + 1 places
after the next one. The group behind the last accepted candidate gives the next step's candidates.

Under sampling, candidates are sampled from the masks' probabilities, q, and the residual keeps the
target's distribution; the authors' own sampler does not.
"""

from __future__ import annotations

import torch

from ..errors import InputError, Use
from ..protocols import Outcome, Proposal
from ..settings.methods import FREE
from . import DrafterInputs


class SpaceDrafter:
    name = "space"
    reads_layers = ()

    def __init__(self, inputs: DrafterInputs, mask_id: int, trained_k: int) -> None:
        self._inputs, self._mask_id, self._trained_k = inputs, mask_id, trained_k
        self._rows: list[torch.Tensor] = []  # [vocabulary] each: logits for the next candidates

    def propose(self, context: list[int], k: int) -> Proposal:
        """A chain of at most ``k`` candidates, then a group of masks after each of its rows.

        No more than the target was trained for: behind that, a mask says nothing.
        """
        k = min(k, self._trained_k)
        tokens, probs = self._candidates(context, k)
        fits = len(context) + len(tokens) + k < self._inputs.pair.context_length
        groups = mask_groups(len(tokens), k) if fits else []
        return Proposal(
            tokens + [self._mask_id] * len(groups),
            self.name,
            [*range(-1, len(tokens) - 1), *groups],
            probs=torch.stack(probs) if probs else None,
            probe=len(groups),
            rows=self._rows[: len(tokens)],
        )

    def _candidates(self, context: list[int], k: int) -> tuple[list[int], list[torch.Tensor]]:
        """At most ``k`` tokens, an end of text being the last; q of each, where it was sampled."""
        tokens: list[int] = []
        probs: list[torch.Tensor] = []
        for row in self._rows[:k]:
            token, q = self._inputs.sampler.sample(lambda: context + tokens, row)
            probs += [] if q is None else [q]
            tokens.append(int(token))
            if tokens[-1] in self._inputs.pair.eos_ids:
                break
        return tokens, probs

    def observe(self, outcome: Outcome) -> None:
        """Keeps the logits of the group behind the last accepted candidate."""
        guesses, masks = len(outcome.proposal.guesses), outcome.proposal.probe
        k = masks // (guesses + 1)
        first = 1 + guesses + k * outcome.accepted  # row 0 stands after the text
        rows = outcome.logits[first : first + k].clone()
        rows[:, self._mask_id] = float("-inf")  # no text has it
        self._rows = [*rows]


def mask_groups(guesses: int, k: int) -> list[int]:
    """The parents of ``guesses`` + 1 groups of ``k`` masks, which follow ``guesses`` tokens.

    One candidate (0) and groups of two: masks 1 and 2 follow the text (-1), 3 and 4 the candidate.

    >>> mask_groups(1, 2)
    [-1, 1, 0, 3]
    """
    parents: list[int] = []
    for row in range(guesses + 1):
        start = guesses + len(parents)
        parents += [row - 1, *range(start, start + k - 1)][:k]
    return parents


def build(inputs: DrafterInputs) -> SpaceDrafter:
    """Raises InputError for a target that was not trained to guess at masks."""
    trained = getattr(inputs.pair.target.config, "stairs_space", None)
    if not trained:
        raise InputError(
            f"{inputs.pair.target_name} was not trained to guess at mask tokens, as SPACE needs: ",
            Use(drafter=FREE),
            ".",
        )
    return SpaceDrafter(inputs, int(trained["mask_token_id"]), int(trained["k"]))
