"""What a person may choose for a run, checked before a model is loaded. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import drafters
from .errors import InputError, Use, Value, Word
from .sampling import Sampling

DTYPES = ("float32", "bfloat16", "float16")
BITS = {"int8": 8, "int4": 4}
"""Of quantised weights, which are given as dtypes too."""
BACKENDS = ("single_kv", "single", "matrix_kv", "matrix")
NUMERICS = ("fast", "strict")
COMPILE = ("auto", "off", "on")
LENGTHS = {
    "constant": "always K",
    "heuristic": "two more after a full accept, else one less, from K (as transformers does)",
    "confidence": "until the draft's probability falls under 0.4, K at most",
    "cumulative": "until the product of the draft's probabilities falls under a bound that adapts",
    "cost": "what promises most tokens a second, from measured costs and what was accepted",
}
K_RANGE = (1, 32)
LENGTH_RANGE = (1, 4096)
AUTO: dict[str, Any] = {"k": 16, "length": "cost"}
"""What ``--k auto`` means: the policy, and the most that it drafts in a step."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to decode. Raises InputError, in one sentence, for a value that cannot be used.

    ``drafter``: who guesses. ``k``: tokens guessed a step, at most (for ``heuristic``: at first).
    ``backend``: how the stairs are computed (see ``verify``). ``chat``: wrap the prompt in the
    tokenizer's chat template.
    ``length``: how many to guess next, of ``LENGTHS``. ``numerics``: ``strict`` gives the same bits
    however tokens are grouped into passes. ``sampling``: None for greedy decoding. ``references``:
    text files that may be copied from.
    """

    drafter: str = "model"
    k: int = 6
    max_new_tokens: int = 96
    backend: str = "single_kv"
    chat: bool = False
    length: str = "constant"
    numerics: str = "fast"
    sampling: Sampling | None = None
    references: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _one_of("drafter", self.drafter, drafters.NAMES)
        _one_of("backend", self.backend, BACKENDS)
        _one_of("length", self.length, tuple(LENGTHS))
        _one_of("numerics", self.numerics, NUMERICS)
        _within("K", self.k, K_RANGE)
        _within("The number of new tokens", self.max_new_tokens, LENGTH_RANGE)
        if self.numerics == "strict" and self.backend.startswith("matrix"):
            raise InputError(
                "The ",
                Word("backend"),
                " ",
                Value("backend", self.backend),
                " has no strict numerics, because its passes have as many rows as the guess: ",
                Use(backend=("single_kv", "single")),
                ".",
            )
        if self.numerics == "strict" and drafters.REGISTRY[self.drafter].tree:
            raise InputError(
                "The ",
                Word("drafter"),
                " ",
                Value("drafter", self.drafter),
                " has no strict numerics, because the tokens of a tree do not stand where they "
                "will stand in the text: ",
                Use(numerics="fast"),
                ".",
            )

    def alone(self) -> Settings:
        """The target decoding alone in the fastest way there is: what speedups are over."""
        return Settings(
            "none", max_new_tokens=self.max_new_tokens, chat=self.chat, sampling=self.sampling
        )


def _one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        said = f" {value!r:.60}: choose one of "
        raise InputError("There is no ", Word(what), said, Value(what, *known), ".")


def _within(what: str, value: int, bounds: tuple[int, int]) -> None:
    low, high = bounds
    if type(value) is not int or not low <= value <= high:
        raise InputError(
            f"{what} is {value!r:.60}, but must be a whole number from {low} to {high}."
        )
