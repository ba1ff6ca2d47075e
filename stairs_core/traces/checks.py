"""Whether a lane of a trace, which anybody may have written, can be one that was run.

Where it cannot, its numbers would lead to others that nothing can hold, or a few bytes to more than
a machine has room for.
"""

from __future__ import annotations

from ..errors import InputError
from ..settings.settings import BACKENDS
from .records import MAX_DRAFTED, Recording, Run, Step, Token

MAX_NAMES = {"name": 200, "target": 1000, "draft": 1000, "pair": 2000}
MAX_TEXT = 10_000
"""The most characters of names and of one token, which are told again for every lane, or point."""
_SHORTEST, _LONGEST = 1e-12, 1e9
"""Seconds: less than a clock tells apart, more than anybody waits."""
_SURE = 1.001
"""The probability of what is certain, with room for rounding in low precision."""
_MOST_TOKENS = 2**31


def check(recording: Recording, name: str) -> None:
    """Raises InputError where the lane, in a file called ``name``, cannot have been run, or its
    steps contradict themselves or each other."""
    _check_head(recording.run, name)
    length, elapsed = len(recording.run.prompt_ids), 0.0
    for step in recording.steps:
        n = len(step.tokens)
        if step.start != length or len(step.predictions) != n or not _fits(step, n - 1):
            raise InputError(f"{name} is damaged: its step {step.index} contradicts itself.")
        times = (step.draft_seconds, step.verify_seconds, step.other_seconds)
        if min(times) < 0 or step.elapsed < elapsed:
            raise InputError(f"{name} is damaged: the clock of its step {step.index} runs back.")
        if not _timed(step):
            raise InputError(f"{name} is damaged: no clock can time a step as its {step.index}.")
        if any(len(token.shown) > MAX_TEXT for token in step.tokens):
            raise InputError(f"{name} is damaged: a token of its step {step.index} is too long.")
        if not all(map(_likely, step.tokens)):
            raise InputError(
                f"{name} is damaged: a token of its step {step.index} has a probability or a rank "
                "that none can have."
            )
        length += len(step.committed)
        elapsed = step.elapsed


def _check_head(run: Run, name: str) -> None:
    backends = [prices.backend for prices in run.prices]
    if len({*backends}) < len(backends) or not {*backends} <= {*BACKENDS}:
        raise InputError(f"{name} is damaged: its `prices` are not of one known backend each.")
    for key, most in (("k", MAX_DRAFTED), ("max_new_tokens", _MOST_TOKENS)):
        if not 0 <= getattr(run, key) <= most:
            raise InputError(f"{name} is damaged: its `{key}` is not from 0 to {most}.")
    for key, most in MAX_NAMES.items():
        value = getattr(run, key)
        if (value == "" and key != "name") or len(value or "") > most:
            raise InputError(
                f"{name} is damaged: its `{key}` is empty or has more than {most} characters."
            )


def _likely(token: Token) -> bool:
    """Whether its probabilities and its rank can be such, as far as they are known."""
    shares = (token.probability, token.draft_probability)
    possible = all(p is None or 0 <= p <= _SURE for p in shares)
    return possible and (token.rank is None or token.rank >= 1)


def _timed(step: Step) -> bool:
    """Whether a clock can have measured the step's times. What is left over for ``other_seconds``
    may be next to nothing, by rounding."""
    read = (step.draft_seconds, step.verify_seconds, step.elapsed)
    shortest = min((seconds for seconds in read if seconds), default=_SHORTEST)
    return shortest >= _SHORTEST and max(*read, step.other_seconds) <= _LONGEST


def _fits(step: Step, drafted: int) -> bool:
    """Whether tokens, tree and accepted count can belong together."""
    if max(drafted, step.probe or 0) > MAX_DRAFTED or (step.probe or 0) < 0:
        return False
    if step.parents is None:
        return 0 <= step.accepted <= drafted
    ordered = all(-1 <= parent < i for i, parent in enumerate(step.parents))
    return ordered and len(step.parents) == drafted and 0 <= step.accepted <= drafted
