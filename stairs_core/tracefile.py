"""Traces as files: JSON Lines. Standard library only.

A trace file holds one or more lanes (the runs of one race). Every line is one JSON object with a
``type`` (``run``, ``step`` or ``stop``) and the number of its ``lane``. A lane starts with its
``run`` line and ends with its ``stop`` line; a file in which a lane has no ``stop`` was cut off.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .errors import InputError
from .strict import build, convert
from .trace import SCHEMA, TYPES, Event, Recording, Run, Step, Stop, event

MAX_BYTES = 20 * 2**20
MAX_LANES, MAX_DRAFTED = 64, 1024
"""What can be drawn: of lanes, and of drafted tokens in a step."""


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
    data = dumps(recordings).encode("utf-8", "backslashreplace")
    try:
        Path(path).write_bytes(data)
    except OSError as e:
        raise InputError(f"The trace cannot be written to {path}: {e.strerror}.") from e


def read(path: str | Path) -> list[Recording]:
    """The lanes of a trace file. Raises InputError, in one sentence, for anything else."""
    return decode(fetch(path), Path(path).name)


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
    lanes: list[list[Event]] = []
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            raw = json.loads(line)
        except (ValueError, RecursionError) as e:
            if lanes and number == len(lines):
                raise InputError(f"{name} is cut off in line {number}: save it again.") from e
            raise InputError(
                f"{name} is not a Stairs trace: line {number} is not a JSON object."
            ) from e
        lane, record = _parse(raw, number, name)
        if lane >= MAX_LANES:
            raise InputError(f"{name} has more lanes than can be drawn: {MAX_LANES} at most.")
        if isinstance(record, Run) and lane == len(lanes):
            lanes.append([])
        elif isinstance(record, Run) or not 0 <= lane < len(lanes):
            raise InputError(f"{name} is not a Stairs trace: line {number} has no lane to go to.")
        elif isinstance(lanes[lane][-1], Stop):
            raise InputError(f"{name} is damaged: line {number} comes after its lane has ended.")
        lanes[lane].append(record)
    if not lanes:
        raise InputError(f"{name} is empty: choose a trace that Stairs has saved.")
    return [_recording(records, name) for records in lanes]


def _recording(records: list[Event], name: str) -> Recording:
    run, *steps, stop = records if len(records) > 1 else (*records, None)
    if not isinstance(stop, Stop):
        raise InputError(f"{name} is cut off: a run in it has no end; save it again.")
    assert isinstance(run, Run)
    length, elapsed = len(run.prompt_ids), 0.0
    for step in steps:
        assert isinstance(step, Step)
        n = len(step.tokens)
        if step.start != length or len(step.predictions) != n or not _fits(step, n - 1):
            raise InputError(f"{name} is damaged: its step {step.index} contradicts itself.")
        times = (step.draft_seconds, step.verify_seconds, step.other_seconds)
        if min(times) < 0 or step.elapsed < elapsed:
            raise InputError(f"{name} is damaged: the clock of its step {step.index} runs back.")
        length += len(step.committed)
        elapsed = step.elapsed
    return Recording(run, tuple(s for s in steps if isinstance(s, Step)), stop)


def _fits(step: Step, drafted: int) -> bool:
    """Whether tokens, tree and accepted count can belong together."""
    if drafted > MAX_DRAFTED:
        return False
    if step.parents is None:
        return 0 <= step.accepted <= drafted
    ordered = all(-1 <= parent < i for i, parent in enumerate(step.parents))
    return ordered and len(step.parents) == drafted and 0 <= step.accepted <= drafted


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
