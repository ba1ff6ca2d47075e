"""The engine clock of one run: it runs only while the engine works.

Which lane of a race goes on next by these clocks is decided in ``measuring/race.py``.
"""

from __future__ import annotations

from time import perf_counter

import torch


class Clock:
    """Counts seconds of engine work. What a consumer does between steps is not counted."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._since = 0.0
        self.elapsed = 0.0

    def resume(self) -> None:
        self._since = self._now()

    def split(self) -> float:
        """The seconds since the last ``split`` or ``resume``; adds them to ``elapsed``."""
        now = self._now()
        seconds = now - self._since
        self._since = now
        self.elapsed += seconds
        return seconds

    def _now(self) -> float:
        if self._device.type == "cuda":
            # A GPU works asynchronously: without waiting, its time would count for the next part.
            torch.cuda.synchronize(self._device)
        return perf_counter()
