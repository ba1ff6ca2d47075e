"""What a run leaves behind: frozen records, and their JSON Lines form. Standard library only.

A trace file holds one or more lanes (the runs of one race). Every line is one JSON object with a
``type`` (``run``, ``step`` or ``stop``) and the number of its ``lane``. A lane starts with its
``run`` line and ends with its ``stop`` line; a file in which a lane has no ``stop`` was cut off.
"""

from __future__ import annotations

import codecs
import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .errors import InputError
from .strict import build, convert

SCHEMA = 1
MAX_BYTES = 20 * 2**20

Status = Literal["accepted", "rejected", "unchecked", "correction", "bonus", "dropped"]
Reason = Literal["eos", "length", "context", "stopped"]


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a step and what became of it. ``source``: the drafter's name, or "target".

    ``text`` is what the token adds to the text before it; empty for the first bytes of a character
    that a later token completes.
    """

    id: int
    text: str
    status: Status
    source: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the target says after one row of the stairs, and by how much.

    ``margin``: the best logit minus the second best, in logits.
    """

    id: int
    text: str
    margin: float


@dataclass(frozen=True, slots=True)
class Step:
    """One turn of the loop.

    ``start``: how many tokens the text held before the step, prompt included. ``tokens``: the
    drafted tokens in order, then the target's own. ``predictions``: one a row, N + 1 for N drafted
    tokens; row ``i`` is the text so far plus the first ``i`` drafted tokens. ``accepted``: the row
    that was kept. Times in seconds of the engine clock; ``elapsed`` is its reading after the step.
    """

    index: int
    start: int
    tokens: tuple[Token, ...]
    predictions: tuple[Prediction, ...]
    accepted: int
    draft_seconds: float
    verify_seconds: float
    other_seconds: float
    elapsed: float
    stop: Reason | None = None

    @property
    def drafted(self) -> tuple[Token, ...]:
        return self.tokens[:-1]

    @property
    def committed(self) -> tuple[Token, ...]:
        """The tokens that this step added to the text."""
        return tuple(t for t in self.tokens if t.status in ("accepted", "correction", "bonus"))


@dataclass(frozen=True, slots=True)
class Run:
    """The head of a lane: what was asked, of which models, on what machine.

    ``k``: tokens drafted a step, at most. ``length``: the policy that said how many.
    """

    name: str
    prompt: str
    prompt_ids: tuple[int, ...]
    prompt_tokens: tuple[str, ...]
    target: str
    draft: str | None
    drafter: str
    k: int
    backend: str
    max_new_tokens: int
    exactness: str
    dtype: str
    device: str
    hardware: str
    versions: dict[str, str]
    created: str
    chat: bool = False
    length: str = "constant"
    numerics: str = "fast"
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True)
class Stop:
    """The end of a lane. ``text``: the generated text, special tokens left out.

    ``noise``: where the text was seen to part from another lane's, how far rounding was measured
    to move a logit (see ``noise``).
    """

    reason: Reason
    text: str
    noise: float | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """One lane, whole."""

    run: Run
    steps: tuple[Step, ...]
    stop: Stop


Event = Run | Step | Stop
_TYPES: dict[str, type[Event]] = {"run": Run, "step": Step, "stop": Stop}


def event(lane: int, record: Event) -> dict[str, Any]:
    """The JSON form of one record: what a line of the file holds, and what the page is sent."""
    name = next(k for k, v in _TYPES.items() if isinstance(record, v))
    return {"type": name, "lane": lane, **dataclasses.asdict(record)}


def events(recordings: Iterable[Recording]) -> Iterator[dict[str, Any]]:
    for lane, recording in enumerate(recordings):
        for record in (recording.run, *recording.steps, recording.stop):
            yield event(lane, record)


def dumps(recordings: Iterable[Recording]) -> str:
    return "".join(json.dumps(e, ensure_ascii=False) + "\n" for e in events(recordings))


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
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
            size = max(len(data), path.stat().st_size)
        if size > MAX_BYTES:
            raise InputError(
                f"{path.name} is {size / 2**20:.0f} MB; a trace can have {MAX_BYTES >> 20} MB at "
                "most: record a shorter run."
            )
        # Not final: where the file was cut inside a character, its last line is what is cut off.
        text, _ = codecs.utf_8_decode(data, "strict", False)
        return loads(text, path.name)
    except OSError as e:
        raise InputError(f"{path} cannot be read: {e.strerror}.") from e
    except UnicodeDecodeError as e:
        raise InputError(f"{path.name} is not a Stairs trace: it is not UTF-8 text.") from e


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
        if isinstance(record, Run) and lane == len(lanes):
            lanes.append([])
        elif isinstance(record, Run) or not 0 <= lane < len(lanes):
            raise InputError(f"{name} is not a Stairs trace: line {number} has no lane to go to.")
        elif isinstance(lanes[lane][-1], Stop):
            raise InputError(f"{name} is damaged: line {number} comes after its lane has ended.")
        lanes[lane].append(record)
    if not lanes:
        raise InputError(f"{name} is empty: choose a file that `--trace` or the page has saved.")
    return [_recording(records, name) for records in lanes]


def _recording(records: list[Event], name: str) -> Recording:
    run, *steps, stop = records if len(records) > 1 else (*records, None)
    if not isinstance(stop, Stop):
        raise InputError(f"{name} is cut off: a run in it has no end; save it again.")
    assert isinstance(run, Run)
    length = len(run.prompt_ids)
    for step in steps:
        assert isinstance(step, Step)
        n = len(step.tokens)
        if step.start != length or len(step.predictions) != n or not 0 <= step.accepted < n:
            raise InputError(f"{name} is damaged: its step {step.index} contradicts itself.")
        length += len(step.committed)
    return Recording(run, tuple(s for s in steps if isinstance(s, Step)), stop)


def _parse(raw: object, number: int, name: str) -> tuple[int, Event]:
    kind = raw.get("type") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or not isinstance(kind, str) or kind not in _TYPES:
        raise InputError(f"{name} is not a Stairs trace: line {number} is no run, step or stop.")
    schema = raw.get("schema", SCHEMA)
    if isinstance(schema, int) and schema > SCHEMA:
        raise InputError(
            f"{name} was written by a newer Stairs (schema {schema}; this one reads {SCHEMA}): "
            "update Stairs to open it."
        )
    try:
        lane = convert(raw.get("lane"), int)
        return lane, build(_TYPES[kind], raw)
    except (TypeError, KeyError, RecursionError) as e:
        raise InputError(f"{name} is damaged: line {number} has a wrong or missing {e}.") from e
