"""What a pair is asked for by: a folder, or TARGET:DRAFT, each a folder or an id of the hub."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

_DRIVE = re.compile(r"[A-Za-z]:[\\/][^:]*")
_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def is_folder(name: str) -> bool:
    """Whether there is such a folder, whatever was typed."""
    try:
        return bool(name) and Path(name).expanduser().is_dir()
    except (OSError, RuntimeError, ValueError):
        return False


def split(spec: str, is_folder: Callable[[str], bool] = is_folder) -> tuple[str, str] | None:
    """Target and draft of TARGET:DRAFT; None where there are no two names.

    Names may hold colons, as folders on Windows do (``C:\\t:C:\\d``): of all ways to split, the one
    whose parts are folders goes first, then one whose parts may be: a folder on a drive, an id of
    the hub, or at least a name without a colon.
    """

    def likely(name: str) -> int:
        if is_folder(name):
            return 3
        return 2 if _DRIVE.fullmatch(name) or _ID.fullmatch(name) else ":" not in name

    colons = [i for i, c in enumerate(spec) if c == ":"]
    halves = [(spec[:i], spec[i + 1 :]) for i in colons if 0 < i < len(spec) - 1]
    if _DRIVE.fullmatch(spec):  # one folder, if it is any
        halves = [h for h in halves if all(map(is_folder, h))]
    best = max(halves, key=lambda h: sorted(map(likely, h)), default=None)
    return best if best and all(map(likely, best)) else None
