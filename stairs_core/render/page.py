"""What the page is sent: a trace, and the words and numbers around it. No torch, no gradio."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from .. import metrics
from ..trace import Event, Recording, Run, Step, Stop, event
from . import charts
from .cells import drafting

BACKENDS = {
    "single_kv": "one pass over the cache",
    "single": "one pass, no cache",
    "matrix_kv": "every row over the cache",
    "matrix": "every row, no cache",
}
"""The four ways of the stairs in words, the default first."""

DRAFTERS = {
    "model": "the draft model",
    "lookup": "copying from the text",
    "hybrid": "copying, else the draft model",
}
"""Who may guess, in words."""

PROMPTS = {
    "A fox and a key": "Once upon a time, a small fox found a key under the old bridge",
    "Three words": "Words: river, drum, brave\nStory:",
    "A lost shoe": "One day, a king lost his shoe in the garden. He asked",
}

AUTO = "As many as pay, by measured costs and what was accepted."
STRICT = "The same bits however tokens are grouped into passes."
CHAT = "Only for a tokenizer that has one."
LOADING = "loading the models …"
NO_MODELS = "The models cannot be loaded"
QUEUED = "Waiting for the machine …"
STARTING = "Getting the models ready …"
BUSY = "A run of yours is still going on: stop it, or wait for its end."

Kind = Literal["live", "recorded", "file"]
SCRIPTS = ("fold.js", "words.js", "parts.js", "chart.js", "around.js", "stage.js")
_NONE = "–"
_REFRESH = 0.5


class Lines:
    """A trace that grows while its run goes on. ``text``: its lines so far.

    Numbers and figure are made anew twice a second, however often ``value`` is asked.
    """

    def __init__(self, run: str) -> None:
        self.text = ""
        self._run = run
        self._lanes: dict[int, tuple[Run, list[Step]]] = {}
        self._facts: dict[str, Any] = {}
        self._made = 0.0

    def add(self, records: Iterable[tuple[int, Event]]) -> None:
        for lane, record in records:
            self.text += json.dumps(event(lane, record), ensure_ascii=False) + "\n"
            if isinstance(record, Run):
                self._lanes[lane] = record, []
            elif isinstance(record, Step):
                self._lanes[lane][1].append(record)

    @property
    def started(self) -> bool:
        """Whether any lane has made a step; the heads of all lanes come before."""
        return any(steps for _, steps in self._lanes.values())

    def lanes(self) -> list[Recording]:
        return [Recording(run, tuple(s), Stop("stopped", "")) for run, s in self._lanes.values()]

    def value(self, *, running: bool = True) -> dict[str, Any]:
        """The value of the stage now."""
        now = time.monotonic()
        if not running or now - self._made > _REFRESH:
            self._made = now
            self._facts = value(self._run, "", self.lanes(), "live", running=running)
        return {**self._facts, "trace": self.text}


def value(
    run: str, text: str, lanes: Sequence[Recording], kind: Kind, name: str = "", *, running=False
) -> dict[str, Any]:
    """The value of the stage.

    ``run`` tells one run from the next; while it stays, ``text``, the lines of the trace so far,
    may only grow. ``lanes``: the same, parsed. ``name``: the file a recording comes from.
    """
    return {
        "run": run,
        "trace": text,
        "running": running,
        "source": {"kind": kind, "text": source(lanes, kind, name)},
        "numbers": numbers(lanes, running),
        "verdict": verdict(lanes, running),
        "figure": charts.figure(lanes).to_json() if lanes else "",
    }


def notice(text: str = "", kind: Literal["error", "wait"] = "error") -> dict[str, str]:
    """The value of the line for notices; no text clears it."""
    return {"kind": kind if text else "none", "text": text}


def failure(error: Exception, what: str = "The run failed; try a shorter one") -> str:
    """One line for what broke for a reason that is not the visitor's."""
    words = " ".join(str(error).split())[:200].rstrip(".")
    return f"{what} ({type(error).__name__}: {words})."


