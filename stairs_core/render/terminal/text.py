"""Text for a terminal: escaped, measured in cells, cut, wrapped, coloured."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

Styled = tuple[str, str]
"""A text and its SGR parameters, such as ("fox", "32;4"); "" for none."""

_JOINERS = "\u200c\u200d"


def visible(text: str, newline: str = "↵") -> str:
    """``text`` with nothing in it that a terminal would obey or hide.

    Control characters become Unicode's pictures of them; other invisible characters (bidirectional
    overrides, lone surrogates) become escapes. ``newline``: what a line break becomes.
    """
    return "".join(newline if c == "\n" else _escaped(c) for c in text)


def _escaped(char: str) -> str:
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if char not in _JOINERS and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    return char


def width(text: str) -> int:
    """Cells that ``text`` takes: two for a wide character, none for a combining one."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def _cells(char: str) -> int:
    if char in _JOINERS or unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def clip(text: str, cells: int) -> str:
    """The start of ``text`` in at most ``cells``, with a mark where something was cut."""
    if width(text) <= cells:
        return text
    kept, room = "", cells - 1
    for char in text:
        room -= _cells(char)
        if room < 0:
            break
        kept += char
    return kept + "…"


def clip_left(text: str, cells: int) -> str:
    """The end of ``text`` in at most ``cells``, with a mark where something was cut."""
    return clip(text[::-1], cells)[::-1]


def pad(text: str, cells: int) -> str:
    return text + " " * (cells - width(text))


@dataclass(frozen=True, slots=True)
class Paint:
    """Puts colours on text, or leaves it as it is where ``color`` is False."""

    color: bool

    def __call__(self, text: str, sgr: str) -> str:
        return f"\x1b[{sgr}m{text}\x1b[0m" if self.color and sgr and text else text

    def wrap(self, parts: Iterable[Styled], cells: int, indent: str = "") -> list[str]:
        """Lines of at most ``cells``, broken after a space where one is near, and at newlines."""
        room = max(cells - width(indent), 2)
        lines: list[list[Styled]] = [[]]
        used = 0
        for char, sgr in ((c, sgr) for text, sgr in parts for c in text):
            if char != "\n" and used + _cells(char) > room:
                lines.append(_break(lines[-1]))
                used = sum(_cells(c) for c, _ in lines[-1])
            if char == "\n":
                lines.append([])
                used = 0
            else:
                lines[-1].append((char, sgr))
                used += _cells(char)
        return [indent + self._join(line) for line in lines]

    def _join(self, line: list[Styled]) -> str:
        out, run, last = "", "", ""
        for char, sgr in line:
            if sgr != last:
                out, run, last = out + self(run, last), "", sgr
            run += char
        return out + self(run, last)


def _break(line: list[Styled]) -> list[Styled]:
    """Takes the last word off ``line`` and returns it; empty where that is over half the line."""
    for i in range(len(line) - 1, len(line) // 2, -1):
        if line[i][0] == " ":
            rest = line[i + 1 :]
            del line[i + 1 :]
            return rest
    return []
