"""The engine clock: it runs only while the engine works."""

from __future__ import annotations

from time import perf_counter

import torch


class Clock:
    """Seconds of engine work. A consumer's time between steps is not on it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._since = 0.0
        self.elapsed = 0.0

    def resume(self) -> None:
        self._since = self._now()

    def split(self) -> float:
        """Seconds since the last ``split`` or ``resume``, which it adds to ``elapsed``."""
        now = self._now()
        seconds = now - self._since
        self._since = now
        self.elapsed += seconds
        return seconds

    def _now(self) -> float:
        if self._device.type == "cuda":
            # Work is queued on a GPU; unless it is awaited, its time would land on the next part.
            torch.cuda.synchronize(self._device)
        return perf_counter()
