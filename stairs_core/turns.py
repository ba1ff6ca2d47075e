"""The text of a greedy run of a draft model in steps of another K (design, section 6)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from .prices import Costs
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


def reckon(recording: Recording, drafted: Sequence[int], own: Sequence[int]) -> float | None:
    """Seconds of steps with so many guesses: v(N + 1) + N c + the rest, and the first pass.

    A guess and the rest cost what they did in this run, at the median; wider and narrower checks
    what they were measured to, at the level that this run saw, as for K auto. The first step reads
    the prompt: what it took beyond such a step is part of every run. All in proportion to what this
    run took, slow moments included: for its ``own`` guesses that is its own time.
    """
    costs, steps = Costs.of(recording.run), recording.steps
    if costs is None:
        return None
    level = statistics.median(s.verify_seconds / costs.target(len(s.tokens)) for s in steps)
    guesses = [s.draft_seconds / len(s.drafted) for s in steps if s.drafted]
    guess = statistics.median(guesses) if guesses else costs.draft
    rest = statistics.median(s.other_seconds for s in steps)

    def priced(n: int) -> float:
        return level * costs.target(n + 1) + guess * n + rest

    first = steps[0].elapsed - priced(len(steps[0].drafted))
    return steps[-1].elapsed * (first + sum(map(priced, drafted))) / (first + sum(map(priced, own)))
