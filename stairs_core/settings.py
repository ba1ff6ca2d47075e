"""What a person may choose for a run, checked before a model is loaded. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from . import drafters
from .errors import InputError

DTYPES = ("float32", "bfloat16", "float16")
BACKENDS = ("single_kv", "single", "matrix_kv", "matrix")
K_RANGE = (1, 32)
LENGTH_RANGE = (1, 4096)


@dataclass(frozen=True, slots=True)
class Settings:
    """How to decode. Raises InputError, in one sentence, for a value that cannot be used.

    ``drafter``: who guesses. ``k``: tokens guessed a step. ``backend``: how the stairs are computed
    (see ``verify``). ``chat``: wrap the prompt in the tokenizer's chat template.
    """

    drafter: str = "model"
    k: int = 6
    max_new_tokens: int = 96
    backend: str = "single_kv"
    chat: bool = False

    def __post_init__(self) -> None:
        _one_of("drafter", self.drafter, drafters.NAMES)
        _one_of("backend", self.backend, BACKENDS)
        _within("K", self.k, K_RANGE)
        _within("The number of new tokens", self.max_new_tokens, LENGTH_RANGE)


def _one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"There is no {what} {value!r:.60}: choose one of {', '.join(known)}.")


def _within(what: str, value: int, bounds: tuple[int, int]) -> None:
    low, high = bounds
    if type(value) is not int or not low <= value <= high:
        raise InputError(
            f"{what} is {value!r:.60}, but must be a whole number from {low} to {high}."
        )
