"""Turns each step of a run into trace records: token texts, statuses, probabilities and ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import torch

from ..errors import NoNumbers
from ..forward.hidden_states import spread
from ..protocols import Acceptance, Outcome, Proposal
from ..text.tokens import START, Speller
from ..traces.records import Prediction, Status, Step, Token

Named = TypeVar("Named", Token, Prediction)


class Recorder:
    """Records one run. It spells tokens in order, so that a character split over several tokens
    appears with the token that completes it.

    ``weighs``: whether anybody reads probabilities and ranks; if not, they are not worked out.
    ``apart``: the prompt is read by an encoder, so the new text does not continue the prompt's.
    ``writer``: whose tokens those are that are not guesses.
    """

    def __init__(
        self,
        speller: Speller,
        prompt_ids: list[int],
        *,
        weighs: bool = True,
        apart: bool = False,
        writer: str = "target",
    ) -> None:
        self._writer = writer
        self._speller, self._weighs = speller, weighs
        self.prompt, self._pending = speller.spell_all(prompt_ids)
        self._pending = START if apart else self._pending

    @property
    def rest(self) -> str:
        """The text's last character where it was never completed, as it is displayed; else ""."""
        return self._speller.flush(self._pending)

    def write(
        self, proposal: Proposal, acceptance: Acceptance, committed: int
    ) -> tuple[tuple[Token, ...], tuple[Prediction, ...]]:
        """The step's tokens (the guesses, then the target's next token), and the target's most
        likely token after each row. ``committed``: how many ids the step added to the text."""
        guesses, path = proposal.guesses, acceptance.path
        # State i is what is pending where row i ends: after the text, or after token i - 1.
        states, texts = [self._pending], []
        for token, parent in zip(guesses, proposal.follows, strict=False):
            text, pending = self._speller.spell(states[parent + 1], token)
            texts.append(text)
            states.append(pending)
        ends = [0, *(i + 1 for i in path)]
        next_text, after = self._speller.spell(states[ends[-1]], acceptance.next_token)
        self._pending = after if committed > len(path) else states[ends[committed]]
        predicted = [
            self._speller.spell(*at)[0] for at in zip(states, acceptance.predictions, strict=True)
        ]
        ids = [*guesses, acceptance.next_token]
        labels = statuses(proposal, path, committed)
        sources = [proposal.source] * len(guesses) + [self._writer]
        origins = [*(proposal.origins or [None] * len(guesses)), None]
        tokens = map(Token, ids, [*texts, next_text], labels, sources, origins)
        predictions = map(Prediction, acceptance.predictions, predicted, acceptance.margins)
        return tuple(map(self._named, tokens)), tuple(map(self._named, predictions))

    def _named(self, record: Named) -> Named:
        """The record with its token's name, where that is a special token."""
        name = self._speller.special.get(record.id)
        return replace(record, special=name) if name is not None else record

    def with_probabilities(self, step: Step, outcome: Outcome) -> Step:
        """Adds each token's probability and rank, from raw logits, outside the timed section."""
        if not self._weighs:
            return step
        return add_probabilities(step, outcome.proposal, outcome.logits)


def statuses(proposal: Proposal, path: list[int], committed: int) -> list[Status]:
    """The status of each token of the step: one per guess, then the target's next token.

    A guess was compared with the target if it follows the text or an accepted token; others stay
    "unchecked". The target's token is a "correction" where a guess was rejected in its place, else
    a "bonus". Tokens beyond the first ``committed`` that were kept are "dropped".

    >>> chain = Proposal([5, 6, 7])
    >>> statuses(chain, path=[0], committed=2)
    ['accepted', 'rejected', 'unchecked', 'correction']
    >>> statuses(chain, path=[0, 1, 2], committed=4)
    ['accepted', 'accepted', 'accepted', 'bonus']
    >>> statuses(chain, path=[0, 1, 2], committed=2)
    ['accepted', 'accepted', 'dropped', 'dropped']

    In a tree, two tokens may compete for one place:

    >>> statuses(Proposal([5, 8, 6], parents=[-1, -1, 1]), path=[0], committed=2)
    ['accepted', 'rejected', 'unchecked', 'bonus']
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


def add_probabilities(step: Step, proposal: Proposal, logits: torch.Tensor) -> Step:
    """The step with, for every token, the target's probability and rank, and for the guesses of a
    model that model's probability too. All are from raw logits: before temperature, top-k and the
    like.

    ``logits``: [N + 1 or more, vocabulary], the target's. Raises NoNumbers where the draft's logits
    are NaN: its guesses are then rejected, which harms no text, but the model is broken.
    """
    ids = [token.id for token in step.tokens]
    asked = [_stacked(logits[list(step.rows)], ids)]
    if proposal.rows:
        rows = torch.stack(proposal.rows)
        if proposal.columns is not None:
            rows = spread(rows, proposal.columns, logits.shape[-1])
        asked.append(_stacked(rows, ids[: len(rows)]))
    # float64 holds every rank exactly, so both models' numbers travel in one transfer.
    found = torch.cat([a.to(logits.device) for a in asked]).tolist()
    targets, drafts = found[: len(ids)], [draft for draft, _ in found[len(ids) :]]
    if any(map(math.isnan, drafts)):
        assert proposal.rows
        raise NoNumbers("the draft", proposal.rows[0].dtype)
    tokens = [
        replace(token, probability=_rounded(probability), rank=int(rank))
        for token, (probability, rank) in zip(step.tokens, targets, strict=True)
    ]
    for i, probability in enumerate(drafts):
        tokens[i] = replace(tokens[i], draft_probability=_rounded(probability))
    return replace(step, tokens=tuple(tokens))


@torch.inference_mode()
def _stacked(rows: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
    """[N, 2], float64: probability and rank (1: the most likely) of token i in row i of
    [N, vocabulary].

    A token that a row is too short for has probability 0 and the last rank: the vocabularies of
    two models may be padded to different lengths.
    """
    rows, width = rows.float(), rows.shape[-1]
    wanted = torch.tensor(ids, device=rows.device)[:, None]
    logit = rows.gather(-1, wanted.clamp(max=width - 1))
    logit = logit.masked_fill(wanted >= width, float("-inf"))
    probability = (logit.double() - rows.logsumexp(-1, keepdim=True).double()).exp()
    return torch.cat([probability, 1.0 + (rows > logit).sum(-1, keepdim=True)], dim=-1)


def _rounded(probability: float) -> float:
    """4 significant digits: enough to show, and short in a trace."""
    return float(f"{probability:.4g}")
