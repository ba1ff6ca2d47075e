"""Sentences of the page: what it is doing, what failed, and what a refusal calls a choice."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any, Literal

from .. import errors
from ..errors import InputError
from ..models import cache, out_of_memory
from ..render import labels
from ..settings.methods import Lack
from . import presets

LOADING = "loading the models …"
NO_RUN = "The run failed; try a shorter one"
NO_MODELS = "The models cannot be loaded"
MEASURING = "Measuring what passes cost here …"
UNMEASURED = "The GPU is here only while a run goes on, so passes are not timed before it."
UNASKED = "The page is too busy to say what to expect: choose again in a minute."
NO_CARD = "What to expect cannot be said"
QUEUED = "Waiting for the machine …"
WITHDRAWN = "The run was withdrawn before its turn came: press Run to ask for it again."
REFUSED = (
    "The page is too busy to take the run, has as many of yours waiting as it takes from one "
    "address, or is out of reach: try again in a minute."
)
STARTING = "Getting the models ready …"
NO_SUCH_RUN = "There is no recorded run of that name here: choose one below."
GONE = (
    "The run was stopped, since this page had not answered for some time: press Run to have it "
    "again."
)
FULL = "The disk of the machine that this page runs on is full: make room there, and try again."
BACK = "The page was opened anew: what you typed and the run on show were kept."
OTHER_PAIR = "Its own models are in use: load yours again under “Models”."
NO_FILES = "Add your reference files again."
NO_LESS = "Less cannot be asked for"
NOT_SHOWN = "It cannot be shown"
NOT_SAVED = "The run stays on show, but its files cannot be made"
BUSY = "A run of yours is still going on: stop it, or wait for its end."

OUTDONE = Lack("it guesses better for this model")

_log = logging.getLogger("stairs")
_PART = r"[^/\\\s'\",:;()]+"
_PATH = re.compile(
    rf"(?<![\w.~/-])(?!(?<=:)//)(?:~{_PART})?~?(?:/+{_PART})*/+({_PART})"
    rf"|\b[A-Za-z]:(?:\\+{_PART})*\\+({_PART})"
)
"""A path from a root, a drive or somebody's home, but no URL; a group is its last part."""


def notice(text: str = "", kind: Literal["error", "wait"] = "error") -> dict[str, str]:
    """The value of a line for notices; no text clears it."""
    return {"kind": kind if text else "none", "text": text}


def late(seconds: float) -> str:
    """What to say of a run whose time was up."""
    return (
        f"The run was stopped after {seconds:.0f} seconds, the most it is given on this page, and "
        "what was written stays: choose fewer new tokens or guessers."
    )


def card(headline: str) -> dict[str, Any]:
    """The value of the card before a run where there is only one sentence to say."""
    return {"headline": headline, "rows": [], "warnings": []}


def sentence(error: Exception, what: str = "", words: errors.Words | None = None) -> str:
    """An error for the visitor. Bad input says itself what to do, in the page's words or others;
    so does what is said here of full memory or a full disk. For any other error, one line that
    starts with ``what`` failed, while the traceback goes to the log.

    Where visitors may not load the host's folders, paths lose all but their last part.
    """
    if cache.full(error):
        _log.error("%s: the disk is full.", what)
        said = FULL if what != NOT_SAVED else f"{NOT_SAVED}. {FULL}"
    elif isinstance(error, InputError):
        said = error.say(words or PAGE)
    else:
        _log.error("%s.", what, exc_info=error)
        where = out_of_memory.place(error)
        told = " ".join(str(error).split())[:200].rstrip(".")
        said = f"{what} ({type(error).__name__}: {told})."
        if where:
            said = f"The memory of the {where} is full: {_LESS.get(what, _LESS[NO_RUN])}."
    return said if presets.allowed() == "any" else _PATH.sub(lambda path: path[1] or path[2], said)


def _quoted(choice: str, value: str) -> str:
    """A value of a choice as its menu on the page has it."""
    label = labels.guesser(value) if choice == "drafter" else labels.BACKENDS.get(value, value)
    return f"“{label}”" if choice in _CHOICES else value


def _listed(choice: str, values: Sequence[str], last: str) -> str:
    return errors.listed([_quoted(choice, value) for value in values], last)


def _use(choice: str, values: Sequence[str]) -> str | None:
    """How to choose other values on the page; None where a visitor cannot."""
    if choice in _CHOICES:
        return f"choose {_listed(choice, values, 'or')}"
    if choice == "draft" and presets.allowed() == "bundled":
        return None
    return _WAYS.get((choice, *values))


_LESS = {
    NO_RUN: "choose fewer new tokens, a smaller K or fewer guessers, or load smaller models",
    NO_MODELS: "choose smaller models",
}
"""What takes less memory, by what failed for lack of it."""
_CHOICES = {"drafter": "guesser", "backend": "way to compute the stairs"}
_WAYS: dict[tuple[str, ...], str] = {
    ("chat", ""): "switch “Chat template” on",
    ("draft", ""): "load a pair with one under “Models”",
    ("numerics", "fast"): "switch “Strict numerics” off",
    ("reference", "FILE"): "paste one as “Reference text”, or add a file of it",
}

PAGE = errors.Words(lambda choice: _CHOICES.get(choice, choice), _listed, _use)
"""What a refusal calls choices on the page, which has no command-line options to name."""
