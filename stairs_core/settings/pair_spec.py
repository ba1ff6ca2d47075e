"""Parses ``--pair``: a folder, a GGUF file, or TARGET:DRAFT, each also an id on the hub or a name.

A GGUF file on the hub is OWNER/NAME/FILE.gguf; models by name are in ``known``. An id may be pinned
to a commit, OWNER/NAME@COMMIT with all its 40 digits, which is then what is fetched.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

_DRIVE = re.compile(r"[A-Za-z]:[\\/][^:]*")
_PIN = "(?:@[0-9a-f]{40})?"
_ID = re.compile(rf"\w[\w.-]*(/\w[\w.-]*{_PIN})?")
_HUB_FILE = re.compile(
    rf"([\w-][\w.-]*/[\w.-]+{_PIN})/((?:[\w-][\w.-]*/)*[\w-][\w.-]*\.gguf)", re.I
)

_ADDRESS = re.compile(
    r"(?<![\w./-])(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<id>[\w-][\w.-]*/[\w.-]+)"
    r"(?:/(?:resolve|blob|tree)/(?P<at>[^/?#:]+)(?:/(?P<file>[^?#:]*))?)?[^:]*",
    re.I,
)


def is_folder(name: str) -> bool:
    """Whether there is such a folder; False for what cannot be a path at all."""
    try:
        return bool(name) and Path(name).expanduser().is_dir()
    except (OSError, RuntimeError, ValueError):
        return False


def is_gguf(name: str) -> bool:
    """Whether there is such a file, and its name ends in .gguf."""
    try:
        return name.lower().endswith(".gguf") and Path(name).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):
        return False


def is_here(name: str) -> bool:
    """Whether there is such a folder or such a GGUF file."""
    return is_folder(name) or is_gguf(name)


def pinned(name: str) -> tuple[str, str | None]:
    """The id and the commit of OWNER/NAME@COMMIT; no commit for any other name."""
    found = re.fullmatch(r"([^/@]+/[^/@]+)@([0-9a-f]{40})", name)
    return (found[1], found[2]) if found else (name, None)


def hub_file(name: str) -> tuple[str, str] | None:
    """The id and the file's name of OWNER/NAME/FILE.gguf; None for anything else."""
    found = _HUB_FILE.fullmatch(name)
    return (found[1], found[2]) if found else None


def without_addresses(spec: str) -> str:
    """The spec with every address of the hub, as a browser shows it, as the name of its model."""

    def name(found: re.Match[str]) -> str:
        at, file = found["at"] or "", found["file"] or ""
        commit = f"@{at}" if re.fullmatch("[0-9a-f]{40}", at) else ""
        return found["id"] + commit + (f"/{file}" if file.lower().endswith(".gguf") else "")

    return _ADDRESS.sub(name, spec)


def split(spec: str, is_folder: Callable[[str], bool] = is_here) -> tuple[str, str] | None:
    """Target and draft of TARGET:DRAFT; None where there are no two names.

    Names may hold colons, as folders on Windows do (``C:\\t:C:\\d``). Of all places to split at,
    the best is one where both parts are folders or files; next, where both look like a folder on a
    drive or an id on the hub; last, where both hold no colon.
    """

    def likely(name: str) -> int:
        if is_folder(name):
            return 3
        return 2 if _DRIVE.fullmatch(name) or _ID.fullmatch(name) else ":" not in name

    colons = [i for i, c in enumerate(spec) if c == ":"]
    halves = [(spec[:i], spec[i + 1 :]) for i in colons if 0 < i < len(spec) - 1]
    if _DRIVE.fullmatch(spec):  # one folder, unless both halves are folders
        halves = [h for h in halves if all(map(is_folder, h))]
    best = max(halves, key=lambda h: sorted(map(likely, h)), default=None)
    return best if best and all(map(likely, best)) else None
