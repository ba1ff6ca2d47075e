"""The numbers in charts, read back from what the page is sent."""

from __future__ import annotations

from stairs_core.render.charts import race
from stairs_core.traces.records import Recording


def charts_of(lanes: list[Recording], running: bool = False) -> dict[str, dict]:
    """All charts of a race, by their ids."""
    return {chart["id"]: chart for chart in race.charts(lanes, running)}


def numbers(packed: str) -> list[float]:
    return [float(v) for v in packed.split(",")] if packed else []


def rounded(values) -> list[float]:
    return [float(f"{v:.4g}") for v in values]


def points(chart: dict, lane: int, name: str) -> tuple[list[float], list[float]]:
    """The points of a curve, by its lane and name."""
    (found,) = [t for t in chart["data"] if t["meta"]["lane"] == lane and t["name"] == name]
    return numbers(found["x"]), numbers(found["y"])
