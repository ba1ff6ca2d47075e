"""The folder of the user's cache for what Stairs makes of models, and the room on its disk.

``STAIRS_CACHE`` moves it. Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
import time
from pathlib import Path

from ..errors import InputError

_FIX = "make room, or set STAIRS_CACHE to a folder on another disk"
_MOST = 0.95  # of what is free
_OLD = 86_400.0  # seconds


def folder() -> Path:
    """``STAIRS_CACHE``, else ``stairs`` where the system keeps caches of the user."""
    if named := os.environ.get("STAIRS_CACHE"):
        return Path(named).expanduser()
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "stairs" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "stairs"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stairs"


def made(*parts: str) -> Path:
    """A folder in the cache, made if need be. Raises InputError where it cannot be."""
    path = folder().joinpath(*parts)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise InputError(
            f"The cache folder {path} cannot be made ({e.strerror}): set STAIRS_CACHE to a folder "
            "that can be written."
        ) from e
    return path


def check_room(place: Path, size: float, takes: str, fix: str = _FIX) -> None:
    """Raises InputError unless ``size`` bytes fit on the disk of the folder ``place``, with room to
    spare. ``takes``: the start of its sentence, with the verb; ``fix``: its end."""
    free = shutil.disk_usage(place).free
    if size > free * _MOST:
        raise InputError(
            f"{takes} {size / 1e9:.2f} GB, and {place} has {free / 1e9:.2f} GB left: {fix}."
        )


def clear_old(place: Path, names: str) -> None:
    """Removes what processes that were killed have left in a folder, a day ago or more."""
    for path in place.glob(names):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _OLD:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def full(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, says that the disk is full. Libraries in other
    languages have errors of their own for that."""
    while error is not None:
        code = error.errno if isinstance(error, OSError) else None
        said = "" if isinstance(error, InputError) else str(error)
        if code in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in said:
            return True
        error = error.__cause__ or error.__context__
    return False
