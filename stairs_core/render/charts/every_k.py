"""The chart of every K: the speedup that a run would have had at each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, fields
from typing import Any

from ...settings.settings import K_RANGE
from ...traces import metrics
from ...traces.records import Recording
from ...traces.what_if import WhatIf, what_if
from .figure import SOFT, Race, axis, curve, key, layout, table

_LAST = 16
_LATER = "Known when the run is over."
_UNKNOWN = "This recording does not tell what the draft would have guessed at another K."
_TIMED = "The same text at each K: steps exactly, seconds by this run's own passes."
_BEFORE = "Steps exactly, seconds by this run's passes. Hollow: by passes as measured before it."
_BUSY = "Tokens per target call, exactly; this machine was too busy to tell a speedup."
_COUNTED = "Tokens per target call at each K, exactly; no speedup: {}."
_UNMEASURED, _ALONE = "passes were not measured", "the target alone is not among the lanes"


def chart(race: Race) -> dict[str, Any]:
    """Speedup at every K, for each lane; tokens per target call where no passes were measured."""
    every = [[] if race.running else _every_k(lane, race.first) for lane in race.lanes]
    each = [*zip(race.lanes, every, [color for color, _, _ in race.looks], strict=True)]
    timed = any(map(_timed, every))
    highest = max((_gain(w)[0] for found in every for w in found), default=1)
    guessing = [i for i, _ in race.guessing]
    return {
        "id": "speedup-by-k",
        "title": "Speedup at every K, from this one run",
        "captions": [
            _LATER if race.running else _caption(lane, found, race.first) for lane, found, _ in each
        ],
        "keys": [_keys(lane, found, color) for lane, found, color in each],
        "said": [_said(lane, found, race.first) for lane, found, _ in each],
        "data": [part for i, lane in enumerate(each) for part in _drawn(i, *lane)],
        "layout": layout(
            xaxis=axis("K, tokens guessed ahead", rangemode="normal", dtick=2),
            yaxis=axis(
                nticks=6,
                ticksuffix=" ×" if timed else "",
                autorangeoptions={"include": [1.1 * highest]},
            ),
        ),
        "use": [
            {"guesser": guessing.index(i), "k": top.k}
            if i in guessing and (top := best(found)) and top != used(lane, found)
            else None
            for i, (lane, found, _) in enumerate(each)
        ],
        "tables": [] if race.running else [_table(found) for found in every],
    }


def _every_k(lane: Recording, first: Recording | None) -> list[WhatIf]:
    """The lane at K = 1 to 16, or up to its own K where that is higher."""
    last = max(_LAST, min(lane.run.k, K_RANGE[1]))
    return what_if(lane, first, range(1, last + 1))


def best(found: Sequence[WhatIf]) -> WhatIf | None:
    """The K with the largest speedup. None without seconds: tokens per call only rise with K."""
    return max(found, key=lambda w: w.speedup or 0) if _timed(found) else None


def used(lane: Recording, found: Sequence[WhatIf]) -> WhatIf | None:
    """The entry for the lane's own K, if that was constant."""
    own = lane.run.k if lane.run.length == "constant" else None
    return next((w for w in found if w.k == own), None)


def _timed(found: Sequence[WhatIf]) -> bool:
    return bool(found) and all(w.speedup is not None for w in found)


def _gain(what: WhatIf) -> tuple[float, str]:
    """The speedup, or without seconds the tokens per target call; as a number and in words."""
    if what.speedup is None:
        return what.tokens_per_target_call, f"{what.tokens_per_target_call:.2f} tokens a call"
    return what.speedup, f"{what.speedup:.2f} ×"


def _drawn(i: int, lane: Recording, found: Sequence[WhatIf], color: str) -> list[dict[str, Any]]:
    if not found:
        return []
    ks, gains = [w.k for w in found], [_gain(w)[0] for w in found]
    line = {"color": color, "width": 2}
    # One symbol rather than a list where all points are alike: charts are sent often.
    mixed = len({w.before for w in found}) > 1
    symbols = ["circle-open" if w.before else "circle" for w in found]
    marker = {"size": 5, "color": color, "symbol": symbols if mixed else symbols[0]}
    look = {"mode": "lines+markers", "line": line, "marker": marker}
    hover = "%{y:.2f} ×" if _timed(found) else "%{y:.2f} tokens a call"
    data = [curve(i, lane.run.name, ks, gains, only=True, hovertemplate=hover, **look)]
    if _timed(found):
        even = {"line": {"color": SOFT, "width": 1, "dash": "dot"}, "hoverinfo": "skip"}
        data.append(curve(i, "target alone", [ks[0], ks[-1]], [1, 1], only=True, **even))
    for what, name, _, mark in _marks(lane, found):
        symbol, size = ("circle-open", 14) if mark == "ring" else ("circle", 10)
        marker = {"symbol": symbol, "size": size, "color": color, "line": line}
        data.append(
            curve(i, name, [what.k], [_gain(what)[0]], only=True, mode="markers", marker=marker)
        )
    return data


def _marks(lane: Recording, found: Sequence[WhatIf]) -> list[tuple[WhatIf, str, str, str]]:
    """The K in use and the best K, where there are such: the entry, its name, words and mark."""
    marks = [(used(lane, found), "K in use", "ring"), (best(found), "best K", "dot-mark")]
    return [(w, name, f"{name}, {w.k}: {_gain(w)[1]}", mark) for w, name, mark in marks if w]


def _keys(lane: Recording, found: Sequence[WhatIf], color: str) -> list[dict[str, Any]]:
    keys = [key(words, color, mark) for _, _, words, mark in _marks(lane, found)]
    return keys + ([key("target alone", SOFT, "dot")] if _timed(found) else [])


def _caption(lane: Recording, found: Sequence[WhatIf], first: Recording | None) -> str:
    if not found:
        return _why(lane)
    if _timed(found):
        return _BEFORE if any(w.before for w in found) else _TIMED
    if first and metrics.too_busy(lane, first):
        return _BUSY
    return _COUNTED.format(_UNMEASURED if first else _ALONE)


def _why(lane: Recording) -> str:
    """Why this lane cannot be worked out at another K."""
    run = lane.run
    if run.drafter == "none":
        return "The target alone guesses nothing."
    if run.sampling is not None and run.sampling.draws:
        return "Not known: at another K other tokens would have been drawn by chance."
    if run.drafter != "model":
        return "Not known for this guesser: at another K it would have made other guesses."
    return _UNKNOWN


def _said(lane: Recording, found: Sequence[WhatIf], first: Recording | None) -> str:
    """The main finding, for screen readers."""
    if not found:
        return f"Speedup at every K. {_why(lane)}"
    own, top = used(lane, found), best(found)
    now = f"{_gain(own)[1]} at K {own.k}, the K in use" if own else "K was not constant in this run"
    if top is None:
        return f"Tokens per target call at every K: {now}. {_caption(lane, found, first)}"
    if top == own:
        return f"Speedup at every K: the K in use, {top.k}, is the best, with {_gain(top)[1]}."
    before = ", by passes as measured before the run" if top.before else ""
    return f"Speedup at every K: best at K {top.k} with {_gain(top)[1]}{before}; {now}."


def _table(found: Sequence[WhatIf]) -> dict[str, Any]:
    names = [field.name.replace("_", " ").capitalize() for field in fields(WhatIf)]
    names[-3:] = ["Passes as measured before the run", "Seconds", "Speedup"]
    rows = [[*astuple(w)[:-3], "yes" if w.before else "no", w.seconds, w.speedup] for w in found]
    return table(["K", *names[1:]], rows)
