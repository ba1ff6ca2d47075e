"""The registry of drafters. A method is one file in this folder and one line here."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from ..errors import InputError, Use

if TYPE_CHECKING:
    from ..lane import Lane
    from ..protocols import Drafter, Kit


@dataclass(frozen=True, slots=True)
class Method:
    """What can be said of a drafter without loading it. ``label``: who guesses, in a few words.

    ``tree``: whether it guesses trees. ``references``: whether it reads reference texts.
    ``draft``: whether it asks a draft model, of the target's tokenizer or of any. ``skips``:
    whether it leaves out layers of the target.
    """

    label: str
    words: str
    tree: bool = False
    references: bool = False
    draft: Literal["no", "same", "any"] = "no"
    skips: bool = False


@dataclass(frozen=True, slots=True)
class Lack:
    """Why a pair cannot use a drafter, as a clause. ``but``: backends with which it can."""

    why: str
    but: tuple[str, ...] = ()


REGISTRY = {
    "none": Method("nobody", "no guesses: the target decodes alone, through the same loop"),
    "model": Method(
        "the draft model",
        "a small model of the same tokenizer guesses K tokens, one after another",
        draft="same",
    ),
    "tree": Method(
        "the draft model, a tree",
        "the draft model's K likeliest tokens, several ways where it doubts",
        tree=True,
        draft="same",
    ),
    "hybrid": Method(
        "copying, else the draft model",
        "copies where the text repeats itself at length, else asks the draft model",
        draft="same",
    ),
    "lookup": Method(
        "copying from the text", "copies what followed the last tokens where they stood before"
    ),
    "suffix": Method(
        "copying the longest match",
        "copies after the longest end of the text that stood before, or in references",
        references=True,
    ),
    "reference": Method(
        "copying from references",
        "copies what follows the last tokens in the texts of --reference",
        references=True,
    ),
    "recycle": Method(
        "recycled tokens",
        "what the target found likely after a token when it last read it",
        tree=True,
    ),
    "lookahead": Method(
        "lookahead", "n-grams from a window in which the target writes ahead", tree=True
    ),
    "jacobi": Method("Jacobi decoding", "what the target said behind a guess that did not hold"),
    "layer-skip": Method(
        "the target, layers skipped",
        "the target itself without some of its layers' parts; no second model",
        skips=True,
    ),
    "reencode": Method(
        "a draft, encoded anew",
        "a small model of any tokenizer guesses; its text is encoded anew",
        draft="any",
    ),
    "shared": Method(
        "a draft, shared tokens",
        "a small model of another tokenizer guesses among the tokens that both have",
        draft="any",
    ),
}
NAMES = tuple(REGISTRY)
FREE = ("lookup", "suffix")
"""What any target can use, and any text: they need no more than that."""


def build(name: str, kit: Kit) -> Drafter:
    """A drafter with no state but its own, for one run at a time.

    The module is imported here and not above, so that names can be checked without torch.
    Raises InputError when the kit lacks what the drafter needs.
    """
    return import_module(f".{name.replace('-', '_')}", __package__).build(kit)


def draft_lane(kit: Kit, *, any_tokenizer: bool = False) -> Lane:
    """A lane of the pair's draft model, in the target's ids, or in its own if ``any_tokenizer``.

    Raises InputError when it has none, naming other ways, and unless ``any_tokenizer`` when ids
    mean other tokens to it.
    """
    from ..lane import Lane
    from ..translate import difference

    pair = kit.pair
    if pair.draft is None:
        raise InputError(
            f"{pair.target_name} has no draft model: ", Use(draft="", drafter=FREE), "."
        )
    if not pair.same_ids and not any_tokenizer:
        word, entry = difference(pair.tokenizer, pair.draft_tokenizer) or ("", 0)
        raise InputError(
            f"{pair.target_name} and {pair.draft_name} have different tokenizers (the first "
            f"difference is entry {entry}, {word!r:.40}): ",
            Use(drafter=("shared", "reencode")),
            ".",
        )
    return Lane(pair.stranger if any_tokenizer else pair.guesser)
