"""The one door for files to look at: traces of Stairs, and other engines' logs."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

from . import logs, tracefile
from .errors import InputError
from .trace import TYPES, Recording

_WIDE = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE

_KNOWN = "vLLM, SGLang or llama.cpp that counts accepted guesses"


def open_any(path: str | Path) -> list[Recording]:
    """The lanes of a trace, or of a log of another engine (see ``logs``), told by content.

    Raises InputError, in one sentence, for anything else.
    """
    data, name = tracefile.fetch(path), Path(path).name
    # Windows' PowerShell writes logs so. A log may hold half a character of the text it is about.
    text = data.decode("utf-16" if data.startswith(_WIDE) else "utf-8", "replace")
    if not text.strip() or _is_trace(text):
        return tracefile.decode(data, name)
    if found := logs.loads(text, name):
        return found
    if engine := logs.stranger(text):
        raise InputError(
            f"{name} seems to be a log of {engine}, which is not known here: open a Stairs trace, "
            f"or a log of {_KNOWN}."
        )
    raise InputError(f"{name} is neither a Stairs trace nor a log of {_KNOWN}.")


def _is_trace(text: str) -> bool:
    """A trace may be about the words of a log: what its first line is, it is."""
    first = text.lstrip().split("\n", 1)[0]
    if first.startswith('{"type": "'):
        return True  # as we write it, even where it is cut off
    try:
        record = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and str(record.get("type")) in TYPES
