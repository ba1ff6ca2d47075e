"""The stage's value: the trace that the browser draws, and the words and numbers around it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from ..render import summary
from ..render.charts import race
from ..render.summary import Kind
from ..traces.records import Event, Lanes, Recording
from . import packed_trace, permalinks

_REFRESH = 0.5


class LiveValue:
    """The stage's value while a run goes on: its trace, so far, grows with every ``add``.

    ``run``: an id that tells this run from any other. ``lanes``: the trace as records.
    """

    def __init__(self, run: str) -> None:
        self.lanes = Lanes()
        self._run = run
        self._text = ""
        self._facts: dict[str, Any] = {}
        self._facts_made = 0.0
        self._began: float | None = None

    def add(self, records: Iterable[tuple[int, Event]]) -> None:
        for lane, record in records:
            self._began = self._began or time.monotonic()
            self._text += packed_trace.line(lane, record)
            self.lanes.add(lane, record)

    def value(self, *, running: bool = True) -> dict[str, Any]:
        """The value now. Numbers and charts are made anew twice a second at most, since they cost
        more than the lines of the trace."""
        now = time.monotonic()
        if not running or now - self._facts_made > _REFRESH:
            self._facts_made = now
            self._facts = around(self._run, self.lanes.recordings(), "live", running=running)
        wall = round(now - (self._began or now), 1)
        return {**self._facts, "trace": self._text, "wall": wall}


def value(run: str, lanes: Sequence[Recording], kind: Kind, name: str = "") -> dict[str, Any]:
    """The value for a run that is over. ``run``: an id that tells it from any other; ``name``: of
    the file it comes from."""
    return {**around(run, lanes, kind, name), "trace": packed_trace.lines(lanes), "wall": None}


def around(
    run: str, lanes: Sequence[Recording], kind: Kind, name: str = "", *, running: bool = False
) -> dict[str, Any]:
    """The value without its ``trace``, which only grows while ``run`` stays the same, and without
    ``wall``, the seconds since the run began."""
    return {
        "run": run,
        "running": running,
        "source": {"kind": kind, "name": name, "text": summary.source(lanes, kind, name)},
        "keep": permalinks.keep(lanes, kind, name) if lanes and not running else None,
        "facts": summary.facts(lanes, running),
        "passes": summary.passes(lanes, running),
        "table": summary.table(lanes, running),
        "charts": race.charts(lanes, running),
    }
