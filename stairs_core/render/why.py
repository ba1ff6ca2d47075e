"""Why a run paid or did not: one sentence, from the recordings of both lanes alone."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from .. import metrics
from ..trace import Recording


@dataclass(frozen=True, slots=True)
class _Loss:
    """Seconds of a lane that there would not have been but for one reason; and it in words."""

    seconds: float
    words: str


def why(first: Recording, lane: Recording) -> str:
    """``lane`` against ``first``, the target alone: what was measured, what passes alone allow, and
    what cost most; or that the machine was too busy to say. With another lane as ``first``, the
    measured number alone."""
    speedup = metrics.compare(first, lane).speedup
    if speedup is None:
        return "There are no times of both lanes to compare."
    stopped = "stopped" in (first.stop.reason, lane.stop.reason)
    measured = f"measured {speedup:.2f} ×" + (" until it was stopped" if stopped else "")
    if first.run.drafter != "none":
        return f"M{measured[1:]}, against a lane that guesses too."
    if not any(step.drafted for step in lane.steps):
        return f"Nothing was guessed, so nothing could be gained: {measured}."
    rate = f"{metrics.fold(lane.steps).acceptance_rate or 0.0:.0%} of the guesses held"
    rate = rate.replace("%", " %")
    if busy := metrics.too_busy(lane, first):
        return f"This machine was too busy to say whether it paid: {measured}, {busy}; {rate}."
    verdict = "It changed little" if abs(speedup - 1) < 0.02 else "It paid"
    verdict = "It did not pay" if speedup <= 0.98 else verdict
    ideal = metrics.ideal_speedups(lane, first)
    allowed = f", where passes alone allow {ideal[-1]:.2f} × at these guesses" if ideal else ""
    loss = max(_losses(first, lane), key=lambda loss: loss.seconds)
    most = f", and what cost most was {loss.words}" if loss.seconds > 0 else ""
    return f"{verdict}: {measured}{allowed}; {rate}{most}."


def _losses(first: Recording, lane: Recording) -> list[_Loss]:
    """What guesses took to make, and to check beyond one-token passes; what as many tokens would
    have taken less had all guesses held; and the work outside the passes, beyond plain
    decoding's."""
    base, own = metrics.fold(first.steps), metrics.fold(lane.steps)
    check = statistics.median(s.verify_seconds for s in first.steps[1:] or first.steps)
    wider = [s.verify_seconds for s in lane.steps[1:] or lane.steps if s.drafted]
    wide = statistics.median(wider) if wider else check
    wrong = own.drafted - own.accepted
    other = own.other_seconds - own.steps * base.other_seconds / base.steps
    guessing = "guessing" if lane.run.draft else "looking for guesses"
    return [
        _Loss(own.draft_seconds, f"{guessing}, {_share(own.draft_seconds, own)} of the time"),
        _Loss(
            (wide - check) * sum(bool(step.drafted) for step in lane.steps),
            f"checking several tokens at once, {wide / check:.1f} times a pass over one"
            if check
            else "checking",
        ),
        _Loss(own.seconds * wrong / (own.new_tokens + wrong), "the guesses that did not hold"),
        _Loss(other, f"work outside the passes, {_share(own.other_seconds, own)} of the time"),
    ]


def _share(seconds: float, of: metrics.Summary) -> str:
    return f"{max(0.0, min(seconds / of.seconds, 1.0)):.0%}".replace("%", " %")
