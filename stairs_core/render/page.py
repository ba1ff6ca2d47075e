"""What the page is sent: a trace, and the words and numbers around it. No torch, no gradio."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from ..trace import Event, Recording, Run, Step, Stop
from . import charts, facts, keep, wire
from .facts import Kind

PROMPTS = {
    "A fox and a key": "Once upon a time, a small fox found a key under the old bridge",
    "Three words": "Words: river, drum, brave\nStory:",
    "A lost shoe": "One day, a king lost his shoe in the garden. He asked",
}

LOADING = "loading the models …"
NO_RUN = "The run failed; try a shorter one"
NO_MODELS = "The models cannot be loaded"
MEASURING = "Measuring what passes cost here …"
UNMEASURED = "The GPU is here only while a run goes on, so passes are not timed before it."
NO_CARD = "What to expect cannot be said"
QUEUED = "Waiting for the machine …"
STARTING = "Getting the models ready …"
NO_SUCH_RUN = "There is no recorded run of the link's name here: choose one below."
BUSY = "A run of yours is still going on: stop it, or wait for its end."

SCRIPTS = (
    *("fold", "words", "parts", "prefs", "glossary", "picture", "token", "lane", "stairs"),
    *("backends", "preflight", "ribbon", "same", "account", "ledger", "arcs", "figures"),
    *("chart", "cursor", "keep", "stops", "tour", "around", "stage"),
)
"""The browser's side, in the order in which it is loaded (assets/page)."""
STYLES = ("stage", "views", "charts", "keep", "craft")
_REFRESH = 0.5


class Lines:
    """A trace that grows while its run goes on. ``text``: its lines so far, as they are sent.

    Numbers and charts are made anew twice a second, however often ``value`` is asked.
    """

    def __init__(self, run: str) -> None:
        self.text = ""
        self._run = run
        self._lanes: dict[int, tuple[Run, list[Step]]] = {}
        self._stops: dict[int, Stop] = {}
        self._facts: dict[str, Any] = {}
        self._made = 0.0
        self._began: float | None = None

    def add(self, records: Iterable[tuple[int, Event]]) -> None:
        self._began = self._began or time.monotonic()
        for lane, record in records:
            self.text += wire.line(lane, record)
            if isinstance(record, Run):
                self._lanes[lane] = record, []
            elif isinstance(record, Step):
                self._lanes[lane][1].append(record)
            else:
                self._stops[lane] = record

    @property
    def started(self) -> bool:
        """Whether any lane has made a step; the heads of all lanes come before."""
        return any(steps for _, steps in self._lanes.values())

    def lanes(self) -> list[Recording]:
        """As far as they have come; one that has not ended yet counts as stopped."""
        return [
            Recording(run, tuple(steps), self._stops.get(lane, Stop("stopped", "")))
            for lane, (run, steps) in self._lanes.items()
        ]

    def value(self, *, running: bool = True) -> dict[str, Any]:
        """The value of the stage now."""
        now = time.monotonic()
        if not running or now - self._made > _REFRESH:
            self._made = now
            self._facts = around(self._run, self.lanes(), "live", running=running)
        wall = round(now - (self._began or now), 1)
        return {**self._facts, "trace": self.text, "wall": wall}


def value(run: str, lanes: Sequence[Recording], kind: Kind, name: str = "") -> dict[str, Any]:
    """The value of the stage for a run that is over. ``run`` tells it from any other; ``name``: the
    file it comes from."""
    return {**around(run, lanes, kind, name), "trace": wire.lines(lanes), "wall": None}


def around(
    run: str, lanes: Sequence[Recording], kind: Kind, name: str = "", *, running: bool = False
) -> dict[str, Any]:
    """All of the stage's value but the trace, which may only grow while ``run`` stays, and how many
    seconds went by since it began, where somebody watches."""
    return {
        "run": run,
        "running": running,
        "source": {"kind": kind, "text": facts.source(lanes, kind, name)},
        "keep": keep.keep(lanes, kind, name) if lanes and not running else None,
        "facts": facts.facts(lanes, running),
        "passes": facts.passes(lanes, running),
        "table": facts.table(lanes, running),
        "charts": charts.charts(lanes, running),
    }


def notice(text: str = "", kind: Literal["error", "wait"] = "error") -> dict[str, str]:
    """The value of the line for notices; no text clears it."""
    return {"kind": kind if text else "none", "text": text}


def card(headline: str) -> dict[str, Any]:
    """The value of the card before a run where there is but one sentence to say."""
    return {"headline": headline, "rows": [], "warnings": []}


def failure(error: Exception, what: str) -> str:
    """One line for what broke for a reason that is not the visitor's."""
    words = " ".join(str(error).split())[:200].rstrip(".")
    return f"{what} ({type(error).__name__}: {words})."


def url(path: Path) -> str:
    """Where gradio serves a static file, under whatever path the app is mounted."""
    return f"gradio_api/file={path.as_posix()}"


def scripts(folder: Path) -> str:
    """The tags that load the stage, in order, and anew when a file has changed."""
    paths = [folder / f"{name}.js" for name in SCRIPTS]
    return "".join(f'<script src="{url(p)}?{p.stat().st_mtime_ns:x}"></script>' for p in paths)


def js(value: Any) -> str:
    """``value`` as JavaScript."""
    return json.dumps(value)
