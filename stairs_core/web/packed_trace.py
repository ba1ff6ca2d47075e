"""The lines of a trace as the page is sent them: steps packed, since a run is mostly tokens.

``unpack`` in assets/page/trace/fold.js makes the lines of a trace file of them again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from ..traces.records import STATUSES, Event, Prediction, Recording, Step, Token, event


def line(lane: int, record: Event) -> str:
    """One line. A step is a list: lane, accepted, [draft, verify, other, elapsed] in microseconds,
    stop, parents, source of the guesses, tokens, predictions, probe if any; anything else is as in
    the file."""
    packed = _pack(lane, record) if isinstance(record, Step) else None
    made = packed or event(lane, record)
    text = json.dumps(made, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
    # What UTF-8 cannot hold, half a character, becomes its JSON escape.
    return text.encode("utf-8", "backslashreplace").decode()


def lines(recordings: Iterable[Recording]) -> str:
    """All lines of several lanes, one lane after the other."""
    return "".join(
        line(lane, record)
        for lane, recording in enumerate(recordings)
        for record in (recording.run, *recording.steps, recording.stop)
    )


def _pack(lane: int, step: Step) -> list[Any] | None:
    """None for a step that no engine of ours made."""
    sources = {t.source for t in step.drafted}
    if len(sources) > 1 or step.tokens[-1].source != "target":
        return None
    times = (step.draft_seconds, step.verify_seconds, step.other_seconds, step.elapsed)
    first = {row: t.id for t, row in reversed([*zip(step.tokens, step.rows, strict=True)])}
    said = [
        _short(p.margin) if p.id == first.get(row) else _prediction(p)
        for row, p in enumerate(step.predictions)
    ]
    return [
        lane,
        step.accepted,
        [round(seconds * 1e6) for seconds in times],
        step.stop or 0,
        step.parents or 0,
        sources.pop() if sources else 0,
        [_token(t) for t in step.tokens],
        said,
        *([step.probe] if step.probe else []),
    ]


def _token(token: Token) -> list[Any]:
    """Id, text, status (its index in STATUSES), probability, rank, the draft's probability, origin,
    its name if it is special; less what is unknown at the end."""
    origin = token.origin and [token.origin.document, token.origin.at]
    known = [_short(token.probability), token.rank, _short(token.draft_probability), origin]
    known.append(token.special)
    while known and known[-1] is None:
        known.pop()
    return [token.id, token.text, STATUSES.index(token.status), *known]


def _prediction(said: Prediction) -> list[Any]:
    """Id, text, margin, and its name if it is special."""
    name = [] if said.special is None else [said.special]
    return [said.id, said.text, _short(said.margin), *name]


def _short(value: float | None) -> float | None:
    """Four digits are more than can be seen."""
    return None if value is None else float(f"{value:.4g}")
