"""Two charts of the guesses: acceptance by position in the draft, and draft lengths by step."""

from __future__ import annotations

from typing import Any

from ...traces.records import Recording
from . import series
from .figure import Race, axis, curve, key, layout, table


def unmeasured(lane: Recording) -> bool:
    """Whether this is a log without the number of guesses in each step."""
    return lane.run.untold in ("lengths", "guesses")


def positions(race: Race) -> dict[str, Any]:
    """Of the guesses checked at each position of the draft, the share that was accepted."""
    data, rows, said = [], [], []
    for i, lane in race.guessing:
        if unmeasured(lane):
            continue  # it is not known which guesses were checked
        color, _, dash = race.looks[i]
        found = series.by_position(lane.steps)
        places, shares = list(range(1, len(found) + 1)), [a / n if n else 0.0 for a, n in found]
        line = {"color": color, "width": 2, "dash": dash}
        shown: dict[str, Any] = {
            "line": line,
            "mode": "lines+markers",
            "marker": {"size": 6, "color": color},
        }
        counts: dict[str, Any] = {"customdata": ",".join(f"{a} of {n}" for a, n in found)}
        shown |= {"hovertemplate": "%{y:.0%}: %{customdata} kept"}
        data.append(curve(i, lane.run.name, places, shares, **shown, **counts))
        rows += [[lane.run.name, p, *found[p - 1], shares[p - 1]] for p in places]
        if found:
            said.append(f"{lane.run.name}: {shares[0]:.0%} of first guesses are kept")
            said[-1] += f", {shares[-1]:.0%} at position {places[-1]}" if places[1:] else ""
    tree = any(s.parents for _, lane in race.guessing for s in lane.steps[:1])
    return {
        "id": "acceptance-by-position",
        "title": "Acceptance by position in the draft",
        "captions": [
            "Of the guesses checked at each position, the share that the target kept."
            + (" In a tree a position is a depth." if tree else "")
            if data or not race.guessing
            else "This log does not tell how many guesses were made at each position."
        ],
        "keys": [race.names([t["meta"]["lane"] for t in data])],
        "data": data,
        "layout": layout(
            xaxis=axis("position", rangemode="normal", **_whole([len(t["x"]) for t in data])),
            yaxis=axis(range=[0, 1.04], tickformat=".0%", dtick=0.25),
        ),
        "said": ["Acceptance by position in the draft. " + "; ".join(said) + "."],
        "tables": [table(["Lane", "Position", "Accepted", "Checked", "Share"], rows)],
    }


def _whole(lengths: list[int]) -> dict[str, Any]:
    """Axis options: ticks at whole numbers, at every one where there are few."""
    return {"dtick": 1} if max(lengths, default=0) < 30 else {"tickformat": "d"}


def lengths(race: Race) -> dict[str, Any]:
    """For every step, or every few steps, bars of the drafted and the accepted tokens."""
    data, captions, said, tables = [], [], [], []
    for i, lane in enumerate(race.lanes):
        counts = [len(s.drafted) for s in lane.steps], [s.accepted for s in lane.steps]
        size = series.stride(len(lane.steps), series.RUNNING if race.running else series.WHOLE)
        drafted, accepted = (series.means(n, size, race.running) for n in counts)
        middles = [1 + size * j + (size - 1) / 2 for j in range(len(drafted))]
        known = [None] * len(drafted) if unmeasured(lane) else drafted
        rows = [*zip(middles, known, accepted, strict=True)]
        tables.append(table(["Step", "Drafted", "Accepted"], rows))
        color, fill, _ = race.looks[i]
        outline = {"color": fill, "line": {"color": color, "width": 1}}
        bars = [("drafted", drafted, outline), ("accepted", accepted, {"color": color})]
        for name, heights, marker in bars[unmeasured(lane) :] if sum(counts[0]) else ():
            look = {"type": "bar", "width": size * 0.82, "marker": marker}
            data.append(curve(i, name, middles, heights, only=True, **look))
        captions.append(f"{lane.run.name}, {_order(lane)}.")
        captions[i] += f" Each bar is the mean of {size} steps." if size > 1 else ""
        said.append(_lengths_in_words(lane, *counts))
    return {
        "id": "draft-lengths",
        "title": "Draft length and accepted length",
        "captions": captions,
        "keys": [
            [key("drafted", color, "outline"), key("accepted", color, "fill")][unmeasured(lane) :]
            for lane, (color, _, _) in zip(race.lanes, race.looks, strict=True)
        ],
        "data": data,
        "layout": layout(
            barmode="overlay",
            xaxis=axis(
                "steps, sorted" if any(lane.run.untold for lane in race.lanes) else "step",
                rangemode="normal",
                tickformat="d",
            ),
            yaxis=axis(nticks=6),
        ),
        "said": said,
        "tables": tables,
    }


def _order(lane: Recording) -> str:
    """For the caption: the order in which the steps are drawn."""
    if lane.run.untold is None:
        return "step by step"
    return "by how many were kept: the order of the steps is not known"


def _lengths_in_words(lane: Recording, drafted: list[int], accepted: list[int]) -> str:
    if not sum(drafted):
        return f"Draft length and accepted length: {lane.run.name} drafts nothing."
    if unmeasured(lane):
        mean = sum(accepted) / len(accepted)
        return f"Accepted length: of the guesses of a step, {mean:.1f} are kept."
    means = (f"{sum(counts) / len(counts):.1f}" for counts in (drafted, accepted))
    return "Draft length and accepted length: of {} tokens drafted a step, {} are kept.".format(
        *means
    )
