"""Reads the text: split into works at ``<|endoftext|>``, cleaned to ASCII, some held out."""

from __future__ import annotations

import hashlib
import lzma
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError

END = "<|endoftext|>"
HOLD_OUT = 0.03
"""Share of the works that is never trained on, chosen by a hash of their text."""

PASSAGE_CHARS = 6000
"""Longer works are cut into passages of at most this many characters, at line ends."""

_PUNCTUATION = str.maketrans(
    {
        "‘": "'",
        "’": "'",
        "‚": "'",
        "‛": "'",
        "“": '"',
        "”": '"',
        "„": '"',
        "«": '"',
        "»": '"',
        "–": "-",
        "—": "--",
        "―": "--",
        "−": "-",
        "…": "...",
        "•": "*",
        "\u00a0": " ",
        "\u2028": "\n",
        "æ": "ae",
        "Æ": "Ae",
        "œ": "oe",
        "Œ": "Oe",
        "ß": "ss",
        "ø": "o",
        "Ø": "O",
        "£": "pounds ",
    }
)
# UTF-8 once read as Windows-1252: a lead byte's letter, then one to three continuation bytes.
_MOJIBAKE = re.compile(r"[ÂÃâ][\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]{1,3}")


@dataclass(frozen=True)
class Corpus:
    """Training and held-out works by source, in file order; no work is in both."""

    train: dict[str, list[str]]
    held: dict[str, list[str]]

    @property
    def sources(self) -> list[str]:
        """Names of the sources, in reading order."""
        return list(self.train)


def _repair(match: re.Match[str]) -> str:
    text = match.group()
    try:
        return text.encode("cp1252").decode("utf-8")
    except UnicodeError:
        return text


def clean(text: str) -> str:
    """ASCII text with straight quotes, one newline between paragraphs and no stray spaces."""
    text = _MOJIBAKE.sub(_repair, text).translate(_PUNCTUATION)
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    text = re.sub(r"[ \t\f\v]+", " ", text.replace("\r", "\n"))
    return re.sub(r" ?\n[ \n]*", "\n", text).strip()


def is_held_out(text: str, share: float = HOLD_OUT) -> bool:
    """Whether a cleaned work is held out: its SHA-256, read as a fraction, is below ``share``.

    A function of the text alone, so files may be reordered, renamed or merged without a held-out
    work slipping into training, and a work that appears twice falls on one side.
    """
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def passages(text: str, limit: int = PASSAGE_CHARS) -> list[str]:
    """``text`` cut at line ends into pieces of at most ``limit`` characters (longer lines stay)."""
    if len(text) <= limit:
        return [text]
    pieces, lines, size = [], [], 0
    for line in text.split("\n"):
        if lines and size + len(line) > limit:
            pieces.append("\n".join(lines))
            lines, size = [], 0
        lines.append(line)
        size += len(line) + 1
    return [*pieces, "\n".join(lines)]


def _source_name(path: Path) -> str:
    return path.name.removesuffix(".xz").removesuffix(".txt")


def _read(path: Path) -> str:
    raw = path.read_bytes()
    data = lzma.decompress(raw) if path.suffix == ".xz" else raw
    return data.decode("utf-8", errors="replace")


def read_corpus(
    folder: Path, wanted: Iterable[str] | None = None, prepare: Callable[[str], str] = clean
) -> Corpus:
    """Read ``*.txt`` and ``*.txt.xz`` in ``folder``; ``wanted`` limits it to those sources, and
    ``prepare`` is applied to every work.

    Raises ``InputError`` when the folder is missing or holds no text.
    """
    if not folder.is_dir():
        raise InputError(
            f"There is no corpus folder {folder}: pass --corpus a folder of *.txt "
            "or *.txt.xz files."
        )
    names = None if wanted is None else set(wanted)
    train: dict[str, list[str]] = {}
    held: dict[str, list[str]] = {}
    for path in sorted([*folder.glob("*.txt"), *folder.glob("*.txt.xz")]):
        source = _source_name(path)
        if names is not None and source not in names:
            continue
        works = [work for part in _read(path).split(END) if (work := prepare(part))]
        held[source] = [work for work in works if is_held_out(work)]
        train[source] = [work for work in works if not is_held_out(work)]
    if not any(train.values()):
        raise InputError(
            f"No text was found in {folder}: put *.txt or *.txt.xz files there, "
            f"works separated by {END}."
        )
    return Corpus(train, held)


def source_names(folder: Path) -> list[str]:
    """The sources in ``folder``, by file name, without reading them."""
    files = [*folder.glob("*.txt"), *folder.glob("*.txt.xz")] if folder.is_dir() else []
    return sorted({_source_name(path) for path in files})
