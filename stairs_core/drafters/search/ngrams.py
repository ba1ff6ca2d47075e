"""N-gram indexes: where the last tokens of a text occurred before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ...text.tokens import Document
from .match import NOTHING, Copy, from_document, from_text

LONGEST = 3
LONGEST_IN_DOCUMENTS = 5
"""As in LLMA's code (microsoft/LMOps, ``llma/src/decode.py``)."""


class NGrams:
    """The most recent occurrence of every n-gram of 1 to ``LONGEST`` tokens, in a growing text.

    The time of a step is proportional to the tokens added, not to the text. A text that does not
    continue the last one resets the index.
    """

    def __init__(self) -> None:
        self._text: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}

    def copy(self, text: list[int], count: int, look: int = 0) -> Copy:
        """``count`` tokens that followed the last occurrence of the text's last n-gram, or none.

        The longest n-gram is looked up first. ``look``: the most tokens by which the match is then
        extended backwards, to find its whole length.
        """
        self._read(text)
        for ngram in _ngrams_ending(text, len(text), LONGEST):
            after = self._after.get(ngram)
            if after is not None:
                return from_text(text, after, count, self._same(text, after, len(ngram), look))
        return NOTHING

    def _read(self, text: list[int]) -> None:
        """Adds the n-grams that end before the last token; those at the end are looked up."""
        if self._text != text[: len(self._text)]:
            self._text, self._after = [], {}
        for after in range(max(1, len(self._text)), len(text)):
            for ngram in _ngrams_ending(text, after, LONGEST):
                self._after[ngram] = after
        self._text = text[:]

    def _same(self, text: list[int], after: int, length: int, look: int) -> int:
        """The length of the match, at least ``length``, extended to ``look`` tokens at most."""
        while length < min(after, look) and text[after - 1 - length] == text[-1 - length]:
            length += 1
        return length


class DocumentNGrams:
    """The first occurrence in the documents of every n-gram of up to ``LONGEST_IN_DOCUMENTS``.

    N-grams at the end of a document are left out: no token follows them.
    """

    def __init__(self, documents: Iterable[Document]) -> None:
        self._after: dict[tuple[int, ...], tuple[Document, int]] = {}
        for document in documents:
            for after in range(1, len(document.ids)):
                for ngram in _ngrams_ending(document.ids, after, LONGEST_IN_DOCUMENTS):
                    self._after.setdefault(ngram, (document, after))

    def copy(self, text: list[int], count: int) -> Copy:
        """At most ``count`` tokens that follow the text's longest last n-gram found there."""
        for ngram in _ngrams_ending(text, len(text), LONGEST_IN_DOCUMENTS):
            if ngram in self._after:
                return from_document(*self._after[ngram], count, len(ngram))
        return NOTHING


def _ngrams_ending(ids: list[int], end: int, longest: int) -> Iterator[tuple[int, ...]]:
    """The n-grams that end just before index ``end``, the longest first."""
    for start in range(max(0, end - longest), end):
        yield tuple(ids[start:end])
