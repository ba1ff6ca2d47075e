"""Figures of a race, from its recordings. Imports neither torch nor gradio.

Colours are names of the page's CSS variables: the browser looks them up when it draws, so that one
figure serves the light and the dark theme.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import cycle

import plotly.graph_objects as go

from .. import metrics
from ..trace import Recording, Step
from .facts import alone

BASELINE, INK, SOFT, GRID = (f"var(--st-{name})" for name in ("plain", "ink", "soft", "grid"))
GUESSING = [("var(--st-acc)", "solid"), ("var(--st-bonus)", "dot"), ("var(--st-corr)", "dashdot")]
"""Colour and dash of each lane that guesses, in turn."""
_SPLIT = 0.36, 0.56
"""Where the lower plot ends and the upper one begins, in shares of the figure's height."""
_BELOW = {"text": "tokens", "font": {"size": 12}, "standoff": 8}


def figure(lanes: Sequence[Recording]) -> go.Figure:
    """Tokens against engine time for every lane; below it, the speedups so far against tokens.

    ``meta`` of each curve is the number of its lane, so that the page can bring one to the front.
    """
    looks = _looks(lanes)
    traces = [_progress(i, lane, *looks[i]) for i, lane in enumerate(lanes)]
    first = alone(lanes)
    for i, lane in enumerate(lanes):
        if first and lane.run.drafter != "none":
            traces.append(_speedup(i, first, lane, *looks[i]))
    return go.Figure(traces, _layout(max(lane.run.max_new_tokens for lane in lanes)))


def _looks(lanes: Sequence[Recording]) -> list[tuple[str, str]]:
    """Colour and dash of every lane."""
    guessing = cycle(GUESSING)
    return [(BASELINE, "dash") if lane.run.drafter == "none" else next(guessing) for lane in lanes]


def speedup_so_far(first: Sequence[Step], other: Sequence[Step]) -> tuple[list[int], list[float]]:
    """After every step of ``other``: its tokens, and ``first``'s seconds for as many over its own.

    Ends where ``first`` has not written as many yet, so the last value of a finished race with
    equal texts is its speedup.
    """
    first_seconds, first_tokens = metrics.progress(first)
    tokens, ratios = [], []
    for seconds, count in list(zip(*metrics.progress(other), strict=True))[1:]:
        i = bisect_left(first_tokens, count)
        if i < len(first_tokens) and seconds:
            tokens.append(count)
            ratios.append(first_seconds[i] / seconds)
    return tokens, ratios


def _progress(number: int, lane: Recording, color: str, dash: str) -> go.Scatter:
    seconds, tokens = metrics.progress(lane.steps)
    return go.Scatter(
        x=_rounded(seconds),
        y=tokens,
        meta=number,
        name=_plain(lane.run.name),
        mode="lines",
        line={"color": color, "width": 2, "dash": dash, "shape": "hv"},
        hovertemplate="%{y} tokens",
    )


def _speedup(number: int, first: Recording, other: Recording, color: str, dash: str) -> go.Scatter:
    tokens, ratios = speedup_so_far(first.steps, other.steps)
    return go.Scatter(
        x=tokens,
        y=_rounded(ratios),
        meta=number,
        name="Speedup so far",
        mode="lines",
        line={"color": color, "width": 2, "dash": dash},
        xaxis="x2",
        yaxis="y2",
        showlegend=False,
        hovertemplate="%{y:.2f} ×",
    )


def _layout(length: int) -> go.Layout:
    """``length``: the most tokens a lane may write."""
    axis = {
        "color": SOFT,
        "gridcolor": GRID,
        "zeroline": False,
        "fixedrange": True,
        "rangemode": "tozero",
        "tickfont": {"size": 11},
        "ticklabelstandoff": 4,
    }
    return go.Layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": INK, "size": 12},
        margin={"l": 44, "r": 12, "t": 34, "b": 44},
        hovermode="x unified",
        hoverlabel={"bgcolor": "var(--st-panel)", "bordercolor": "var(--st-line)"},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.01, "yanchor": "bottom"},
        annotations=[_heading("tokens", 1), _heading("speedup so far", _SPLIT[0])],
        shapes=[_even(length)],
        xaxis={**axis, "anchor": "y", "ticksuffix": " s", "hoverformat": ".3f"},
        yaxis={**axis, "domain": [_SPLIT[1], 1], "range": [0, length * 1.02]},
        xaxis2={**axis, "anchor": "y2", "range": [0, length], "title": _BELOW},
        yaxis2={**axis, "domain": [0, _SPLIT[0]], "ticksuffix": " ×", "nticks": 4},
    )


def _heading(text: str, y: float) -> dict[str, object]:
    """What the axis of a plot shows, above its left end, where there is room in any width."""
    place = {"xref": "paper", "yref": "paper", "x": 0, "y": y, "xanchor": "left"}
    look = {"font": {"color": SOFT, "size": 12}, "showarrow": False, "xshift": -34, "yshift": 4}
    return {"text": text, **place, "yanchor": "bottom", **look}


def _even(length: int) -> dict[str, object]:
    """The line on which the stairs are as fast as the target alone."""
    line = {"color": SOFT, "width": 1, "dash": "dot"}
    ends = {"x0": 0, "x1": length, "y0": 1, "y1": 1}
    return {"type": "line", "xref": "x2", "yref": "y2", "line": line, **ends}


def _rounded(values: Sequence[float]) -> list[float]:
    """To 0.1 ms: what is sent to the page several times a second need not be longer."""
    return [round(v, 4) for v in values]


def _plain(text: str) -> str:
    """plotly reads some tags in names, and refuses half a character; a trace may hold both."""
    text = text.encode("utf-8", "replace").decode()
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
