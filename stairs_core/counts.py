"""Recordings of counts alone: of every step, how many guesses held. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .errors import InputError
from .trace import Prediction, Recording, Run, Step, Stop, Token

MAX_LANES, MAX_DRAFTED, MAX_TOKENS = 64, 1024, 500_000
"""What can be drawn: of requests, of guesses in a step, and of tokens in all."""

UNKNOWN = "unknown"
"""In every field of a run that a log does not tell."""

Counts = Sequence[tuple[int, int]]
"""Of every step: guesses that held, guesses made."""


def recordings(
    engine: str, lanes: Mapping[str, Counts], models: Mapping[str, str], name: str
) -> list[Recording]:
    """A recording for each of ``lanes``; ``models``: the target's name in each. No text, no times.

    Raises InputError for counts that cannot be, or are too many, in the file called ``name``.
    """
    if len(lanes) > MAX_LANES:
        raise InputError(
            f"{name} has more requests than can be drawn ({MAX_LANES}): cut it shorter."
        )
    room = MAX_TOKENS
    for counts in lanes.values():
        for step, pair in enumerate(counts, 1):
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
    return [_recording(engine, lane, models[lane], counts) for lane, counts in lanes.items()]


def _recording(engine: str, name: str, target: str, counts: Counts) -> Recording:
    steps, length = [], 0
    for index, (accepted, drafted) in enumerate(counts):
        steps.append(_step(index, length, accepted, drafted))
        length += accepted + 1
    run = Run(
        name=name[:80],
        prompt="",
        prompt_ids=(),
        prompt_tokens=(),
        target=target[:200],
        draft=None,
        drafter=UNKNOWN,
        k=max((drafted for _, drafted in counts), default=0),
        backend=UNKNOWN,
        max_new_tokens=length,
        exactness=UNKNOWN,
        dtype=UNKNOWN,
        device=UNKNOWN,
        hardware=UNKNOWN,
        versions={},
        created="",
        engine=engine,
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
