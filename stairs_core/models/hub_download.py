"""``python -m stairs_core.models.hub_download ID COMMIT FILE ...``: fetches a model's files.

Runs as a process so that it can be killed (see ``worker``). Tells how many ``bytes`` have arrived
(see ``hub.time_left``) and, at the end, the ``folder`` or why it was ``refused``.

The hub's library begins each file anew that did not come whole. So weights are fetched first, each
to a file that the next attempt goes on from; the library then finds them in its cache.
"""

from __future__ import annotations

import functools
import glob
import io
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, snapshot_download
from huggingface_hub.file_download import are_symlinks_supported, http_get
from huggingface_hub.utils import WeakFileLock, build_hf_headers
from tqdm import tqdm

from .gguf_unpack import hash_of
from .hub import blob, explained, lock
from .worker import tell

_INTERVAL = 0.1
_AT_ONCE = 4
_WRITTEN = 1 << 20
"""Bytes that are written at a time, and lost at most when the process is killed."""


class Bar(tqdm):
    """A progress bar that is not drawn but reported.

    ``of``: the file that it counts the bytes of. The library's own count all other files; it has
    two, of bytes received and written, of which the larger number is reported.
    """

    _came: dict[str, int] = {}
    _begun, _said, _start = 0, 0.0, time.monotonic()
    _alone = threading.Lock()

    def __init__(self, *args: Any, of: str = "", **options: Any) -> None:
        self._of = of
        super().__init__(*args, **options | {"file": io.StringIO(), "disable": False})
        with Bar._alone:
            Bar._begun += int(self.initial) if of else 0

    def update(self, n: float | None = 1) -> bool | None:
        out = super().update(n)
        if self.unit == "B":
            with Bar._alone:
                least = 0 if self._of else Bar._came.get("", 0)
                Bar._came[self._of] = max(int(self.n), least)
                self._tell()
        return out

    def _tell(self) -> None:
        now = time.monotonic()
        if now - Bar._said > _INTERVAL:
            Bar._said = now
            came = sum(Bar._came.values())
            tell(bytes=came, seconds=now - Bar._start, **{"from": Bar._begun})


def fetch(name: str, commit: str, file: str) -> None:
    """Fetches a file to where the hub's library looks for it, on from what came before.

    Leaves it to that library where the hub tells no SHA-256 of it, or nothing comes, or something
    else, and where it is larger than the hub gives in one answer.
    """
    url = hf_hub_url(name, file, revision=commit)
    about = get_hf_file_metadata(url)
    etag, size = about.etag or "", about.size or 0
    if not re.fullmatch("[0-9a-f]{64}", etag) or not 0 < size <= constants.MAX_HTTP_DOWNLOAD_SIZE:
        return
    whole, guard = blob(name, etag), lock(name, etag)
    whole.parent.mkdir(parents=True, exist_ok=True)
    guard.parent.mkdir(parents=True, exist_ok=True)
    part = whole.with_name(f"{etag}.incomplete")
    with WeakFileLock(guard):
        # What is there already may be damaged.
        for _ in range(2 if part.exists() else 1):
            if whole.exists():
                return
            try:
                _go_on(part, url, size, file)
            except Exception:
                if not part.exists() or part.stat().st_size:
                    raise
                break  # nothing came: the library may know another way
            if hash_of(part, lambda _: None) == etag:
                part.replace(whole)
                return
            part.unlink()
        part.unlink(missing_ok=True)


def _go_on(part: Path, url: str, size: int, file: str) -> None:
    """Makes ``part`` as long as the file at ``url``, from where it ends."""
    headers = build_hf_headers(headers={"Accept-Encoding": "identity"})
    bar: Any = functools.partial(Bar, of=file)
    with part.open("ab") as out:
        if out.tell() > size:
            out.truncate(0)
            out.seek(0)
        options = {"resume_size": out.tell(), "expected_size": size, "tqdm_class": bar}
        http_get(url, out, headers=headers, **options)


def main(name: str, commit: str, *files: str) -> None:
    constants.DOWNLOAD_CHUNK_SIZE = _WRITTEN
    try:
        # Without symbolic links a file in the library's cache takes its room twice.
        if are_symlinks_supported(constants.HF_HUB_CACHE):
            weights = [file for file in files if file.endswith((".safetensors", ".gguf"))]
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(functools.partial(fetch, name, commit), weights))
        options = {"allow_patterns": [*map(glob.escape, files)], "tqdm_class": Bar}
        tell(folder=snapshot_download(name, revision=commit, **options))
    except Exception as e:
        tell(refused=str(explained(e, name)))


if __name__ == "__main__":
    main(*sys.argv[1:])
