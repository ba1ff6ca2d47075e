"""Recordings of counts alone: of every step, how many guesses held. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .errors import InputError
from .trace import Prediction, Recording, Run, Step, Stop, Token, Untold

MAX_LANES, MAX_DRAFTED, MAX_TOKENS = 64, 1024, 500_000
"""What can be drawn: of requests, of guesses in a step, and of tokens in all."""

UNKNOWN = "unknown"
"""In every field of a run that a log does not tell."""

Counts = Sequence[tuple[int, int]]
"""Of every step: guesses that held, guesses made."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One request. ``target``: the model's name. ``untold``: see ``trace.Run``."""

    counts: Counts
    target: str = UNKNOWN
    untold: Untold | None = None


def of_histogram(
    histogram: object, drafted: int | None, k: int | None, name: str
) -> tuple[Counts, Untold]:
    """The steps of a histogram, and what is not told of them, the fewest accepted guesses first.

    ``histogram[j]``: in how many steps j guesses held. ``drafted``: guesses in all, ``k``: in a
    step at most; None where the file, called ``name``, does not tell. Raises InputError for what
    cannot be.
    """
    if not isinstance(histogram, list) or not all(type(n) is int and n >= 0 for n in histogram):
        raise InputError(f"{name} is damaged: its histogram is no list of numbers of steps.")
    if len(histogram) > MAX_DRAFTED + 1:
        raise InputError(f"{name} has more than {MAX_DRAFTED} guesses in a step: check the file.")
    if (count := sum(histogram)) > MAX_TOKENS:
        raise InputError(f"{name} has more than {MAX_TOKENS} tokens: cut it shorter.")
    accepted = [j for j, n in enumerate(histogram) for _ in range(n)]
    if drafted is None:
        return [(a, a) for a in accepted], "guesses"
    if k is None:
        k = -(-drafted // count) if count else 0
    if not sum(accepted) <= drafted <= count * k or max(accepted, default=0) > k:
        raise InputError(
            f"{name} is damaged: of {drafted} guesses in {count} steps, {sum(accepted)} were "
            f"accepted, {max(accepted, default=0)} in one of them."
        )
    lengths = _shortened(accepted, k, count * k - drafted)
    exact = drafted == count * k
    return [*zip(accepted, lengths, strict=True)], "order" if exact else "lengths"


def _shortened(accepted: Sequence[int], k: int, short: int) -> list[int]:
    """``k`` for every step, less ``short`` in all, spread over the steps that did not need all."""
    lengths = [k] * len(accepted)
    while short:
        for i, a in enumerate(accepted):
            if short and lengths[i] > a:
                lengths[i] -= 1
                short -= 1
    return lengths


def recordings(engine: str, lanes: Mapping[str, Lane], name: str) -> list[Recording]:
    """A recording for each of ``lanes``. No text, no times.

    Raises InputError for counts that cannot be, or are too many, in the file called ``name``.
    """
    if len(lanes) > MAX_LANES:
        raise InputError(
            f"{name} has more requests than can be drawn ({MAX_LANES}): cut it shorter."
        )
    room = MAX_TOKENS
    for lane in lanes.values():
        for step, pair in enumerate(lane.counts, 1):
            accepted, drafted = pair
            whole = type(accepted) is int and type(drafted) is int
            if not whole or not 0 <= accepted <= drafted <= MAX_DRAFTED:
                raise InputError(
                    f"{name} is damaged: in step {step}, {accepted!r:.20} of {drafted!r:.20} "
                    "guesses were accepted."
                )
            room -= drafted + 1
    if room < 0:
        raise InputError(f"{name} has more than {MAX_TOKENS} tokens: cut it shorter.")
    return [_recording(engine, request, lane) for request, lane in lanes.items()]


def _recording(engine: str, name: str, lane: Lane) -> Recording:
    steps, length = [], 0
    for index, (accepted, drafted) in enumerate(lane.counts):
        steps.append(_step(index, length, accepted, drafted))
        length += accepted + 1
    run = Run(
        name=name[:80],
        prompt="",
        prompt_ids=(),
        prompt_tokens=(),
        target=lane.target[:200],
        draft=None,
        drafter=UNKNOWN,
        k=max((drafted for _, drafted in lane.counts), default=0),
        backend=UNKNOWN,
        max_new_tokens=length,
        exactness=UNKNOWN,
        dtype=UNKNOWN,
        device=UNKNOWN,
        hardware=UNKNOWN,
        versions={},
        created="",
        engine=engine,
        untold=lane.untold,
    )
    return Recording(run, tuple(steps), Stop("stopped", ""))


_GUESSES = {s: Token(0, "", s, "draft") for s in ("accepted", "rejected", "unchecked")}
_OWN = {s: Token(0, "", s, "target") for s in ("correction", "bonus")}
_SAID = Prediction(0, "", 0.0)


def _step(index: int, start: int, accepted: int, drafted: int) -> Step:
    wrong = drafted - accepted
    tokens = (
        *(_GUESSES["accepted"],) * accepted,
        *(_GUESSES["rejected"],) * (wrong > 0),
        *(_GUESSES["unchecked"],) * (wrong - 1),
        _OWN["correction" if wrong else "bonus"],
    )
    return Step(index, start, tokens, (_SAID,) * (drafted + 1), accepted, 0.0, 0.0, 0.0, 0.0)
