"""The exceptions that mean "the person can fix this", and how they name the fix.

The command line, ``generate`` and the page call the same choice by different words. A sentence
that names a choice holds it as a ``Use``, a ``Word`` or a ``Value``: each says it in its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class InputError(ValueError):
    """Bad input. Its message is one sentence that names the fix, ready to be shown as it is.

    ``parts``: of the sentence. As a string it is in the words of the command line.
    """

    def __init__(self, *parts: str | Use | Word | Value) -> None:
        super().__init__(*parts)

    def say(self, words: Words) -> str:
        """The sentence in other words."""
        return "".join(part if isinstance(part, str) else part.say(words) for part in self.args)

    def __str__(self) -> str:
        return self.say(COMMAND)


class NoNumbers(InputError):
    """A model whose logits are no numbers (NaN, or infinite where they are largest).

    ``whose``: the model, in words. ``dtype``: what it was computed in, as torch or a person has it.
    """

    def __init__(self, whose: str, dtype: object) -> None:
        name = str(dtype).removeprefix("torch.")
        wider = {"float16": "bfloat16 or float32", "bfloat16": "float32"}.get(name)
        fix = f"use the dtype {wider}" if wider else "its weights are damaged, so fetch it anew"
        super().__init__(f"In {name} the logits of {whose} are no numbers: {fix}.")


@dataclass(frozen=True, slots=True)
class Words:
    """What choices are called somewhere.

    ``word``: of a choice. ``values``: of some values of it, in a list that may end in the second
    argument ("or"). ``use``: a clause that asks to set it so; None where it cannot be set there.
    """

    word: Callable[[str], str]
    values: Callable[[str, tuple[str, ...], str], str]
    use: Callable[[str, tuple[str, ...]], str | None]


class Use:
    """Ways out, of which any will do: ``Use(numerics="fast", drafter=("lookup", "suffix"))``."""

    __slots__ = ("ways",)

    def __init__(self, **ways: str | tuple[str, ...]) -> None:
        self.ways = {k: (v,) if isinstance(v, str) else v for k, v in ways.items()}

    def say(self, words: Words) -> str:
        clauses = [words.use(name, values) for name, values in self.ways.items()]
        return ", or ".join(filter(None, clauses)) or "choose other models"


@dataclass(frozen=True, slots=True)
class Word:
    """What a choice is called: "drafter"."""

    choice: str

    def say(self, words: Words) -> str:
        return words.word(self.choice)


class Value:
    """What values of a choice are called: ``Value("drafter", "layer-skip")``."""

    __slots__ = ("choice", "values")

    def __init__(self, choice: str, *values: str) -> None:
        self.choice, self.values = choice, values

    def say(self, words: Words) -> str:
        return words.values(self.choice, self.values, "")


@contextmanager
def speaking(words: Words) -> Iterator[None]:
    """Says what is refused inside in these words; decorates a function too."""
    try:
        yield
    except InputError as e:
        raise InputError(e.say(words)) from e


def listed(names: list[str], last: str) -> str:
    """``a, b or c``, for "or" as ``last``; ``a, b, c`` for none."""
    *others, end = names
    return f"{', '.join(others)} {last} {end}" if others and last else ", ".join(names)


def _option(choice: str, values: tuple[str, ...]) -> str:
    if choice == "draft":
        return "give one with --pair TARGET:DRAFT"
    if values == ("",):
        return f"use --{choice}"
    return f"use --{choice} {listed([*values], 'or')}"


def _argument(choice: str, values: tuple[str, ...]) -> str:
    if choice == "draft":
        return "give one as assistant_model"
    if values == ("",):
        return f"use {choice}=True"
    return f"use {choice}={listed([repr(v) for v in values], 'or')}"


def _bare(_: str, values: tuple[str, ...], last: str) -> str:
    return listed([*values], last)


def _word(choice: str) -> str:
    return "length policy" if choice == "length" else choice


COMMAND = Words(_word, _bare, _option)
PYTHON = Words(_word, _bare, _argument)
