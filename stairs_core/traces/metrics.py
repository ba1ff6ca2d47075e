"""The numbers of runs and races, each worked out from their records alone."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from ..settings import methods
from .pass_costs import BUSY, unsteadiness
from .records import COMMITTED, Reason, Recording, Step

_CLOCK_ERROR = 1.02
"""The speedup of plain decoding over itself is measured as 1.00 within two per cent."""


@dataclass(frozen=True, slots=True)
class Summary:
    """One run in numbers. Times in seconds of the engine clock.

    ``checked``: drafted tokens that were compared with the target's: those up to and with the first
    mismatch of a step. ``acceptance_rate``: accepted / drafted; ``alpha``: accepted / checked; None
    where nothing was drafted. ``tokens_per_target_call`` counts the target's own token too.
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
    """The first token at which two texts differ. ``position``: among the new tokens, from 0.

    ``first`` and ``second``: both tokens as text. ``margin``: the smaller of both runs' margins
    there, in logits. ``noise``: how far rounding was measured to move a logit there; ``rounding``:
    how far it can. ``rescored``: the margin in a higher precision, where it was asked for.
    ``verdict``: see ``judge``.
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
    """A lane compared with the first.

    ``speedup``: the first lane's seconds for as many tokens, over this lane's; where the first
    wrote fewer, see ``pace``. ``identical``: whether the texts are the same, as far as both go
    where one of them was stopped; None where they may differ by chance, or by design (lossy).
    ``calls_saved``: target passes fewer than the first lane's, for the same number of tokens.
    """

    speedup: float | None
    identical: bool | None
    first_difference: Difference | None
    calls_saved: int | None


def fold(steps: Sequence[Step]) -> Summary:
    """The numbers of a run, finished or not, from its steps."""
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


def known(recording: Recording) -> Summary:
    """``fold``, with None for what a log leaves out (see ``Run.untold``)."""
    summary, untold = fold(recording.steps), recording.run.untold
    if untold == "guesses":
        return replace(summary, alpha=None, acceptance_rate=None)
    return replace(summary, alpha=None) if untold == "lengths" else summary


def progress(steps: Sequence[Step]) -> tuple[list[float], list[int]]:
    """Engine seconds and new tokens after every step; both lists start with 0."""
    counts = accumulate(len(s.committed) for s in steps)
    return [0.0, *(s.elapsed for s in steps)], [0, *counts]


def compare(first: Recording, other: Recording) -> Comparison:
    """Compares ``other`` with ``first``, which is the target alone in every race of ours."""
    a, b = fold(first.steps), fold(other.steps)
    comparable = first.run.comparable and other.run.comparable
    difference = first_difference(first, other) if comparable else None
    stopped = "stopped" in (first.stop.reason, other.stop.reason)
    counts = a.new_tokens == b.new_tokens and not (first.run.lossy or other.run.lossy)
    return Comparison(
        speedup=_ratio(pace(first.steps)(b.new_tokens), b.seconds),
        identical=(difference is None and (stopped or a.new_tokens == b.new_tokens))
        if comparable
        else None,
        first_difference=difference,
        calls_saved=a.steps - b.steps if counts and not stopped else None,
    )


def too_busy(recording: Recording, alone: Recording) -> str:
    """Why the times of a race are of no use: something else slowed the machine. Empty where they
    are good."""
    speedup, most = compare(alone, recording).speedup, fold(recording.steps).tokens_per_target_call
    if speedup is not None and speedup > _CLOCK_ERROR * most:
        return f"more than the {most:.2f} tokens of a step can give"
    differ = max(unsteadiness(recording.steps), unsteadiness(alone.steps))
    if differ > BUSY:
        return f"while passes over as many tokens differed by a factor of {differ:.1f}"
    return ""


def ideal_speedups(recording: Recording, alone: Recording) -> list[float]:
    """After each step so far: the speedup that the passes alone would allow.

    That is the target alone's seconds over this lane's, without the lane's time outside its models'
    passes beyond what plain decoding spends there. Guesses that no model made count as free. At
    least the measured speedup, at most the tokens per step. Empty where there is no such number:
    without times, for a drafter whose work is more than passes, and on a busy machine.
    """
    steps = recording.steps
    if not steps or not methods.priced(recording.run.drafter) or too_busy(recording, alone):
        return []
    if (compare(alone, recording).speedup or 0.0) > fold(steps).tokens_per_target_call:
        return []
    found, tokens, copying, rest = [], 0, 0.0, 0.0
    seconds_alone = pace(alone.steps)
    plain = [s.other_seconds for s in alone.steps]
    usual = max(0.0, sum(plain) / len(plain)) if plain else 0.0
    for count, step in enumerate(steps, 1):
        tokens += len(step.committed)
        rest += step.other_seconds
        copying += 0.0 if any(t.source == "model" for t in step.drafted) else step.draft_seconds
        base = seconds_alone(tokens)
        measured = _ratio(base, step.elapsed)
        if base is None or measured is None:
            return []
        passes = step.elapsed - max(0.0, copying) - max(0.0, rest - count * usual)
        allowed = _ratio(base, passes) if passes > 0 else None
        most = tokens / count
        found.append(max(measured, most if allowed is None else min(most, allowed)))
    return found


def pace(steps: Sequence[Step]) -> Callable[[int], float | None]:
    """A function: the seconds that so many new tokens took, None where that is not known.

    For more tokens than there were, each missing one takes the mean of those after the first step
    (the first step reads the prompt).
    """
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
    """``above`` / ``below``; None where a time is missing or the clock did not move."""
    if not above or not below or not math.isfinite(above / below):
        return None
    return above / below


def first_difference(first: Recording, other: Recording) -> Difference | None:
    """The first token at which the texts differ; None when one text is the start of the other."""
    stops = first.stop, other.stop
    noise = max((s.noise for s in stops if s.noise is not None), default=None)
    limit = max((s.rounding for s in stops if s.rounding is not None), default=None)
    for position, (a, b) in enumerate(zip(_committed(first), _committed(other), strict=False)):
        if a[0] != b[0]:
            margin = min(a[2], b[2])
            verdict = judge(margin, noise, limit)
            texts = a[0], b[0], a[1], b[1]
            return Difference(position, *texts, margin, noise, verdict, rounding=limit)
    return None


def judge(margin: float, noise: float | None, limit: float | None = None) -> str:
    """``rounding tie`` when rounding can have decided, ``bug`` when not, or ``not measured``.

    ``margin``: how far apart both tokens' logits are. Both logits may have moved, and by more than
    the ``noise`` that was measured at a few positions, so rounding is taken to decide up to four
    times the noise. Noise above ``limit``, the most that rounding can cause, is itself a bug.
    """
    if noise is None:
        return "not measured"
    if limit is not None and noise > limit:
        return "bug"
    return "rounding tie" if margin < 4 * noise else "bug"


def _committed(recording: Recording) -> list[tuple[int, str, float]]:
    """Of every new token: its id, how it is shown, and the target's margin at its position."""
    found = []
    for step in recording.steps:
        for token, row in zip(step.tokens, step.rows, strict=True):
            if token.status in COMMITTED:
                found.append((token.id, token.shown, step.predictions[row].margin))
    return found
