"""Temporary folders for files that the page makes; keeps the newest 32, until the program ends."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections import deque
from pathlib import Path

_MOST = 32


class Folders:
    """Makes temporary folders; deletes the oldest where there are more than 32."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._made: deque[Path] = deque()
        atexit.register(self._clear, 0)

    def folder(self) -> Path:
        """A new, empty folder. It is deleted when 32 more have been made."""
        self._made.append(Path(tempfile.mkdtemp(prefix=self._prefix)))
        self._clear(_MOST)
        return self._made[-1]

    def _clear(self, most: int) -> None:
        while len(self._made) > most:
            shutil.rmtree(self._made.popleft(), ignore_errors=True)
