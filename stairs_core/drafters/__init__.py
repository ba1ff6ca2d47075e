"""The registry of drafters. A method is one file in this folder and one line here."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from ..lane import Lane
    from ..protocols import Drafter, Kit


@dataclass(frozen=True, slots=True)
class Method:
    """What can be said of a drafter without loading it. ``tree``: whether it guesses trees.

    ``label``: who guesses, in a word or three. ``references``: whether it reads reference texts.
    """

    words: str
    tree: bool = False
    label: str = ""
    references: bool = False


REGISTRY = {
    "none": Method("no guesses: the target decodes alone, through the same loop", label="nobody"),
    "model": Method(
        "a small model of the same tokenizer guesses K tokens, one after another",
        label="the draft model",
    ),
    "lookup": Method(
        "copies what followed the last tokens where they stood before",
        label="copying from the text",
    ),
    "tree": Method(
        "the draft model's K likeliest tokens, several ways on where it doubts",
        tree=True,
        label="the draft model, a tree",
    ),
    "recycle": Method(
        "what the target found likely after a token when it last read it",
        tree=True,
        label="recycled tokens",
    ),
    "lookahead": Method(
        "n-grams from a window in which the target writes ahead", tree=True, label="lookahead"
    ),
    "jacobi": Method(
        "what the target said behind a guess that did not hold", label="Jacobi decoding"
    ),
    "hybrid": Method(
        "copies where the text repeats itself at length, else asks the draft model",
        label="copying, else the draft model",
    ),
}
NAMES = tuple(REGISTRY)


def build(name: str, kit: Kit) -> Drafter:
    """A drafter with no state but its own, for one run at a time.

    The module is imported here and not above, so that names can be checked without torch.
    Raises InputError when the kit lacks what the drafter needs.
    """
    return import_module(f".{name.replace('-', '_')}", __package__).build(kit)


def draft_lane(kit: Kit, instead: str) -> Lane:
    """A lane of the pair's draft model. Raises InputError when it has none, naming another way."""
    from ..lane import Lane

    if kit.pair.draft is None:
        raise InputError(
            f"{kit.pair.name} has no draft model: give one as TARGET:DRAFT, or use the drafter "
            f"{instead}."
        )
    return Lane(kit.pair.draft)
