"""The cores and memory that a container, or any other Linux control group, allows this process.

Reads both versions of control groups: the process's group and those above it. Standard library
only. ``root``: the root of the file system, another one in tests.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")


def cores(root: Path = _ROOT) -> int:
    """How many cores this process may use: by its CPU affinity and its quota."""
    if hasattr(os, "sched_getaffinity"):
        there = len(os.sched_getaffinity(0))
    else:
        there = os.cpu_count() or 1
    quotas = [_quota(folder) for folder in _groups(root, "cpu")]
    # Rounded down: threads wait for each other, so a fraction of a core gains nothing.
    return max(1, min([there, *(int(q) for q in quotas if q is not None)]))


def memory(root: Path = _ROOT) -> int | None:
    """Bytes that this process may still allocate; None without a limit."""
    left = [_left(folder) for folder in _groups(root, "memory")]
    return min((n for n in left if n is not None), default=None)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's groups, the innermost first.

    In a container, only its own group may be visible, at the top.
    """
    mounted = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines() or ["0::/"]:
        _, names, place = (line.split(":", 2) + ["", ""])[:3]
        if names and controller not in names.split(","):
            continue
        for top in [mounted / names, mounted / controller] if names else [mounted]:
            inner = top / place.strip("/")
            for folder in (inner, *inner.parents):
                if folder.is_relative_to(top) and folder.is_dir():
                    yield folder


def _quota(folder: Path) -> float | None:
    """A group's CPU quota, in cores; None without one."""
    try:
        if words := _text(folder / "cpu.max").split():
            return int(words[0]) / int(words[1])
        quota = int(_text(folder / "cpu.cfs_quota_us"))
        return quota / int(_text(folder / "cpu.cfs_period_us")) if quota > 0 else None
    except (IndexError, ValueError, ZeroDivisionError):  # no such file, or "max"
        return None


def _left(folder: Path) -> int | None:
    """A group's memory limit minus what it uses, in bytes; None without a limit."""
    for most, used in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            left = int(_text(folder / most)) - int(_text(folder / used))
        except ValueError:  # no such file, or "max"
            continue
        # The file cache counts as used, but is freed when memory is needed.
        lines = (line.split() for line in _text(folder / "memory.stat").splitlines())
        cached = (int(n) for name, n in lines if name in ("inactive_file", "active_file"))
        return left + sum(cached)
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
