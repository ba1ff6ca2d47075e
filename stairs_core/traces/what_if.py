"""How a greedy run of a draft model would have gone at another K, worked out from that one run.

The text would be the same. Which guesses would be accepted is known exactly, because the recording
holds at which tokens the draft is right (``Stop.draft_matches``). Seconds are estimated from what
the run's own steps took.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .metrics import pace, too_busy
from .pass_costs import BUSY, PassCosts, Passes, unsteadiness
from .records import Recording


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A run at another K.

    ``drafted`` (and ``acceptance_rate``) assume that the draft goes on to the full K after a wrong
    guess; it would end sooner where it guesses an end of text. ``seconds``: None where pass costs
    were not measured before the run, or the machine was too busy (``too_busy``). ``speedup``: over
    plain decoding as it was timed; at most the ratio of steps. ``before``: whether ``seconds``
    rests on pass costs measured before the run, because the run made no passes so wide.
    """

    k: int
    steps: int
    drafted: int
    accepted: int
    new_tokens: int
    tokens_per_target_call: float
    acceptance_rate: float
    seconds: float | None = None
    speedup: float | None = None
    before: bool = False


def what_if(
    recording: Recording, alone: Recording | None = None, ks: Sequence[int] = range(1, 17)
) -> list[WhatIf]:
    """The same text at each constant K in ``ks``. ``alone``: the target alone, for speedups.

    Empty where it is not known which tokens the draft would have guessed.
    """
    matches = recording.stop.draft_matches
    new = sum(len(s.committed) for s in recording.steps)
    if not matches or len(matches) != new:
        return []
    run, found, before = recording.run, [], PassCosts.of(recording.run)
    busy = bool(alone and too_busy(recording, alone)) or unsteadiness(recording.steps) > BUSY
    times = StepTimes(recording, alone, before) if before and not busy else None
    plain = pace(alone.steps)(new) if alone else None
    own = [len(s.drafted) for s in recording.steps]
    if run.length == "constant":
        own = [n for n, _ in steps_at(recording, matches, run.k)]
    for k in ks:
        steps = steps_at(recording, matches, k)
        drafted, accepted = (sum(column) for column in zip(*steps, strict=True))
        lengths = [n for n, _ in steps]
        seconds = times.seconds(lengths, own) if times else None
        if seconds and plain:
            # A step costs at least what a step of plain decoding does.
            seconds = max(seconds, plain * len(steps) / new)
        found.append(
            WhatIf(
                k=k,
                steps=len(steps),
                drafted=drafted,
                accepted=accepted,
                new_tokens=new,
                tokens_per_target_call=new / len(steps),
                acceptance_rate=accepted / drafted if drafted else 0.0,
                seconds=seconds,
                speedup=min(plain / seconds, new / len(steps)) if plain and seconds else None,
                before=bool(times and lengths != own and not times.made(lengths)),
            )
        )
    return found


def steps_at(recording: Recording, matches: str, k: int) -> list[tuple[int, int]]:
    """The steps of the same text at ``k``: (drafted, accepted) tokens of each.

    Cut as ``engine.commit`` and the drafter cut them. A run that was stopped is followed to where
    it was stopped. ``k`` and the number of new tokens are at least 1. ``matches``: as in ``Stop``.
    """
    new, reason = len(matches), recording.stop.reason
    full = new if reason == "context" else max(new, recording.run.max_new_tokens)
    found, at = [], 0
    while at < new:
        drafted = min(k, full - at - 1)  # the step's last token is the target's own
        guess = matches[at : at + drafted]
        accepted = len(guess) - len(guess.lstrip("1"))
        if reason == "eos" and at + accepted == new:
            drafted = accepted  # the draft guessed the end of text, and ended its guess there
        found.append((drafted, accepted))
        at += accepted + 1
    return found


class StepTimes:
    """What steps with other numbers of guesses would take, estimated from a run's own steps.

    A step with N guesses takes v(N + 1) + N c + rest. v, a target pass, is what ``Passes`` gives
    for the passes of the run and of ``alone`` (the target alone in the same race); c, one guess,
    and the rest are the run's lower medians. What the first step took beyond that, reading the
    prompt, is the same at any K. ``before``: pass costs measured before the run, for widths that
    the run did not make.
    """

    def __init__(self, recording: Recording, alone: Recording | None, before: PassCosts) -> None:
        steps = recording.steps
        later = steps[1:] or steps
        self._elapsed = steps[-1].elapsed
        plain = [s.verify_seconds for s in alone.steps[1:]] if alone else []
        plain = [seconds for seconds in plain if seconds > 0]
        # Passes of the same backend are samples of width 1; those of another, a lower bound.
        same = alone is not None and _way(alone) == _way(recording)
        self._passes = Passes(before, () if same else plain)
        for seconds in plain if same else ():
            self._passes.saw(1, seconds)
        for step in later:
            self._passes.saw(step.width, step.verify_seconds)
        guesses = [s.draft_seconds / len(s.drafted) for s in later if s.drafted]
        self._guess = statistics.median_low(guesses) if guesses else before.draft
        self._rest = max(0.0, statistics.median_low(s.other_seconds for s in later))
        self._first = max(0.0, steps[0].elapsed - self._step(len(steps[0].drafted)))

    def seconds(self, drafted: Sequence[int], own: Sequence[int]) -> float | None:
        """Seconds of steps with so many guesses each. None where the run has no times.

        Scaled so that the run's ``own`` draft lengths give the time it really took, slow moments
        included.
        """
        whole = self._first + sum(map(self._step, own))
        if not self._elapsed or not whole:
            return None
        return self._elapsed * (self._first + sum(map(self._step, drafted))) / whole

    def made(self, drafted: Sequence[int]) -> bool:
        """Whether the run itself made passes this wide, the shorter pass of the last step aside."""
        return all(self._passes.made(n + 1) for n in {*drafted[:-1]})

    def _step(self, guesses: int) -> float:
        return self._passes(guesses + 1) + self._guess * guesses + self._rest


def _way(recording: Recording) -> tuple[str, str]:
    return recording.run.backend, recording.run.numerics
