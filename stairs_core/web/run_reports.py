"""What is told of every run, to the log and to the metrics: numbers and names, no text."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Literal, TypeVar
from uuid import uuid4

from ..errors import InputError
from ..settings.settings import Settings
from ..traces import metrics
from ..traces.records import Lanes, Recording
from . import log_lines, run_metrics
from .run_metrics import Guessing

T = TypeVar("T")
Caller = Literal["page", "api", "mcp"]
Outcome = Literal["ended", "stopped", "left", "refused", "failed"]


def watched(
    batches: Iterator[T], caller: Caller, settings: Mapping[str, Settings], lanes: Lanes
) -> Iterator[T]:
    """Passes on the batches of a run's events; tells of its beginning and its end.

    ``lanes``: where the consumer puts the events. A run that its consumer leaves has ``left``.
    """
    names = {"run": uuid4().hex[:8], "caller": caller}
    names |= {"drafters": [one.drafter for one in settings.values()]}
    counted, began, outcome = run_metrics.current(), time.monotonic(), "left"
    log_lines.event("run begun", **names)
    if counted:
        counted.begin()
    try:
        yield from batches
        stopped = any(lane.stop.reason == "stopped" for lane in lanes.recordings())
        outcome = "stopped" if stopped else "ended"
    except InputError:
        outcome = "refused"
        raise
    except Exception:
        outcome = "failed"
        raise
    finally:
        found = _guessing(lanes.recordings())
        told = {
            "tokens": [one.tokens for one in found],
            "seconds": [round(one.seconds, 3) for one in found],
            "speedup": [one.speedup and round(one.speedup, 2) for one in found],
            "wall": round(time.monotonic() - began, 2),
            "pair": next((lane.run.pair for lane in lanes.recordings()), None),
        }
        log_lines.event("run over", **names, outcome=outcome, **told)
        if counted:
            counted.end(caller, outcome, found)


def _guessing(lanes: list[Recording]) -> list[Guessing]:
    """The lanes after the first, which is the target alone."""
    found = []
    for lane in lanes[1:]:
        own = metrics.fold(lane.steps)
        busy = metrics.too_busy(lane, lanes[0])
        speedup = None if busy else metrics.compare(lanes[0], lane).speedup
        found.append(Guessing(lane.run.drafter, own.new_tokens, own.seconds, speedup))
    return found
