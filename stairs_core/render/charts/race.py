"""All charts of a race, and the two that are about time: tokens and speedup.

A chart is plain data: {id, title, layout, data, captions, said, keys, tables}. ``data`` and
``layout`` are plotly's; ``keys`` is the legend; ``said`` is the main finding, for screen readers.
``captions``, ``said``, ``keys`` and ``tables`` are lists with one item per lane, of which the
browser shows the one of the lane that leads, or with a single item for all lanes. A curve in
``data`` whose ``meta`` has ``only`` is drawn only while its lane leads. Its ``x`` and ``y`` are
packed (``series.packed``). Colours are names of the page's CSS variables, which the browser looks
up when it draws, so that one figure serves the light and the dark theme.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

from ...settings import methods
from ...traces import metrics
from ...traces.records import Recording
from .. import labels
from ..summary import alone
from . import drafts, every_k, series
from .figure import MARGIN, SOFT, Race, axis, curve, key, label, layout, level, table

GUESSING = [("acc", "solid"), ("bonus", "dot"), ("corr", "dashdot")]
"""Colour and dash of each lane that guesses, in turn."""
_STEEPER = "Steeper is faster. The engine clock runs only while a lane works."
_UNTIMED = "No times were recorded"
_SHADED = "Against the target alone. Shaded: what was lost of what its passes would allow."
_UNSHADED = "Against the target alone. No ideal is known: {}."
_NOT_PASSES, _UNCLEAR = "its guesses are more than passes", "the times do not tell one"
_AHEAD = "its passes read more than guesses"
_TOO_BUSY = "this machine was too busy"
_NEAR = 0.16
"""Labels that are closer together than this share of the axis would overlap."""


def charts(lanes: Sequence[Recording], running: bool = False) -> list[dict[str, Any]]:
    """All five. While the race is ``running``, coarser and without tables."""
    race = Race(lanes, running, _looks(lanes), alone(lanes))
    made = [part(race) for part in (_tokens, _speedup, drafts.positions, drafts.lengths)]
    made.append(every_k.chart(race))
    return [{**chart, "said": [], "tables": []} for chart in made] if running else made


def _looks(lanes: Sequence[Recording]) -> list[tuple[str, str, str]]:
    """Colour, fill and dash of every lane."""
    guessing = cycle((f"var(--st-{c})", f"var(--st-{c}bg)", dash) for c, dash in GUESSING)
    plain = "var(--st-plain)", "var(--st-grid)", "dash"
    return [plain if lane.run.drafter == "none" else next(guessing) for lane in lanes]


def _tokens(race: Race) -> dict[str, Any]:
    """New tokens over engine time, a stepped curve per lane."""
    data, rows, said, ends = [], [], [], []
    for i, lane in enumerate(race.lanes):
        color, _, dash = race.looks[i]
        points = series.thin(metrics.progress(lane.steps), race.running)  # type: ignore[arg-type]
        line = {"color": color, "width": 2, "dash": dash, "shape": "hv"}
        data.append(curve(i, lane.run.name, *points, line=line, hovertemplate="%{y} tokens"))
        rows += [[lane.run.name, x, y] for x, y in zip(*points, strict=True)]
        if lane.steps:
            ends.append((points[0][-1], points[1][-1], i))
            said.append(f"{lane.run.name}: {points[1][-1]} tokens in {points[0][-1]:.3g} s")
    timed = race.running or any(seconds for seconds, _, _ in ends)
    return {
        "id": "tokens-over-time",
        "title": "Tokens against engine time",
        "captions": [_STEEPER if timed else f"{_UNTIMED}."],
        "keys": [race.names(range(len(race.lanes)))],
        "data": data + ([] if race.running else _finishes(race, ends)) if timed else [],
        "layout": layout(
            xaxis=axis("engine time", ticksuffix=" s", hoverformat=".3f"),
            yaxis=axis(range=[0, race.length * 1.14]),
        ),
        "said": ["Tokens against engine time. " + "; ".join(said if timed else [_UNTIMED]) + "."],
        "tables": [table(["Lane", "Seconds", "Tokens"], rows if timed else [])],
    }


def _finishes(race: Race, ends: list[tuple[float, float, int]]) -> list[dict[str, Any]]:
    """Labels with each lane's time at its end; of two that would overlap, the slower lane's."""
    found, last = [], float("inf")
    widest = max((x for x, _, _ in ends), default=0)
    for x, y, i in sorted(ends, key=lambda end: -end[0]):
        if last - x >= _NEAR * widest:
            found.append(label(i, x, y, f"{x:.3g} s", race.looks[i][0], "top left"))
            last = x
    return found


def _speedup(race: Race) -> dict[str, Any]:
    """Speedup over the target alone after every step, and the ideal that the passes allow."""
    data, rows = [], []
    captions, said, keys = [""] * len(race.lanes), [""] * len(race.lanes), [[] for _ in race.lanes]
    for i, lane in race.guessing if race.first else ():
        assert race.first is not None
        color, fill, dash = race.looks[i]
        points = series.speedup_so_far(race.first.steps, lane.steps)
        tokens, ratios = series.thin(points, race.running)  # type: ignore[arg-type]
        ideal = series.ideal_so_far(race.first, lane)
        line = {"color": color, "width": 2, "dash": dash}
        shown = {"line": line, "hovertemplate": "%{y:.2f} ×"}
        data.append(curve(i, lane.run.name, tokens, ratios, **shown))
        keys[i] = race.names([j for j, _ in race.guessing])
        captions[i] = _UNSHADED.format(_why_none(race.first, lane))
        if ideal:
            data.append(_band(i, tokens, [ideal[int(t)] for t in tokens], color, fill))
        # While the race runs, an ideal may come and go; a caption that did so would move the page.
        if ideal or (race.running and methods.priced(lane.run.drafter)):
            captions[i] = _SHADED
            keys[i].append(key("ideal, by this run's passes", fill, "fill"))
        keys[i].append(key("target alone", SOFT, "dot"))
        if ratios and not race.running:
            data += _reached(i, tokens[-1], ratios[-1], ideal.get(int(tokens[-1])), color)
            said[i] = f"Speedup so far: {lane.run.name} ends at {ratios[-1]:.2f} times the target "
            said[i] += "alone" + (f", of an ideal {ideal[int(tokens[-1])]:.2f}." if ideal else ".")
        rows += [
            [lane.run.name, t, r, ideal.get(int(t))] for t, r in zip(tokens, ratios, strict=True)
        ]
    return {
        "id": "speedup-so-far",
        "title": "Speedup so far",
        "captions": captions if race.first else ["The target alone is not among the lanes."],
        "keys": keys,
        "data": data,
        "layout": layout(
            xaxis=axis("new tokens", range=[0, race.length]),
            yaxis=axis(ticksuffix=" ×", nticks=5),
            margin={**MARGIN, "r": 94},
            **level(1, "target alone"),
        ),
        "said": said,
        "tables": [table(["Lane", "Tokens", "Speedup so far", "Ideal"], rows)],
    }


def _why_none(first: Recording, lane: Recording) -> str:
    """Why no ideal is known."""
    if lane.run.lossy:
        return labels.LOSSY
    if not methods.priced(lane.run.drafter):
        return _AHEAD if methods.REGISTRY[lane.run.drafter].more(1) else _NOT_PASSES
    return _TOO_BUSY if metrics.too_busy(lane, first) else _UNCLEAR


def _band(
    lane: int, tokens: list[float], ideal: list[float], color: str, fill: str
) -> dict[str, Any]:
    """The curve of the ideal; the area between it and the curve before it is filled."""
    line = {"color": color, "width": 1, "dash": "dot"}
    shaded = {"fill": "tonexty", "fillcolor": fill, "hovertemplate": "%{y:.2f} × ideal"}
    return curve(lane, "Ideal", tokens, ideal, only=True, line=line, **shaded)


def _reached(
    lane: int, tokens: float, ratio: float, ideal: float | None, color: str
) -> list[dict[str, Any]]:
    """Labels with the last speedup and the last ideal, at the right ends of their curves."""
    ends = [(ratio, f"{ratio:.2f} ×", color)]
    ends += [] if ideal is None else [(ideal, f"{ideal:.2f} × ideal", SOFT)]
    (low, *_), (high, *_) = min(ends), max(ends)
    sides = ("bottom", "top") if high - low < _NEAR * high else ("middle", "middle")
    return [
        label(lane, tokens, y, f" {text}", look, f"{sides[y == high]} right", only=True)
        for y, text, look in ends
    ]
