"""The parts of plotly figures as plain data.

plotly's own classes check every value, which is too slow for charts that follow a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...traces.records import Recording
from .series import packed, short

INK, SOFT, GRID = (f"var(--st-{name})" for name in ("ink", "soft", "grid"))
MARGIN = {"l": 46, "r": 14, "t": 14, "b": 40}
_CLEAR = "rgba(0,0,0,0)"


@dataclass(frozen=True, slots=True)
class Race:
    """What a chart is drawn from. ``looks``: colour, fill and dash of every lane. ``first``: the
    target alone, if it is among the lanes."""

    lanes: Sequence[Recording]
    running: bool
    looks: list[tuple[str, str, str]]
    first: Recording | None

    @property
    def guessing(self) -> list[tuple[int, Recording]]:
        return [(i, r) for i, r in enumerate(self.lanes) if r.run.drafter != "none"]

    @property
    def length(self) -> int:
        """New tokens of the longest lane; while the race runs, as many as a lane may write."""
        if self.running:
            return max(lane.run.max_new_tokens for lane in self.lanes)
        written = (sum(len(s.committed) for s in lane.steps) for lane in self.lanes)
        return max(written, default=0) or 1

    def names(self, lanes: Sequence[int]) -> list[dict[str, Any]]:
        return [key(self.lanes[i].run.name, *self.looks[i][::2], lane=i) for i in lanes]


def curve(
    lane: int, name: str, x: Sequence[float], y: Sequence[float], *, only: bool = False, **look: Any
) -> dict[str, Any]:
    """A plotly trace with packed ``x`` and ``y``. ``only``: drawn only while ``lane`` leads."""
    kind = {"type": "scatter", "mode": "lines"} if "type" not in look else {}
    meta = {"lane": lane, "only": only}
    return {"name": plain(name), "meta": meta, **kind, **look, "x": packed(x), "y": packed(y)}


def label(
    lane: int, x: float, y: float, text: str, color: str, place: str, **more: Any
) -> dict[str, Any]:
    """Words at a point. An invisible marker keeps them off the curve."""
    look = {"mode": "markers+text", "marker": {"size": 6, "opacity": 0}, "cliponaxis": False}
    look |= {"text": [plain(text)], "textposition": place}
    look |= {"textfont": {"color": color, "size": 12}, "hoverinfo": "skip", "showlegend": False}
    return curve(lane, more.pop("name", ""), [x], [y], **{"type": "scatter", **look, **more})


def key(text: str, color: str, mark: str, lane: int | None = None) -> dict[str, Any]:
    """A line of the legend beside the chart.

    ``mark``: a dash of plotly's, "fill", "outline", "ring" or "dot-mark".
    """
    return {"text": text, "color": color, "mark": mark, "lane": lane}


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    look = {
        "color": SOFT,
        "gridcolor": GRID,
        "zeroline": False,
        "fixedrange": True,
        "rangemode": "tozero",
        "tickfont": {"size": 11},
        "ticklabelstandoff": 4,
    }
    return (
        look
        | ({"title": {"text": title, "font": {"size": 11}, "standoff": 6}} if title else {})
        | more
    )


def layout(**more: Any) -> dict[str, Any]:
    return {
        "template": "none",
        "paper_bgcolor": _CLEAR,
        "plot_bgcolor": _CLEAR,
        "font": {"color": INK, "size": 12},
        "margin": MARGIN,
        "hovermode": "x unified",
        "hoverlabel": {"bgcolor": "var(--st-panel)", "bordercolor": "var(--st-line)"},
        "showlegend": False,
        **more,
    }


def level(y: float, text: str) -> dict[str, Any]:
    """A dotted line across the chart. ``text`` names it in the legend: on the line itself, curves
    would cross it."""
    line = {"color": SOFT, "width": 1, "dash": "dot"}
    ends = {"xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y}
    return {"shapes": [{"type": "line", "line": line, "name": text, "showlegend": True, **ends}]}


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """The numbers of a figure, for people who cannot see it."""
    kept = [[v if isinstance(v, str) else short(v) for v in row] for row in rows]
    return {"columns": [*columns], "rows": kept}


def plain(text: str) -> str:
    """``text`` without what plotly would read as tags, and without characters that a file cannot
    hold: a trace may come from anybody."""
    seen = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return seen.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
