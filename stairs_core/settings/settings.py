"""The settings of a run, checked before a model is loaded. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import InputError, Use, Value, Word
from . import methods
from .sampling import Sampling, out_of

DTYPES = ("float32", "bfloat16", "float16")
BITS = {"int8": 8, "int4": 4}
"""Quantised weights, which ``--dtype`` takes too."""
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
"""What ``--k auto`` means: this length policy, drafting at most so many tokens in a step."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to decode. Raises InputError, in one sentence, for a value that cannot be used.

    ``drafter``: one of ``methods.NAMES``. ``k``: the most tokens drafted in a step (for
    ``heuristic``: at first). ``backend``: how the target verifies (see ``decoding/verify.py``).
    ``chat``: wrap the prompt in the tokenizer's chat template. ``length``: the length policy, of
    ``LENGTHS``. ``numerics``: ``strict`` makes logits bit-identical however tokens are grouped
    into passes. ``sampling``: None for greedy decoding. ``references``: text files to copy from.
    ``system``: a system prompt, and ``template``: options of the chat template by name, such as
    ``{"enable_thinking": False}``; both only with ``chat``. ``source_language`` and
    ``target_language``: codes, for a model that translates between many languages; None leaves
    them to the tokenizer and the model.
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
    system: str = ""
    template: dict[str, Any] = field(default_factory=dict)
    source_language: str | None = None
    target_language: str | None = None

    def __post_init__(self) -> None:
        _one_of("drafter", self.drafter, methods.NAMES)
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
        if self.numerics == "strict" and methods.REGISTRY[self.drafter].tree:
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

        _check_turn(self.system, self.template)
        if not self.chat and (self.system or self.template):
            what = "A system prompt is" if self.system else "Template options are"
            raise InputError(f"{what} for the chat template alone: ", Use(chat=""), ".")

    def alone(self) -> Settings:
        """The target decoding alone with the fastest backend: the baseline of speedups."""
        usual = Settings()
        return replace(
            self,
            drafter="none",
            k=usual.k,
            backend=usual.backend,
            length=usual.length,
            numerics=usual.numerics,
            references=(),
        )


def template_options(words: Iterable[str]) -> dict[str, Any]:
    """Options of a chat template from words ``NAME=VALUE``. A value is JSON, or ``True``,
    ``False`` or ``None``; anything else is a string.

    Raises InputError for a word without a name.
    """
    found = {}
    for word in filter(str.strip, words):
        name, equals, value = word.partition("=")
        name, value = name.strip(), value.strip()
        if not equals or not name.isidentifier():
            raise InputError(
                f"The template option {word!r:.60} is not understood: write NAME=VALUE, such as "
                "enable_thinking=false."
            )
        found[name] = _json(value)
    return found


def _json(text: str) -> Any:
    known = {"True": True, "False": False, "None": None}
    if text in known:
        return known[text]
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return text
    return value


def option_words(template: Mapping[str, Any]) -> list[str]:
    """The words that ``template_options`` reads these options from."""
    return [f"{name}={_word(value)}" for name, value in template.items()]


def _word(value: Any) -> str:
    one = isinstance(value, str) and value == " ".join(value.split()) and _json(value) == value
    return value if one else json.dumps(value, ensure_ascii=False)


def _check_turn(system: object, template: object) -> None:
    if not isinstance(system, str) or any("\ud800" <= c <= "\udfff" for c in system):
        raise InputError("The system prompt is no text: type it again.")
    try:
        if not isinstance(template, Mapping) or not all(map(str.isidentifier, template)):
            raise TypeError("no names")
        json.dumps(template, allow_nan=False).encode()
    except (RecursionError, TypeError, ValueError) as e:
        raise InputError(
            "The template options are not understood: give names with values that JSON can hold."
        ) from e


def _one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        problem = f" {value!r:.60}: choose one of "
        raise InputError("There is no ", Word(what), problem, Value(what, *known), ".")


def _within(what: str, value: int, bounds: tuple[int, int]) -> None:
    low, high = bounds
    if type(value) is not int or not low <= value <= high:
        raise out_of(what, value, low, high)
