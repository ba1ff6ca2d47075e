"""Why a run was faster than the target alone, or was not: one sentence from both recordings."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from ..traces import metrics
from ..traces.pass_costs import BUSY, PassCosts
from ..traces.records import Recording
from . import labels


@dataclass(frozen=True, slots=True)
class _Loss:
    """One reason why a lane was not faster: the seconds it cost, and the reason in words."""

    seconds: float
    words: str


def why(first: Recording, lane: Recording) -> str:
    """A sentence on ``lane`` against ``first``, the target alone.

    It has the measured speedup, the speedup that the passes alone would allow, the acceptance rate
    and the largest loss; or that the machine was too busy to tell. Where ``first`` is not the
    target alone, only the measured speedup.
    """
    speedup = metrics.compare(first, lane).speedup
    if speedup is None:
        return "There are no times of both lanes to compare."
    stopped = "stopped" in (first.stop.reason, lane.stop.reason)
    measured = f"measured {speedup:.2f} ×" + (" until it was stopped" if stopped else "")
    if first.run.drafter != "none":
        return f"M{measured[1:]}, against a lane that guesses too."
    if lane.run.lossy:
        return (
            f"This is {labels.LOSSY}: the target read the prompt, and a small model wrote the rest "
            f"unchecked; {measured}."
        )
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
    """What might have been saved: drafting; checking several tokens rather than one; rejected
    guesses (the time per token, had all been accepted); and work outside the passes beyond plain
    decoding's.
    """
    base, own = metrics.fold(first.steps), metrics.fold(lane.steps)
    passes = _Passes.of(first, lane)
    wrong = own.drafted - own.accepted
    other = own.other_seconds - own.steps * base.other_seconds / base.steps
    guessing = "guessing" if lane.run.draft else "looking for guesses"
    return [
        _Loss(own.draft_seconds, f"{guessing}, {_share(own.draft_seconds, own)} of the time"),
        *_reading(passes),
        _Loss(own.seconds * wrong / (own.new_tokens + wrong), "the guesses that did not hold"),
        _Loss(other, f"work outside the passes, {_share(own.other_seconds, own)} of the time"),
    ]


@dataclass(frozen=True, slots=True)
class _Passes:
    """Passes of the target over several tokens, in seconds and tokens: medians of a run's own.

    ``one``: a pass of the target alone in the same race. ``wide``: a pass of the lane, over
    ``width`` tokens, of which ``more`` are no guesses. ``bare``: what it would take without those,
    by passes that were measured before the run; None where they were not, or differ too much.
    ``count``: such passes in the run. Where some passes read more than guesses, they are of those.
    """

    one: float
    wide: float
    width: int
    more: int
    bare: float | None
    count: int

    @classmethod
    def of(cls, first: Recording, lane: Recording) -> _Passes:
        one = statistics.median(s.verify_seconds for s in first.steps[1:] or first.steps)
        later = lane.steps[1:] or lane.steps
        steps = [s for s in later if s.probe] or [s for s in later if s.width > 1]
        if not steps:
            return cls(one, one, 1, 0, one, 0)
        wide = statistics.median_low(s.verify_seconds for s in steps)
        width = statistics.median_low(s.width for s in steps)
        more = statistics.median_low(s.probe or 0 for s in steps)
        prices = next(iter(lane.run.prices), None)
        costs = PassCosts.of(lane.run)
        known = costs is not None and prices is not None and (prices.spread or 1.0) <= BUSY
        # The run's own unit, since the machine may be faster or slower than it was before.
        bare = one * costs.target(width - more) / costs.target(1) if costs and known else None
        bare = bare if more else wide
        count = sum(bool(s.probe) if more else s.width > 1 for s in lane.steps)
        return cls(one, wide, width, more, bare, count)


def _reading(passes: _Passes) -> list[_Loss]:
    """What passes over several tokens cost: for the guesses, and for what is no guess."""
    one, wide, bare, more = passes.one, passes.wide, passes.bare, passes.more
    if not one:
        return [_Loss(wide * passes.count, "checking")]
    if bare is None:
        words = f"passes over {passes.width} tokens, {more} of them read for the next guesses: "
        words += f"{wide / one:.1f} times a pass over one"
        return [_Loss((wide - one) * passes.count, words)]
    words = f"checking several tokens at once, {bare / one:.1f} times a pass over one"
    found = [_Loss((bare - one) * passes.count, words)]
    if more and bare:
        words = f"reading {more} tokens more in each pass for the next guesses, which makes it "
        words += f"{wide / bare:.1f} times as long"
        found.append(_Loss((wide - bare) * passes.count, words))
    return found


def ahead(first: Recording, lane: Recording) -> str:
    """A sentence on what the tokens cost that passes read for the next guesses (masks, a window).

    In passes of the target alone; empty where no such tokens were read, or times are missing.
    """
    if first.run.drafter != "none" or not any(step.probe for step in lane.steps[1:]):
        return ""
    passes = _Passes.of(first, lane)
    if not passes.one or not passes.wide or not passes.more:
        return ""
    times = f"{passes.wide / passes.one:.2f} times the time of a pass of the target alone"
    text = f"A pass here reads {passes.width} tokens, {passes.more} of them only for the next "
    text += f"guesses: {times}. "
    if passes.bare is None:
        return f"{text}What a pass without those {passes.more} takes was not measured."
    bare = f"{passes.bare / passes.one:.2f} times"
    return f"{text}Without those {passes.more} it is {bare}, as measured before the run."


def _share(seconds: float, of: metrics.Summary) -> str:
    return f"{max(0.0, min(seconds / of.seconds, 1.0)):.0%}".replace("%", " %")
