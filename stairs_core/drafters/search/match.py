"""The result of a search: tokens to copy, and where each of them was found."""

from __future__ import annotations

from dataclasses import dataclass

from ...text.tokens import Document
from ...traces.records import Origin


@dataclass(frozen=True, slots=True)
class Copy:
    """``tokens`` to copy, each with its place in ``origins``. ``same``: the length of the match, in
    tokens: how many before that place equal the last ones of the text."""

    tokens: list[int]
    origins: list[Origin]
    same: int


NOTHING = Copy([], [], 0)


def from_text(text: list[int], after: int, count: int, same: int) -> Copy:
    """``count`` tokens of the text itself from index ``after`` on, which is before its end.

    Where the copy reaches the end of the text, it continues with the tokens just copied, so that a
    repetition is repeated: from "abab", "ababab...".
    """
    places = [after + i % (len(text) - after) for i in range(count)]
    return Copy([text[at] for at in places], [Origin("text", at) for at in places], same)


def from_document(document: Document, after: int, count: int, same: int) -> Copy:
    """At most ``count`` tokens of a document from index ``after`` on: fewer at its end."""
    tokens = document.ids[after : after + count]
    return Copy(tokens, [Origin(document.name, after + i) for i in range(len(tokens))], same)
