"""What the draft would have guessed, all along a text that is written.

Greedy guesses depend on the text before them alone, so a run at any other K can be told from them:
see ``metrics.what_if``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from .lane import Lane
from .protocols import Choice
from .trace import Recording

if TYPE_CHECKING:
    from .pair import Pair

_PART = 512
"""Tokens of a pass: a longer text takes several, because a vocabulary's logits are wide."""


def agrees(pair: Pair, choice: Choice, recording: Recording) -> str | None:
    """A 1 or 0 for every new token: whether the draft, reading the text before it, would guess it.

    From one pass of the draft over the text, overruled by what the run itself saw: rounding may
    decide otherwise in a pass of another width. None for a drafter that does more than write what
    its model finds most likely, and where the pass does not fit in memory. ``pair``: one for the
    recording's prompt.
    """
    run, steps = recording.run, recording.steps
    if run.drafter != "model" or run.sampling or pair.draft is None:
        return None
    prompt = list(run.prompt_ids)
    new = [token.id for step in steps for token in step.committed]
    draft, said = Lane(pair.guesser), []
    try:
        for start in range(0, len(new), _PART):
            part = new[start : start + _PART]
            read = [*prompt, *new[: start + len(part) - 1]]
            rows = draft.logits(read, len(part))
            texts = [partial(_first, read, len(read) - i) for i in reversed(range(len(part)))]
            drawn = [choice.draw(*at)[0] for at in zip(texts, rows, strict=True)]
            said += torch.stack(drawn).tolist()
    except torch.OutOfMemoryError:
        return None
    bits = [a == b for a, b in zip(said, new, strict=True)]
    for step in steps:
        begin = step.start - len(prompt)
        for at, token in enumerate(step.drafted[: len(new) - begin], begin):
            if token.status in ("accepted", "rejected"):
                bits[at] = token.status == "accepted"
    return "".join("01"[bit] for bit in bits)


def _first(ids: list[int], count: int) -> list[int]:
    return ids[:count]
