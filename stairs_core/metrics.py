"""Numbers from traces, every one from the records of a run. Imports neither torch nor gradio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from .prices import UNPRICED, Costs
from .trace import Reason, Recording, Step
from .turns import reckon, turns


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
    """A lane against the first. ``speedup``: its tokens per second over the first's.

    Which is the first's seconds over its own wherever both wrote as many tokens.
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

    ``seconds``: None where passes were not priced. ``speedup``: over plain decoding as it was
    timed.
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
        tokens_per_second=new / seconds if seconds else 0.0,
    )


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
    rates = a.tokens_per_second, b.tokens_per_second
    return Comparison(
        speedup=rates[1] / rates[0] if all(rates) else None,
        identical=(difference is None and (stopped or a.new_tokens == b.new_tokens))
        if comparable
        else None,
        first_difference=difference,
        calls_saved=a.steps - b.steps if a.new_tokens == b.new_tokens and not stopped else None,
    )


def ideal_speedups(recording: Recording, alone: Recording) -> list[float]:
    """After each step so far, what passes alone would allow: see ``Costs.ideal_speedups``.

    Empty where the passes of either lane were not priced, or are not those that were.
    """
    own, base = Costs.of(recording.run), Costs.of(alone.run)
    if own is None or base is None or recording.run.drafter in UNPRICED:
        return []
    return own.ideal_speedups(recording.steps, base)


def what_if(
    recording: Recording, alone: Recording | None = None, ks: Sequence[int] = range(1, 17)
) -> list[WhatIf]:
    """The same text in steps of any constant K, from one greedy run of a draft model at any.

    Counts are exact: they follow from ``Stop.agrees``. Seconds are reckoned: see ``turns``. Empty
    where it is not known what the draft would have guessed.
    """
    agrees = recording.stop.agrees
    new = sum(len(s.committed) for s in recording.steps)
    if not agrees or len(agrees) != new:
        return []
    plain = _seconds_for(new, alone.steps) if alone else None
    run, found = recording.run, []
    own = [len(s.drafted) for s in recording.steps]
    if run.length == "constant":
        own = [n for n, _ in turns(recording, agrees, run.k)]
    for k in ks:
        made = turns(recording, agrees, k)
        drafted, accepted = (sum(column) for column in zip(*made, strict=True))
        seconds = reckon(recording, [n for n, _ in made], own)
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
                speedup=plain / seconds if plain and seconds else None,
            )
        )
    return found


def _seconds_for(new: int, steps: Sequence[Step]) -> float | None:
    """What so many tokens took; at the rate of all, where there were fewer."""
    times, counts = progress(steps)
    for seconds, count in zip(times, counts, strict=True):
        if count >= new:
            return seconds
    return times[-1] * new / counts[-1] if counts[-1] else None


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
    """Id, text and the target's margin where it stands, of every new token."""
    found = []
    for step in recording.steps:
        for token, row in zip(step.tokens, step.rows, strict=True):
            if token.status in ("accepted", "correction", "bonus"):
                found.append((token.id, token.text, step.predictions[row].margin))
    return found
