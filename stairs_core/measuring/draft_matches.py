"""At which tokens of a finished text the draft would have guessed right.

A greedy guess depends on nothing but the text before it, so these matches are enough to work out
how the run would have gone at any other K: see ``traces.what_if``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from ..forward.cached_model import CachedModel
from ..protocols import Sampler
from ..traces.records import Recording

if TYPE_CHECKING:
    from ..models.pair import Pair

_PART = 512
"""Tokens of one pass. A longer text takes several: logits are [tokens, vocabulary]."""


def compute(pair: Pair, sampler: Sampler, recording: Recording) -> str | None:
    """A 1 or 0 for every new token: whether the draft, reading the text before it, would guess it.

    One pass of the draft over the text answers it. Where the run itself compared a guess, its
    answer counts: rounding may decide otherwise in a pass of another width. None for a drafter that
    does more than write its model's most likely tokens, and where the pass does not fit in memory.
    ``pair``: one for the recording's prompt.
    """
    run = recording.run
    if run.drafter != "model" or run.sampling or pair.draft is None:
        return None
    prompt, new = list(run.prompt_ids), recording.new_ids
    try:
        guessed = _guesses(pair, sampler, prompt, new)
    except torch.OutOfMemoryError:
        return None
    matches = [guess == token for guess, token in zip(guessed, new, strict=True)]
    for step in recording.steps:
        begin = step.start - len(prompt)
        for at, token in enumerate(step.drafted[: len(new) - begin], begin):
            if token.status in ("accepted", "rejected"):
                matches[at] = token.status == "accepted"
    return "".join("01"[match] for match in matches)


def _guesses(pair: Pair, sampler: Sampler, prompt: list[int], new: list[int]) -> list[int]:
    """The draft's guess for each token of ``new``, from the text before that token."""
    draft = CachedModel(pair.guesser)
    guessed: list[int] = []
    for start in range(0, len(new), _PART):
        part = new[start : start + _PART]
        read = [*prompt, *new[: start + len(part) - 1]]
        logits = draft.logits(read, len(part))  # [part, vocabulary]
        # Row i is what the draft predicts after the text without the last len(part) - 1 - i tokens.
        contexts = [partial(_prefix, read, len(read) - i) for i in reversed(range(len(part)))]
        drawn = [sampler.sample(*at)[0] for at in zip(contexts, logits, strict=True)]
        guessed += torch.stack(drawn).tolist()
    return guessed


def _prefix(ids: list[int], count: int) -> list[int]:
    return ids[:count]
