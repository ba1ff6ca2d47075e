"""The registry of drafters. A method is one file in this folder and one line here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..models import Pair
    from ..protocols import Drafter, LengthPolicy

REGISTRY = {
    "none": "no guesses: the target decodes alone, through the same loop",
    "model": "a small model of the same tokenizer guesses K tokens, one after another",
    "lookup": "copies what followed the last tokens where they stood before; no second model",
    "hybrid": "copies where the text repeats itself at length, else asks the draft model",
}
NAMES = tuple(REGISTRY)


def build(name: str, pair: Pair, length: LengthPolicy) -> Drafter:
    """A drafter with no state but its own, for one run at a time.

    ``length``: where a drafter knows how sure it is, it asks this whether to go on.

    The module is imported here and not above, so that names can be checked without torch.
    Raises InputError when the pair lacks what the drafter needs.
    """
    return import_module(f".{name}", __package__).build(pair, length)
