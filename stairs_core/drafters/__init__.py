"""The registry of drafters. A method is one file in this folder and one line here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..models import Pair
    from ..protocols import Drafter

REGISTRY = {
    "none": "no guesses: the target decodes alone, through the same loop",
    "model": "a small model of the same tokenizer guesses K tokens, one after another",
}
NAMES = tuple(REGISTRY)


def build(name: str, pair: Pair) -> Drafter:
    """A drafter with no state but its own, for one run at a time.

    The module is imported here and not above, so that names can be checked without torch.
    Raises InputError when the pair lacks what the drafter needs.
    """
    return import_module(f".{name}", __package__).build(pair)
