"""Where in a text its last tokens stood before: what drafters that copy are made of."""

from __future__ import annotations

LONGEST = 3


class NGrams:
    """The most recent place of every run of 1 to ``LONGEST`` tokens, in a text that grows.

    A step costs what it added to the text, not what the text holds. A text that does not go on from
    the last one starts anew.
    """

    def __init__(self) -> None:
        self._text: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}

    def copy(self, text: list[int], count: int, look: int = 0) -> tuple[list[int], int]:
        """At most ``count`` tokens that followed the text's end where it stood last, and how many
        tokens of that end were the same there, as far as ``look`` tokens back.

        The longest run is looked for first. What is copied may run into what it has copied itself,
        so that a repetition goes on.
        """
        self._read(text)
        for length in range(min(LONGEST, len(text)), 0, -1):
            after = self._after.get(tuple(text[-length:]))
            if after is not None:
                found: list[int] = []
                for i in range(after, after + count):
                    found.append(text[i] if i < len(text) else found[i - len(text)])
                return found, self._same(text, after, length, look)
        return [], 0

    def _read(self, text: list[int]) -> None:
        """Note the runs that end before the last token: the last ones are what is looked for."""
        if self._text != text[: len(self._text)]:
            self._text, self._after = [], {}
        for after in range(max(1, len(self._text)), len(text)):
            for length in range(1, min(LONGEST, after) + 1):
                self._after[tuple(text[after - length : after])] = after
        self._text = text[:]

    def _same(self, text: list[int], after: int, length: int, look: int) -> int:
        """How far back the two places agree, ``length`` at least."""
        while length < min(after, look) and text[after - 1 - length] == text[-1 - length]:
            length += 1
        return length
