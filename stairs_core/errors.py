"""The exceptions that mean "the person can fix this", and how they name the fix.

The command line, ``generate`` and the page name the same setting differently (``--drafter``,
``drafter=``, "Drafter"). So a sentence that names a setting holds a ``Use``, a ``Word`` or a
``Value`` in that place, which is worded where the message is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class InputError(ValueError):
    """Bad input. Its message is one sentence that names the fix, ready to be shown as it is.

    ``parts``: the sentence, in order. ``str`` of it uses the command line's words.
    """

    def __init__(self, *parts: str | Use | Word | Value) -> None:
        super().__init__(*parts)

    def say(self, words: Words) -> str:
        """The sentence in the words of the command line, of ``generate`` or of the page."""
        return "".join(part if isinstance(part, str) else part.say(words) for part in self.args)

    def __str__(self) -> str:
        return self.say(COMMAND)


class NoNumbers(InputError):
    """A model's logits are NaN, or the largest one is infinite.

    ``whose``: the model, in words. ``dtype``: what it was computed in; a torch dtype or its name.
    """

    def __init__(self, whose: str, dtype: object) -> None:
        name = str(dtype).removeprefix("torch.")
        wider = {"float16": "bfloat16 or float32", "bfloat16": "float32"}.get(name)
        fix = f"use the dtype {wider}" if wider else "its weights are damaged, so fetch it anew"
        super().__init__(f"In {name} the logits of {whose} are no numbers: {fix}.")


@dataclass(frozen=True, slots=True)
class Words:
    """What settings are called in one place: the command line, ``generate`` or the page.

    ``word``: the name of a setting. ``values``: names of some of its values, as a list; its third
    argument, such as "or", comes before the last one. ``use``: a clause that asks to set it to one
    of some values; None where it cannot be set in that place.
    """

    word: Callable[[str], str]
    values: Callable[[str, tuple[str, ...], str], str]
    use: Callable[[str, tuple[str, ...]], str | None]


class Use:
    """Fixes, any of which will do: ``Use(numerics="fast", drafter=("lookup", "suffix"))``."""

    __slots__ = ("fixes",)

    def __init__(self, **fixes: str | tuple[str, ...]) -> None:
        self.fixes = {k: (v,) if isinstance(v, str) else v for k, v in fixes.items()}

    def say(self, words: Words) -> str:
        clauses = [words.use(name, values) for name, values in self.fixes.items()]
        return ", or ".join(filter(None, clauses)) or "choose other models"


@dataclass(frozen=True, slots=True)
class Word:
    """The name of a setting: ``Word("drafter")``."""

    choice: str

    def say(self, words: Words) -> str:
        return words.word(self.choice)


class Value:
    """The names of some values of a setting: ``Value("drafter", "layer-skip")``."""

    __slots__ = ("choice", "values")

    def __init__(self, choice: str, *values: str) -> None:
        self.choice, self.values = choice, values

    def say(self, words: Words) -> str:
        return words.values(self.choice, self.values, "")


@contextmanager
def speaking(words: Words) -> Iterator[None]:
    """Words every InputError raised inside in these words. Also usable as a decorator."""
    try:
        yield
    except InputError as e:
        raise InputError(e.say(words)) from e


def listed(names: list[str], last: str) -> str:
    """``a, b or c`` where ``last`` is "or"; ``a, b, c`` where it is empty."""
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
