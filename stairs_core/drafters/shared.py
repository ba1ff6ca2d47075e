"""A small model of another tokenizer guesses among the tokens that both vocabularies have.

Timor et al. 2025, arXiv 2502.05202, section 3.3: its law, restricted to them and renormalised, is
one over the target's vocabulary, so that speculative sampling stays exact.
"""

from __future__ import annotations

import torch

from ..errors import InputError, Use
from ..fitted import vocabulary
from ..lane import Lane
from ..protocols import Kit, Outcome, Proposal
from ..translate import Interpreter, shared
from . import draft_lane


class SharedDrafter:
    """``both``: the target's ids with the draft's, one to one."""

    name = "shared"
    uses_draft_model = True
    doubts = True

    def __init__(self, lane: Lane, kit: Kit, both: dict[int, int]) -> None:
        self._lane, self._kit, self._both = lane, kit, both
        device = kit.pair.device
        self._ours = torch.tensor([*both], device=device)
        self._theirs = torch.tensor([*both.values()], device=device)
        self._width = vocabulary(kit.pair.target)
        self._interpreter = Interpreter(*kit.pair.languages)

    def propose(self, context: list[int], k: int) -> Proposal:
        """At most ``k`` tokens; a guessed end of text is the last one.

        None where the text ends inside a character that the draft has no tokens for.
        """
        pair, go_on = self._kit.pair, self._kit.length.go_on
        told = self._interpreter.tell(context)
        begun = self._interpreter.pending
        told += [self._both[token] for token in begun if token in self._both]
        whole = bool(told) and all(token in self._both for token in begun)
        tokens: list[int] = []
        laws: list[torch.Tensor] = []
        rows: list[torch.Tensor] = []
        for _ in range(min(k, pair.context_length - len(told)) if whole else 0):
            rows.append(scores := self._scores(told))
            drawn, law = self._kit.choice.draw(lambda: context + tokens, scores)
            tokens.append(token := int(drawn))
            laws += [] if law is None else [law]
            if token in pair.eos_ids:
                break
            if go_on and not go_on(float((scores.softmax(-1) if law is None else law)[token])):
                break
            told = [*told, self._both[token]]
        probs = torch.stack(laws) if laws else None
        return Proposal(tokens, "model", probs=probs, rows=rows)

    def _scores(self, told: list[int]) -> torch.Tensor:
        """[vocabulary of the target]: the draft's logits where it has the token."""
        row = self._lane.logits(told, 1)[0]
        scores = row.new_full((self._width,), float("-inf"))
        return scores.index_copy_(0, self._ours, row[self._theirs])

    def observe(self, outcome: Outcome) -> None:
        """Nothing to do: the lane drops rejected tokens when it is next asked."""


def build(kit: Kit) -> SharedDrafter:
    """Raises InputError, too, where the vocabularies have no token in common."""
    pair = kit.pair
    lane = draft_lane(kit, any_tokenizer=True)
    most = vocabulary(pair.target), vocabulary(pair.draft)
    both = {a: b for a, b in shared(*pair.languages).items() if a < most[0] and b < most[1]}
    if not both:
        raise InputError(
            f"{pair.target_name} and {pair.draft_name} have no token in common: ",
            Use(drafter="reencode"),
            ".",
        )
    return SharedDrafter(lane, kit, both)
