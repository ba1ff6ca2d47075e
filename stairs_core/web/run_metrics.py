"""Runs in numbers for Prometheus, where the host asks for them: runs, tokens, speedup, memory."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

from ..settings import limits

_SPEEDUPS = (0.5, 0.75, 0.9, 1, 1.1, 1.25, 1.5, 2, 2.5, 3, 4, 6)


@dataclass(frozen=True)
class Guessing:
    """A lane that guesses, in numbers. ``seconds``: of the engine clock. ``speedup``: None where it
    is not known, or where the machine was too busy to say."""

    drafter: str
    tokens: int
    seconds: float
    speedup: float | None


class Metrics:
    """Counts what has run since the start of the process."""

    def __init__(self) -> None:
        from prometheus_client import (
            CollectorRegistry,
            Counter,
            Gauge,
            Histogram,
            ProcessCollector,
        )

        kept = self._kept = CollectorRegistry()
        ProcessCollector(registry=kept)
        self._runs = Counter(
            "stairs_runs", "Runs that are over", ["caller", "outcome"], registry=kept
        )
        by = {"labelnames": ["drafter"], "registry": kept}
        self._tokens = Counter("stairs_tokens", "New tokens of lanes that guess", **by)
        self._seconds = Counter("stairs_engine_seconds", "Engine seconds of these lanes", **by)
        self._speedup = Histogram(
            "stairs_speedup",
            "Speedups over the target alone, as measured in runs that came to their end",
            buckets=_SPEEDUPS,
            **by,
        )
        self._running = Gauge("stairs_running", "Runs that go on", registry=kept)
        self._waiting = Gauge("stairs_queue", "Requests that wait for their turn", registry=kept)
        Gauge("stairs_gpu_bytes", "GPU memory in use", registry=kept).set_function(_gpu_bytes)

    def begin(self) -> None:
        self._running.inc()

    def end(self, caller: str, outcome: str, lanes: Iterable[Guessing]) -> None:
        self._running.dec()
        self._runs.labels(caller, outcome).inc()
        for lane in lanes:
            self._tokens.labels(lane.drafter).inc(lane.tokens)
            self._seconds.labels(lane.drafter).inc(lane.seconds)
            if outcome == "ended" and lane.speedup:
                self._speedup.labels(lane.drafter).observe(lane.speedup)

    def text(self, waiting: int) -> tuple[bytes, str]:
        """What Prometheus reads, and its content type. ``waiting``: requests in the queue."""
        from prometheus_client import exposition

        self._waiting.set(waiting)
        return exposition.generate_latest(self._kept), exposition.CONTENT_TYPE_LATEST


@functools.cache
def current() -> Metrics | None:
    """Those of this process; None where the host asks for none."""
    return Metrics() if limits.current().metrics else None


def _gpu_bytes() -> float:
    import torch

    if not torch.cuda.is_initialized():
        return 0.0
    return float(sum(map(torch.cuda.memory_allocated, range(torch.cuda.device_count()))))
