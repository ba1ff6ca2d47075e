"""The text of a greedy run of a draft model in steps of another K (design, section 6)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from .prices import Costs, Passes
from .trace import Recording


def turns(recording: Recording, agrees: str, k: int) -> list[tuple[int, int]]:
    """Drafted and accepted tokens of every step, as ``engine.commit`` and the drafter cut them.

    A run that was stopped is followed as far as it came. Needs a K and a new token at least.
    """
    new, reason = len(agrees), recording.stop.reason
    full = new if reason == "context" else max(new, recording.run.max_new_tokens)
    found, at = [], 0
    while at < new:
        drafted = min(k, full - at - 1)
        guess = agrees[at : at + drafted]
        accepted = len(guess) - len(guess.lstrip("1"))
        if reason == "eos" and at + accepted == new:
            drafted = accepted  # the draft ends its guess there
        found.append((drafted, accepted))
        at += accepted + 1
    return found


class Reckoning:
    """What steps with other numbers of guesses would have taken, by what a run's own steps took.

    A step of N guesses: v(N + 1) + N c + the rest. Passes cost what ``Passes`` says, from those of
    the run and of ``alone``, the target alone in the same race; a guess and the rest what they did
    in this run, at the lower median. The first step reads the prompt: what it took beyond such a
    step is part of every run. ``before``: the shape that was measured before the run.
    """

    def __init__(self, recording: Recording, alone: Recording | None, before: Costs) -> None:
        steps = recording.steps
        later = steps[1:] or steps  # the first reads the prompt
        self._elapsed = steps[-1].elapsed
        base = [s.verify_seconds for s in alone.steps[1:]] if alone else []
        base = [seconds for seconds in base if seconds > 0]
        same = alone is not None and _way(alone) == _way(recording)
        self._passes = Passes(before, () if same else base)
        for seconds in base if same else ():
            self._passes.saw(1, seconds)
        for step in later:
            self._passes.saw(len(step.tokens), step.verify_seconds)
        guesses = [s.draft_seconds / len(s.drafted) for s in later if s.drafted]
        self._guess = statistics.median_low(guesses) if guesses else before.draft
        self._rest = max(0.0, statistics.median_low(s.other_seconds for s in later))
        self._first = max(0.0, steps[0].elapsed - self._step(len(steps[0].drafted)))

    def seconds(self, drafted: Sequence[int], own: Sequence[int]) -> float | None:
        """Of steps with so many guesses, in proportion to what the run took for its ``own``, slow
        moments included: for its own guesses that is its own time. None without times."""
        whole = self._first + sum(map(self._step, own))
        if not self._elapsed or not whole:
            return None
        return self._elapsed * (self._first + sum(map(self._step, drafted))) / whole

    def made(self, drafted: Sequence[int]) -> bool:
        """Whether the run itself saw passes over all these guesses, but for the shorter last."""
        return all(self._passes.made(n + 1) for n in {*drafted[:-1]})

    def _step(self, guesses: int) -> float:
        return self._passes(guesses + 1) + self._guess * guesses + self._rest


def _way(recording: Recording) -> tuple[str, str]:
    return recording.run.backend, recording.run.numerics
