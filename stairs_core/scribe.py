"""Ids and verdicts to the records of a trace: the text of every token, and what became of it."""

from __future__ import annotations

from .protocols import Proposal
from .rules import Verdict
from .text import Speller
from .trace import Prediction, Status, Token


class Scribe:
    """Follows one run, so that a character split over tokens is spelled where it is completed."""

    def __init__(self, speller: Speller, prompt_ids: list[int]) -> None:
        self._speller = speller
        self.prompt, self._pending = speller.spell_all(prompt_ids)

    def write(
        self, proposal: Proposal, verdict: Verdict, committed: int
    ) -> tuple[tuple[Token, ...], tuple[Prediction, ...]]:
        """The tokens of one step, the target's own last, and the target's word after each row."""
        drafted, accepted = proposal.tokens, verdict.accepted
        # State i is what is pending after i drafted tokens, where row i ends.
        states, texts = [self._pending], []
        for token in drafted:
            text, pending = self._speller.spell(states[-1], token)
            texts.append(text)
            states.append(pending)
        said = [self._speller.spell(*at) for at in zip(states, verdict.predictions, strict=True)]
        texts.append(said[accepted][0])
        self._pending = said[accepted][1] if committed > accepted else states[committed]
        ids = [*drafted, verdict.predictions[accepted]]
        labels = statuses(len(drafted), accepted, committed)
        sources = [proposal.source] * len(drafted) + ["target"]
        words = [text for text, _ in said]
        return (
            tuple(map(Token, ids, texts, labels, sources)),
            tuple(map(Prediction, verdict.predictions, words, verdict.margins)),
        )


def statuses(drafted: int, accepted: int, committed: int) -> list[Status]:
    """One a token of the step, the target's own last (design, section 7)."""
    labels: list[Status] = ["accepted"] * accepted
    if accepted < drafted:
        labels.append("rejected")
        labels += ("unchecked",) * (drafted - accepted - 1)
        labels.append("correction")
    else:
        labels.append("bonus")
    kept = [*range(accepted), drafted]
    for i in kept[committed:]:
        labels[i] = "dropped"
    return labels
