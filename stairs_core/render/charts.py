"""Figures of a race, from its recordings. Imports neither torch nor gradio.

Colours are names of the page's CSS variables: the browser looks them up when it draws, so that one
figure serves the light and the dark theme.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import plotly.graph_objects as go

from .. import metrics
from ..trace import Recording, Step

BASELINE, LEAD, INK, SOFT, GRID = (
    f"var(--st-{name})" for name in ("plain", "acc", "ink", "soft", "grid")
)
_SPLIT = 0.36, 0.56
"""Where the lower plot ends and the upper one begins, in shares of the figure's height."""
_BELOW = {"text": "tokens", "font": {"size": 12}, "standoff": 8}


def figure(lanes: Sequence[Recording]) -> go.Figure:
    """Tokens against engine time for every lane; below it, the speedup so far against tokens."""
    traces = [_progress(lane) for lane in lanes]
    alone, lead = roles(lanes)
    if alone and lead:
        traces.append(_speedup(alone, lead))
    return go.Figure(traces, _layout(max(lane.run.max_new_tokens for lane in lanes)))


def roles(lanes: Sequence[Recording]) -> tuple[Recording | None, Recording | None]:
    """The first lane of the target alone, and the last lane that guesses."""
    alone = [lane for lane in lanes if lane.run.drafter == "none"]
    guessing = [lane for lane in lanes if lane.run.drafter != "none"]
    return (alone or [None])[0], (guessing or [None])[-1]


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


def _progress(lane: Recording) -> go.Scatter:
    seconds, tokens = metrics.progress(lane.steps)
    alone = lane.run.drafter == "none"
    return go.Scatter(
        x=_rounded(seconds),
        y=tokens,
        name=_plain(lane.run.name),
        mode="lines",
        line={
            "color": BASELINE if alone else LEAD,
            "width": 2 if alone else 2.6,
            "dash": "dash" if alone else "solid",
            "shape": "hv",
        },
        hovertemplate="%{y} tokens",
    )


def _speedup(first: Recording, other: Recording) -> go.Scatter:
    tokens, ratios = speedup_so_far(first.steps, other.steps)
    return go.Scatter(
        x=tokens,
        y=_rounded(ratios),
        name="Speedup so far",
        mode="lines",
        line={"color": LEAD, "width": 2.2},
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
    """plotly reads some tags in names; a trace may come from anybody."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
