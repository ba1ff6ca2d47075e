"""Suffix automaton: the text's longest suffix that occurred earlier, in the text or in a document.

As in SAM-Decoding (Hu et al. 2024, arXiv 2411.10666): one automaton grows with the text; another is
built from the documents, and its state is advanced by every token of the text.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate

from ...text.tokens import Document
from .match import NOTHING, Copy, from_document, from_text

PER_TOKEN = 4
"""The most tokens copied per token of the match. Of 2, 3, 4 and 6 this was the fastest, or within 1
% of it, at K of 10 and 16, computed from 20 greedy texts of the bundled pair and pass times on two
CPU cores. The paper copies 40 tokens after a match of 5 or more, and else uses another drafter.
"""


class Automaton:
    """A suffix automaton of a growing text: amortised constant time and space a token.

    A state stands for all substrings that end at the same positions. ``length``: of the longest of
    them; ``after``: the index after their first occurrence. The first, as in the authors' code,
    because it never changes; the latest would have to be updated for every suffix at every token.
    """

    def __init__(self) -> None:
        self.length, self.after = [0], [0]
        self._next: list[dict[int | None, int]] = [{}]
        # Suffix links: to the state of the longest suffix that occurs elsewhere too.
        self._link = [-1]
        self._latest: dict[int, int] = {}
        self._last = 0

    def extend(self, token: int | None) -> None:
        """Appends ``token``; None separates documents: it matches no token."""
        at, longer = self._last, self.length[self._last] + 1
        new = self._last = self._add({}, longer, longer, 0)
        while at >= 0 and token not in self._next[at]:
            self._next[at][token] = new
            at = self._link[at]
        if at >= 0:
            self._link[new] = self._split(at, token)

    def _split(self, at: int, token: int | None) -> int:
        """The state whose longest substring is that of state ``at`` followed by ``token``; split
        off from a larger state where there is none yet."""
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
        """The length of the text's longest suffix that occurred earlier, and the index after that
        occurrence: the latest at which this was the longest repeated suffix too, else the first.
        Call it after every token, since it notes where that suffix was last seen.
        """
        state = self._link[self._last]
        place = self._latest.get(state, self.after[state])
        self._latest[state] = self.length[self._last]
        return self.length[state], place

    def follow(self, state: int, same: int, token: int) -> tuple[int, int]:
        """Advances a match by ``token``: from ``state``, matching ``same`` tokens, to the state of
        the longest suffix of those and ``token`` that occurs; and its length."""
        while state and token not in self._next[state]:
            state = self._link[state]
            same = self.length[state]
        state = self._next[state].get(token, 0)
        return state, same + 1 if state else 0


class Suffixes:
    """Copies from where the text's longest suffix occurred before, in the text or in a document.

    The time of a step is proportional to the tokens added, apart from one fast list comparison that
    checks that the text continues the last one; if not, the search starts anew. The documents are
    read once. No match crosses the end of a document.
    """

    def __init__(self, documents: Iterable[Document] = ()) -> None:
        self._documents = [document for document in documents if document.ids]
        self._starts = [0, *accumulate(len(document.ids) for document in self._documents)]
        self._in_documents = Automaton()
        for document in self._documents:
            # Without the last token: nothing follows it that could be copied.
            for token in (*document.ids[:-1], None):
                self._in_documents.extend(token)
        self._forget()

    def _forget(self) -> None:
        self._text: list[int] = []
        self._in_text = Automaton()
        self._repeated = 0, 0
        self._state, self._same = 0, 0

    def copy(self, text: list[int], count: int) -> Copy:
        """At most ``count`` tokens, and at most ``PER_TOKEN`` per token of the match.

        The longest match is taken; of two equally long, the one in the text itself.
        """
        self._read(text)
        same, after = self._repeated
        count = min(count, PER_TOKEN * max(same, self._same))
        if not count:
            return NOTHING
        if same >= self._same:
            return from_text(text, after, count, same)
        after = self._in_documents.after[self._state]
        number = bisect_right(self._starts, after) - 1
        document, after = self._documents[number], after - self._starts[number]
        return from_document(document, after, count, self._same)

    def _read(self, text: list[int]) -> None:
        if self._text != text[: len(self._text)]:
            self._forget()
        added = text[len(self._text) :]
        for token in added:
            self._in_text.extend(token)
            self._repeated = self._in_text.repeated()
            self._state, self._same = self._in_documents.follow(self._state, self._same, token)
        self._text += added
