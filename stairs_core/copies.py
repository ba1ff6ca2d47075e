"""What a search for the text's end finds: tokens to copy, and where each of them stood."""

from __future__ import annotations

from dataclasses import dataclass

from .protocols import Document
from .trace import Origin


@dataclass(frozen=True, slots=True)
class Copy:
    """``tokens`` that followed elsewhere, one of ``origins`` for each; ``same``: how many tokens
    before them were the same there as at the text's end."""

    tokens: list[int]
    origins: list[Origin]
    same: int


NOTHING = Copy([], [], 0)


def from_text(text: list[int], after: int, count: int, same: int) -> Copy:
    """``count`` tokens from place ``after`` of the text itself, which lies before its end.

    What reaches the end of the text goes on with what it has copied, so that a repetition goes on.
    """
    places = [after + i % (len(text) - after) for i in range(count)]
    return Copy([text[at] for at in places], [Origin("text", at) for at in places], same)


def from_document(document: Document, after: int, count: int, same: int) -> Copy:
    """At most ``count`` tokens: a document ends where it ends."""
    tokens = document.ids[after : after + count]
    return Copy(tokens, [Origin(document.name, after + i) for i in range(len(tokens))], same)
