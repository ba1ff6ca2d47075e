"""Ids and verdicts to the records of a trace: the text of every token, and what became of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from . import odds
from .protocols import Outcome, Proposal, Verdict
from .text import START, Speller
from .trace import Prediction, Status, Step, Token

Named = TypeVar("Named", Token, Prediction)


class Scribe:
    """Follows one run, so that a character split over tokens is spelled where it is completed.

    ``weighs``: whether anybody reads how likely tokens were. ``apart``: whether the new text goes
    on from none, the prompt being read by an encoder.
    """

    def __init__(
        self,
        speller: Speller,
        prompt_ids: list[int],
        *,
        weighs: bool = True,
        apart: bool = False,
    ) -> None:
        self._speller, self._weighs = speller, weighs
        self.prompt, self._pending = speller.spell_all(prompt_ids)
        self._pending = START if apart else self._pending

    @property
    def rest(self) -> str:
        """What the text ends with where its last character never came to its end."""
        return self._speller.flush(self._pending)

    def write(
        self, proposal: Proposal, verdict: Verdict, committed: int
    ) -> tuple[tuple[Token, ...], tuple[Prediction, ...]]:
        """The tokens of one step, the target's own last, and the target's word after each row."""
        guesses, path = proposal.guesses, verdict.path
        # State i is what is pending where row i ends: after the text, or after token i - 1.
        states, texts = [self._pending], []
        for token, parent in zip(guesses, proposal.follows, strict=False):
            text, pending = self._speller.spell(states[parent + 1], token)
            texts.append(text)
            states.append(pending)
        ends = [0, *(i + 1 for i in path)]
        own, after = self._speller.spell(states[ends[-1]], verdict.own)
        self._pending = after if committed > len(path) else states[ends[committed]]
        said = [self._speller.spell(*at)[0] for at in zip(states, verdict.predictions, strict=True)]
        ids = [*guesses, verdict.own]
        labels = statuses(proposal, path, committed)
        sources = [proposal.source] * len(guesses) + ["target"]
        origins = [*(proposal.origins or [None] * len(guesses)), None]
        tokens = map(Token, ids, [*texts, own], labels, sources, origins)
        predictions = map(Prediction, verdict.predictions, said, verdict.margins)
        return tuple(map(self._named, tokens)), tuple(map(self._named, predictions))

    def _named(self, record: Named) -> Named:
        """With its name, where it is a special token."""
        name = self._speller.special.get(record.id)
        return replace(record, special=name) if name is not None else record

    def weigh(self, step: Step, outcome: Outcome) -> Step:
        """The step with how likely its tokens were, which is found out off the clock."""
        if not self._weighs:
            return step
        return odds.weigh(step, outcome.proposal, outcome.logits)


def statuses(proposal: Proposal, path: list[int], committed: int) -> list[Status]:
    """One a token of the step, the target's own last (design, section 7).

    What follows the text, or an accepted token, was compared; what follows anything else was not.
    """
    kept = {-1, *path}
    labels: list[Status] = []
    for i, parent in zip(range(len(proposal.guesses)), proposal.follows, strict=False):
        compared = "rejected" if parent in kept else "unchecked"
        labels.append("accepted" if i in kept else compared)
    last = path[-1] if path else -1
    labels.append("correction" if last in proposal.follows[: len(labels)] else "bonus")
    for i in [*path, len(labels) - 1][committed:]:
        labels[i] = "dropped"
    return labels