def whole(number: float) -> Any:
    """A slider's 6.0 as 6; anything else as it is, for Settings to refuse."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


def url(path: Path) -> str:
    """Where gradio serves a static file, under whatever path the app is mounted."""
    return f"gradio_api/file={path.as_posix()}"


def scripts(folder: Path) -> str:
    """The tags that load the stage, in order, and anew when a file has changed."""
    paths = [folder / name for name in SCRIPTS]
    return "".join(f'<script src="{url(p)}?{p.stat().st_mtime_ns:x}"></script>' for p in paths)


def js(value: Any) -> str:
    """``value`` as JavaScript."""
    return json.dumps(value)


def numbers(lanes: Sequence[Recording], running: bool = False) -> list[dict[str, str]]:
    """The tiles above the race, worded. A number that is not known yet, or not right, is a dash."""
    alone, lead = (lane and metrics.fold(lane.steps) for lane in charts.roles(lanes))
    both = _compare(lanes)
    speedup = both.speedup if both else None
    saved = both.calls_saved if both and not running else None
    rate = "tokens/s, target alone"
    calls = f": {lead.steps} for {lead.new_tokens} tokens" if lead and saved is not None else ""
    return [
        _tile(
            _number(speedup, "{:.2f} ×"),
            "the speed of the target alone" + (", so far" if running else ""),
            "Speedup: tokens per second of the stairs over those of the target alone, both on the "
            "engine clock",
            "big" if speedup is None or speedup >= 1 else "big slower",
        ),
        _tile(_rate(alone), rate, "New tokens per second of the engine clock, without guesses"),
        _tile(_rate(lead), "tokens/s, stairs", "New tokens per second of the engine clock"),
        _tile(
            _number(lead and lead.tokens_per_target_call, "{:.2f}"),
            "tokens per target call",
            "New tokens of a step, the target's own token included",
        ),
        _tile(
            _number(lead and lead.acceptance_rate, "{:.2f}"),
            "acceptance rate",
            "Accepted tokens over all that were drafted",
        ),
        _tile(
            _number(lead and lead.alpha, "{:.2f}"),
            "alpha",
            "Accepted tokens over those that were checked: what stands behind a wrong guess is "
            "left out",
        ),
        _tile(
            _number(saved, "{:d}"),
            "target calls saved",
            "Passes of the target alone, minus those of the stairs" + calls,
        ),
    ]


def verdict(lanes: Sequence[Recording], running: bool = False) -> dict[str, str]:
    """Whether both lanes wrote the same text. ``state``: yes, no or open."""
    if not lanes:
        return {"state": "open", "text": "Nothing has run yet."}
    both, pair = _compare(lanes), charts.roles(lanes)
    if both is None:
        words = "Same text: not compared, the trace does not hold both lanes."
        return {"state": "open", "text": words}
    if both.identical is None:
        words = "Same text: not compared, each lane drew its own; both follow the target's law."
        return {"state": "open", "text": words}
    if both.first_difference:
        d = both.first_difference
        return {
            "state": "no",
            "text": f"Same text: no, first difference at new token {d.position + 1}: {d.first!r} "
            f"alone, {d.second!r} with stairs, by a margin of {d.margin:.2g} logits ({d.verdict}).",
        }
    counts = [metrics.fold(lane.steps).new_tokens for lane in pair if lane]
    common = min(counts)
    if running:
        return {"state": "open", "text": f"Same text: yes so far (new tokens compared: {common})."}
    if not both.identical:
        words = f"Same text: no, one ends after {common} tokens, the other after {max(counts)}."
        return {"state": "no", "text": words}
    if counts[0] == counts[1]:
        return {"state": "yes", "text": f"Same text: yes, all {common} tokens."}
    words = f"Same text: yes, the {common} tokens that both had written when the run was stopped."
    return {"state": "yes", "text": words}


def source(lanes: Sequence[Recording], kind: Kind, name: str = "") -> str:
    """Where the numbers come from: recorded or live, which models, which machine."""
    if not lanes:
        return ""
    run = lanes[-1].run
    place = f"{run.hardware}, {run.dtype}"
    if kind == "live":
        return f"On {place}: {_setting(run)}."
    return f"“{name}”, made on {place}, {run.created[:10]}: {_setting(run)}."


def _compare(lanes: Sequence[Recording]) -> metrics.Comparison | None:
    alone, lead = charts.roles(lanes)
    return metrics.compare(alone, lead) if alone and lead else None


def _setting(run: Run) -> str:
    models = f"{run.target} with {run.draft}" if run.draft else run.target
    who = "" if run.drafter == "model" else f"{DRAFTERS.get(run.drafter, run.drafter)}, "
    strict = ", strict" if run.numerics == "strict" else ""
    how = BACKENDS.get(run.backend, run.backend)
    return f"{models}, {who}{drafting(run)}, {how}{strict}, {run.exactness}"


def _tile(value: str, label: str, meaning: str, tone: str = "") -> dict[str, str]:
    return {"value": value, "label": label, "meaning": meaning, "tone": tone}


def _number(value: float | None, form: str) -> str:
    return _NONE if value is None else form.format(value)


def _rate(summary: metrics.Summary | None) -> str:
    return _number(summary.tokens_per_second if summary and summary.seconds else None, "{:.1f}")
