"""Folders for what a page makes: as many as are still of use, and none after the program's end."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections import deque
from pathlib import Path

_MOST = 32


class Folders:
    """New folders, in the system's place for what is passing; the oldest go as others come."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._made: deque[Path] = deque()
        atexit.register(self._clear, 0)

    def folder(self) -> Path:
        """An empty one. What is put into it must have been taken within 32 folders' time."""
        self._made.append(Path(tempfile.mkdtemp(prefix=self._prefix)))
        self._clear(_MOST)
        return self._made[-1]

    def _clear(self, most: int) -> None:
        while len(self._made) > most:
            shutil.rmtree(self._made.popleft(), ignore_errors=True)
