"""The longest end of a text that stood before, in the text itself or in a document.

Suffix automata as in SAM-Decoding (Hu et al. 2024, arXiv 2411.10666): one that grows with the text,
and one of the documents, through which the text is followed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate

from .copies import NOTHING, Copy, from_document, from_text
from .protocols import Document

PER_TOKEN = 4
"""Tokens copied for each that agrees: of 2, 3, 4 and 6 the fastest or within 1 % of it, for K of
10 and 16, reckoned from 20 greedy texts of the bundled pair and the seconds of passes on two
CPU cores. The paper copies 40 tokens after a match of 5, and leaves the rest to another drafter.
"""


class Automaton:
    """Every run of tokens in a text that grows, in amortised constant time and space a token.

    A state stands for runs that end at the same places; ``length`` is the longest one's, and
    ``after`` the place after their first end, as in the authors' code: it never changes, while the
    latest one of a token's every suffix would have to be noted, one by one.
    """

    def __init__(self) -> None:
        self.length, self.after = [0], [0]
        self._next: list[dict[int | None, int]] = [{}]
        # The state of the longest ends of a state's runs that also end elsewhere.
        self._link = [-1]
        self._latest: dict[int, int] = {}
        self._last = 0

    def extend(self, token: int | None) -> None:
        """Put ``token`` at the end of the text. None ends a document: no text holds it."""
        at, longer = self._last, self.length[self._last] + 1
        new = self._last = self._add({}, longer, longer, 0)
        while at >= 0 and token not in self._next[at]:
            self._next[at][token] = new
            at = self._link[at]
        if at >= 0:
            self._link[new] = self._split(at, token)

    def _split(self, at: int, token: int | None) -> int:
        """The state of the longest run of state ``at`` followed by ``token``, and of no longer."""
        whole, length = self._next[at][token], self.length[at] + 1
        if self.length[whole] == length:
            return whole
        part = self._add(self._next[whole].copy(), length, self.after[whole], self._link[whole])
        self._link[whole] = part
        while at >= 0 and self._next[at][token] == whole:
            self._next[at][token] = part
            at = self._link[at]
        return part

    def _add(self, following: dict[int | None, int], length: int, after: int, link: int) -> int:
        self._next.append(following)
        self.length.append(length)
        self.after.append(after)
        self._link.append(link)
        return len(self._link) - 1

    def repeated(self) -> tuple[int, int]:
        """How many tokens at the end of the text stood in it before, and the place after them: the
        latest at which they were its longest repeated end, else the first. Asked after every token.
        """
        state = self._link[self._last]
        place = self._latest.get(state, self.after[state])
        self._latest[state] = self.length[self._last]
        return self.length[state], place

    def follow(self, state: int, same: int, token: int) -> tuple[int, int]:
        """The state of the longest end, of a run of ``same`` tokens in ``state`` and ``token``
        after it, that there is a state of; and that end's length."""
        while state and token not in self._next[state]:
            state = self._link[state]
            same = self.length[state]
        state = self._next[state].get(token, 0)
        return state, same + 1 if state else 0


class Suffixes:
    """Copies from where the longest end of the text stood before, in the text or in a document.

    A step costs what it added to the text, and a comparison of lists in C, to see that the text
    goes on from the last one: else it starts anew. The documents are read once. No match runs over
    the end of one.
    """

    def __init__(self, documents: Iterable[Document] = ()) -> None:
        self._documents = [document for document in documents if document.ids]
        self._starts = [0, *accumulate(len(document.ids) for document in self._documents)]
        self._library = Automaton()
        for document in self._documents:
            # A run that ends with the last token is no place to copy from: nothing follows it.
            for token in (*document.ids[:-1], None):
                self._library.extend(token)
        self._forget()

    def _forget(self) -> None:
        self._text: list[int] = []
        self._own = Automaton()
        self._repeated = 0, 0
        self._state, self._same = 0, 0

    def copy(self, text: list[int], count: int) -> Copy:
        """At most ``count`` tokens, and no more than ``PER_TOKEN`` for each that agrees.

        The longest match wins; of two that are as long, the one in the text itself.
        """
        self._read(text)
        same, after = self._repeated
        count = min(count, PER_TOKEN * max(same, self._same))
        if not count:
            return NOTHING
        if same >= self._same:
            return from_text(text, after, count, same)
        after = self._library.after[self._state]
        number = bisect_right(self._starts, after) - 1
        document, after = self._documents[number], after - self._starts[number]
        return from_document(document, after, count, self._same)

    def _read(self, text: list[int]) -> None:
        if self._text != text[: len(self._text)]:
            self._forget()
        added = text[len(self._text) :]
        for token in added:
            self._own.extend(token)
            self._repeated = self._own.repeated()
            self._state, self._same = self._library.follow(self._state, self._same, token)
        self._text += added
