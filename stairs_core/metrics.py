"""Numbers from traces, every one from the records of a run. Imports neither torch nor gradio."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from .prices import BUSY, UNPRICED, Costs, unsteadiness
from .trace import Reason, Recording, Step
from .turns import Reckoning, turns

_CLOCK = 1.02
"""Plain decoding against itself reads 1.00 within two per cent."""


@dataclass(frozen=True, slots=True)
class Summary:
    """One run in numbers. Times in seconds of the engine clock.

    ``checked``: drafted tokens that the target was asked about, up to the first mismatch.
    ``acceptance_rate``: accepted / drafted; ``alpha``: accepted / checked; None where nothing was
    drafted. ``tokens_per_target_call`` counts the target's own token too.
    """

    new_tokens: int
    steps: int
    stop_reason: Reason | None
    drafted: int
    accepted: int
    checked: int
    acceptance_rate: float | None
    alpha: float | None
    tokens_per_target_call: float
    seconds: float
    draft_seconds: float
    verify_seconds: float
    other_seconds: float
    tokens_per_second: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two texts part. ``position``: counted from the first new token, 0-based.

    ``margin``: the smaller of both runs' margins there, in logits. ``noise``: how far rounding was
    measured to move a logit there; ``rounding``: how far it can. ``rescored``: the margin in a
    higher precision, where it was asked for. ``verdict``: see ``judge``.
    """

    position: int
    first_id: int
    second_id: int
    first: str
    second: str
    margin: float
    noise: float | None
    verdict: str
    rescored: float | None = None
    rounding: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A lane against the first. ``speedup``: the first's seconds for as many tokens over its own;
    where the first wrote fewer, it goes on at its own pace.

    ``identical``: over the shorter text, where one of them was stopped; None where chance may have
    parted them.
    """

    speedup: float | None
    identical: bool | None
    first_difference: Difference | None
    calls_saved: int | None


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A run as it would have been at another K. ``drafted`` and what follows from it take a wrong
    guess to go on to its full length; it would end sooner at a guessed end of text.

    ``seconds``: None where passes were not priced, or the machine was too busy (``too_busy``).
    ``speedup``: over plain decoding as it was timed; never more than the steps that are saved.
    ``before``: whether the seconds rest on passes as they were measured before the run, since the
    run made none so wide itself.
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


def fold(steps: Sequence[Step]) -> Summary:
    """The numbers of a run, finished or not."""
    drafted = sum(len(s.drafted) for s in steps)
    statuses = [t.status for s in steps for t in s.drafted]
    accepted = statuses.count("accepted")
    checked = accepted + statuses.count("rejected")
    new = sum(len(s.committed) for s in steps)
    seconds = steps[-1].elapsed if steps else 0.0
    return Summary(
        new_tokens=new,
        steps=len(steps),
        stop_reason=steps[-1].stop if steps else None,
        drafted=drafted,
        accepted=accepted,
        checked=checked,
        acceptance_rate=accepted / drafted if drafted else None,
        alpha=accepted / checked if checked else None,
        tokens_per_target_call=new / len(steps) if steps else 0.0,
        seconds=seconds,
        draft_seconds=sum(s.draft_seconds for s in steps),
        verify_seconds=sum(s.verify_seconds for s in steps),
        other_seconds=sum(s.other_seconds for s in steps),
        tokens_per_second=_ratio(new, seconds) or 0.0,
    )


def told(recording: Recording) -> Summary:
    """``fold``, with None for what a log does not tell (see ``Run.untold``)."""
    summary, untold = fold(recording.steps), recording.run.untold
    if untold == "guesses":
        return replace(summary, alpha=None, acceptance_rate=None)
    return replace(summary, alpha=None) if untold == "lengths" else summary


def progress(steps: Sequence[Step]) -> tuple[list[float], list[int]]:
    """Engine seconds and new tokens after every step, for a curve that starts at (0, 0)."""
    counts = accumulate(len(s.committed) for s in steps)
    return [0.0, *(s.elapsed for s in steps)], [0, *counts]


def compare(first: Recording, other: Recording) -> Comparison:
    """``other`` measured against ``first``, which is the target alone in every race of ours."""
    a, b = fold(first.steps), fold(other.steps)
    comparable = first.run.comparable and other.run.comparable
    difference = first_difference(first, other) if comparable else None
    stopped = "stopped" in (first.stop.reason, other.stop.reason)
    return Comparison(
        speedup=_ratio(_pace(first.steps)(b.new_tokens), b.seconds),
        identical=(difference is None and (stopped or a.new_tokens == b.new_tokens))
        if comparable
        else None,
        first_difference=difference,
        calls_saved=a.steps - b.steps if a.new_tokens == b.new_tokens and not stopped else None,
    )


def too_busy(recording: Recording, alone: Recording) -> str:
    """Why the times of a race do not say what guessing gained: something else slowed the machine.
    Empty where they do."""
    speedup, most = compare(alone, recording).speedup, fold(recording.steps).tokens_per_target_call
    if speedup is not None and speedup > _CLOCK * most:
        return f"more than the {most:.2f} tokens of a step can give"
    differ = max(unsteadiness(recording.steps), unsteadiness(alone.steps))
    if differ > BUSY:
        return f"while passes over as many tokens differed by a factor of {differ:.1f}"
    return ""


def ideal_speedups(recording: Recording, alone: Recording) -> list[float]:
    """After each step so far, what the passes of both lanes would allow if nothing else cost more
    than in plain decoding: the target alone's seconds over those that the lane's passes took.

    Never less than what was measured there, and no more than the tokens of a step. Empty where that
    cannot be: where there are no times, where a guess is not a pass and nothing else, and where the
    machine was too busy. Guesses that no model made are free.
    """
    steps = recording.steps
    if not steps or recording.run.drafter in UNPRICED or too_busy(recording, alone):
        return []
    if (compare(alone, recording).speedup or 0.0) > fold(steps).tokens_per_target_call:
        return []
    found, tokens, copying, rest, pace = [], 0, 0.0, 0.0, _pace(alone.steps)
    plain = [s.other_seconds for s in alone.steps]
    usual = max(0.0, sum(plain) / len(plain)) if plain else 0.0
    for count, step in enumerate(steps, 1):
        tokens += len(step.committed)
        rest += step.other_seconds
        copying += 0.0 if any(t.source == "model" for t in step.drafted) else step.draft_seconds
        base = pace(tokens)
        measured = _ratio(base, step.elapsed)
        if base is None or measured is None:
            return []
        passes = step.elapsed - max(0.0, copying) - max(0.0, rest - count * usual)
        allowed = _ratio(base, passes) if passes > 0 else None
        most = tokens / count
        found.append(max(measured, most if allowed is None else min(most, allowed)))
    return found


def what_if(
    recording: Recording, alone: Recording | None = None, ks: Sequence[int] = range(1, 17)
) -> list[WhatIf]:
    """The same text in steps of any constant K, from one greedy run of a draft model at any.

    Counts are exact: they follow from ``Stop.agrees``. Seconds are reckoned: see ``Reckoning``.
    Empty where it is not known what the draft would have guessed.
    """
    agrees = recording.stop.agrees
    new = sum(len(s.committed) for s in recording.steps)
    if not agrees or len(agrees) != new:
        return []
    run, found, before = recording.run, [], Costs.of(recording.run)
    busy = bool(alone and too_busy(recording, alone)) or unsteadiness(recording.steps) > BUSY
    reckoning = Reckoning(recording, alone, before) if before and not busy else None
    plain = _pace(alone.steps)(new) if alone else None
    own = [len(s.drafted) for s in recording.steps]
    if run.length == "constant":
        own = [n for n, _ in turns(recording, agrees, run.k)]
    for k in ks:
        made = turns(recording, agrees, k)
        drafted, accepted = (sum(column) for column in zip(*made, strict=True))
        widths = [n for n, _ in made]
        seconds = reckoning.seconds(widths, own) if reckoning else None
        if seconds and plain:
            seconds = max(seconds, plain * len(made) / new)  # no more than the steps saved
        found.append(
            WhatIf(
                k=k,
                steps=len(made),
                drafted=drafted,
                accepted=accepted,
                new_tokens=new,
                tokens_per_target_call=new / len(made),
                acceptance_rate=accepted / drafted if drafted else 0.0,
                seconds=seconds,
                speedup=min(plain / seconds, new / len(made)) if plain and seconds else None,
                before=bool(reckoning and widths != own and not reckoning.made(widths)),
            )
        )
    return found


def _pace(steps: Sequence[Step]) -> Callable[[int], float | None]:
    """What so many tokens took. Where there were fewer, as many more as are missing take as long as
    those after the first step, which reads the prompt. None where that is not known."""
    times, counts = progress(steps)
    more = counts[-1] - counts[1] if steps else 0

    def seconds(new: int) -> float | None:
        i = bisect_left(counts, new)
        if i < len(counts):
            return times[i] or None
        each = (times[-1] - times[1]) / more if more else 0.0
        return times[-1] + (new - counts[-1]) * each if each > 0 else None

    return seconds


def _ratio(above: float | None, below: float) -> float | None:
    """None where it is no number: without times, or by a clock that did not move."""
    if not above or not below or not math.isfinite(above / below):
        return None
    return above / below


def first_difference(first: Recording, other: Recording) -> Difference | None:
    """None when one text is the start of the other."""
    stops = first.stop, other.stop
    noise = max((s.noise for s in stops if s.noise is not None), default=None)
    most = max((s.rounding for s in stops if s.rounding is not None), default=None)
    for position, (a, b) in enumerate(zip(_committed(first), _committed(other), strict=False)):
        if a[0] != b[0]:
            margin = min(a[2], b[2])
            verdict = judge(margin, noise, most)
            texts = a[0], b[0], a[1], b[1]
            return Difference(position, *texts, margin, noise, verdict, rounding=most)
    return None


def judge(margin: float, noise: float | None, most: float | None = None) -> str:
    """``rounding tie`` when rounding can have chosen, ``bug`` when not; ``not measured``.

    Both logits may have moved, and by more than what was seen at a few positions: four times the
    noise is what rounding is held capable of. Passes that differ by more than the ``most`` that it
    can do differ by a fault, whatever the margin.
    """
    if noise is None:
        return "not measured"
    if most is not None and noise > most:
        return "bug"
    return "rounding tie" if margin < 4 * noise else "bug"


def _committed(recording: Recording) -> list[tuple[int, str, float]]:
    """Id, what it looks like, and the target's margin where it stands, of every new token."""
    found = []
    for step in recording.steps:
        for token, row in zip(step.tokens, step.rows, strict=True):
            if token.status in ("accepted", "correction", "bonus"):
                found.append((token.id, token.shown, step.predictions[row].margin))
    return found
