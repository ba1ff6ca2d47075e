"""Traces as files: JSON Lines; and other engines' logs, opened as traces. Standard library only.

A trace file holds one or more lanes (the runs of one race). Every line is one JSON object with a
``type`` (``run``, ``step`` or ``stop``) and the number of its ``lane``. A lane starts with its
``run`` line and ends with its ``stop`` line; a file in which a lane has no ``stop`` was cut off.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError
from . import engine_logs
from .checks import check
from .from_json import build, convert
from .records import (
    MAX_LANES,
    SCHEMA,
    TYPES,
    Event,
    Lanes,
    Recording,
    event,
)

MAX_BYTES = 20 * 2**20
_UTF_16 = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE
_KNOWN_LOGS = "vLLM, SGLang or llama.cpp that counts accepted guesses"


def events(recordings: Iterable[Recording]) -> Iterator[dict[str, Any]]:
    for lane, recording in enumerate(recordings):
        for record in (recording.run, *recording.steps, recording.stop):
            yield event(lane, record)


def dumps(recordings: Iterable[Recording]) -> str:
    return "".join(
        json.dumps(e, ensure_ascii=False, allow_nan=False) + "\n" for e in events(recordings)
    )


def write(path: str | Path, recordings: Iterable[Recording]) -> None:
    """Raises InputError when the file cannot be written."""
    # What UTF-8 cannot hold, half a character, becomes its JSON escape.
    write_whole(path, dumps(recordings).encode("utf-8", "backslashreplace"), "trace")


def write_whole(path: str | Path, data: bytes, what: str) -> None:
    """Writes a file whole or not at all: one that was there stays until then. Through a link, or to
    a device, it writes as it is. ``what`` it is, for InputError, which is raised when it cannot be
    written."""
    path = Path(path)
    part = path.parent / f".stairs-{what}-{os.getpid()}"
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            path.write_bytes(data)  # such as /dev/stdout, which must stay what it is
        else:
            part.write_bytes(data)
            os.replace(part, path)
    except OSError as e:
        with contextlib.suppress(OSError):
            part.unlink()
        raise InputError(f"The {what} cannot be written to {path}: {e.strerror}.") from e


def read(path: str | Path) -> list[Recording]:
    """The lanes of a trace file. Raises InputError, in one sentence, for anything else."""
    return decode(fetch(path), Path(path).name)


def open_any(path: str | Path) -> list[Recording]:
    """The lanes of a trace, or of another engine's log (see ``engine_logs``); the content tells
    which of them a file is.

    Raises InputError, in one sentence, for anything else.
    """
    data, name = fetch(path), Path(path).name
    # PowerShell on Windows writes UTF-16. A log may hold half a character of the text it is about.
    text = data.decode("utf-16" if data.startswith(_UTF_16) else "utf-8", "replace")
    if not text.strip() or _is_trace(text):
        return decode(data, name)
    if found := engine_logs.loads(text, name):
        return found
    if engine := engine_logs.other_engine(text):
        raise InputError(
            f"{name} seems to be a log of {engine}, which is not known here: open a Stairs trace, "
            f"or a log of {_KNOWN_LOGS}."
        )
    raise InputError(f"{name} is neither a Stairs trace nor a log of {_KNOWN_LOGS}.")


def _is_trace(text: str) -> bool:
    """Judged by the first line alone: the text of a trace may itself look like a log."""
    first = text.lstrip().split("\n", 1)[0]
    if first.startswith('{"type": "'):
        return True  # as Stairs writes it, even where the line is cut off
    try:
        record = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and str(record.get("type")) in TYPES


def fetch(path: str | Path) -> bytes:
    """The bytes of what may be a trace. Raises InputError for what is too long, or unreadable."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
            size = max(len(data), path.stat().st_size)
    except OSError as e:
        raise InputError(f"{path} cannot be read: {e.strerror}.") from e
    if size > MAX_BYTES:
        raise InputError(
            f"{path.name} is {size / 2**20:.0f} MB; a trace can have {MAX_BYTES >> 20} MB at "
            "most: record a shorter run."
        )
    return data


def decode(data: bytes, name: str = "the trace") -> list[Recording]:
    """Same as ``read``, from the bytes of a file called ``name``."""
    try:
        # Not final: where the file was cut inside a character, its last line is what is cut off.
        text, _ = codecs.utf_8_decode(data, "strict", False)
    except UnicodeDecodeError as e:
        raise InputError(f"{name} is not a Stairs trace: it is not UTF-8 text.") from e
    return loads(text, name)


def loads(text: str, name: str = "the trace") -> list[Recording]:
    """Same as ``read``, from the text of a file called ``name``."""
    lanes = Lanes()
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            raw = json.loads(line)
        except (ValueError, RecursionError) as e:
            if lanes.opened and number == len(lines):
                raise InputError(f"{name} is cut off in line {number}: save it again.") from e
            raise InputError(
                f"{name} is not a Stairs trace: line {number} is not a JSON object."
            ) from e
        lane, record = _parse(raw, number, name)
        if lane >= MAX_LANES:
            raise InputError(f"{name} has more lanes than can be drawn: {MAX_LANES} at most.")
        try:
            lanes.add(lane, record)
        except LookupError as e:
            raise InputError(
                f"{name} is not a Stairs trace: line {number} has no lane to go to."
            ) from e
        except ValueError as e:
            raise InputError(
                f"{name} is damaged: line {number} comes after its lane has ended."
            ) from e
    if not lanes.opened:
        raise InputError(f"{name} is empty: choose a trace that Stairs has saved.")
    recordings = lanes.recordings()
    for lane, recording in enumerate(recordings):
        if not lanes.ended(lane):
            raise InputError(f"{name} is cut off: a run in it has no end; save it again.")
        check(recording, name)
    return recordings


def _parse(raw: object, number: int, name: str) -> tuple[int, Event]:
    kind = raw.get("type") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or not isinstance(kind, str) or kind not in TYPES:
        raise InputError(f"{name} is not a Stairs trace: line {number} is no run, step or stop.")
    schema = raw.get("schema", SCHEMA)
    if isinstance(schema, int) and schema > SCHEMA:
        raise InputError(
            f"{name} was written by a newer Stairs (schema {schema}; this one reads {SCHEMA}): "
            "update Stairs to open it."
        )
    try:
        lane = convert(raw.get("lane"), int)
        return lane, build(TYPES[kind], raw)
    except (InputError, TypeError, KeyError, RecursionError) as e:
        raise InputError(f"{name} is damaged: line {number} has a wrong or missing {e}.") from e
