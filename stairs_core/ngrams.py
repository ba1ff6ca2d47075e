"""Where the last tokens of a text stood before: what drafters that copy are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .copies import NOTHING, Copy, from_document, from_text
from .protocols import Document

LONGEST = 3
LONGEST_IN_DOCUMENTS = 5
"""As LLMA's code has it (microsoft/LMOps, ``llma/src/decode.py``)."""


class NGrams:
    """The most recent place of every run of 1 to ``LONGEST`` tokens, in a text that grows.

    A step costs what it added to the text, not what the text holds. A text that does not go on from
    the last one starts anew.
    """

    def __init__(self) -> None:
        self._text: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}

    def copy(self, text: list[int], count: int, look: int = 0) -> Copy:
        """``count`` tokens that followed the text's end where it stood last, or none.

        The longest run is looked for first. How many tokens are the same is counted as far as
        ``look`` tokens back.
        """
        self._read(text)
        for run in _runs(text, len(text), LONGEST):
            after = self._after.get(run)
            if after is not None:
                return from_text(text, after, count, self._same(text, after, len(run), look))
        return NOTHING

    def _read(self, text: list[int]) -> None:
        """Note the runs that end before the last token: the last ones are what is looked for."""
        if self._text != text[: len(self._text)]:
            self._text, self._after = [], {}
        for after in range(max(1, len(self._text)), len(text)):
            for run in _runs(text, after, LONGEST):
                self._after[run] = after
        self._text = text[:]

    def _same(self, text: list[int], after: int, length: int, look: int) -> int:
        """How far back the two places agree, ``length`` at least."""
        while length < min(after, look) and text[after - 1 - length] == text[-1 - length]:
            length += 1
        return length


class DocumentNGrams:
    """The first place of every run of 1 to ``LONGEST_IN_DOCUMENTS`` tokens, in all the documents.

    A run that ends a document is no place to copy from: nothing follows it.
    """

    def __init__(self, documents: Iterable[Document]) -> None:
        self._after: dict[tuple[int, ...], tuple[Document, int]] = {}
        for document in documents:
            for after in range(1, len(document.ids)):
                for run in _runs(document.ids, after, LONGEST_IN_DOCUMENTS):
                    self._after.setdefault(run, (document, after))

    def copy(self, text: list[int], count: int) -> Copy:
        """At most ``count`` tokens that follow the longest run that ends the text."""
        for run in _runs(text, len(text), LONGEST_IN_DOCUMENTS):
            if run in self._after:
                return from_document(*self._after[run], count, len(run))
        return NOTHING


def _runs(ids: list[int], end: int, longest: int) -> Iterator[tuple[int, ...]]:
    """The runs of tokens that end before place ``end``, the longest first."""
    for start in range(max(0, end - longest), end):
        yield tuple(ids[start:end])
