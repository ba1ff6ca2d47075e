"""``python -m stairs_core.models.hub_download ID COMMIT FILE ...``: fetches a model's files.

Runs as a process so that it can be killed (see ``worker``). Tells how many ``bytes`` have arrived
and, at the end, the ``folder`` or why it was ``refused``.
"""

from __future__ import annotations

import glob
import io
import sys
import time
from typing import Any

from huggingface_hub import snapshot_download
from tqdm import tqdm

from .hub import explained
from .worker import tell

_INTERVAL = 0.1


class Bar(tqdm):
    """A progress bar that is not drawn but reported. The library has two that count bytes, received
    and written; the larger number is reported."""

    _said, _most = 0.0, 0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options | {"file": io.StringIO(), "disable": False})

    def update(self, n: float | None = 1) -> bool | None:
        out = super().update(n)
        if self.unit == "B" and self.n > Bar._most:
            Bar._most = int(self.n)
            if time.monotonic() - Bar._said > _INTERVAL:
                Bar._said = time.monotonic()
                tell(bytes=Bar._most)
        return out


def main(name: str, commit: str, *files: str) -> None:
    try:
        options = {"allow_patterns": [*map(glob.escape, files)], "tqdm_class": Bar}
        tell(folder=snapshot_download(name, revision=commit, **options))
    except Exception as e:
        tell(refused=str(explained(e, name)))


if __name__ == "__main__":
    main(*sys.argv[1:])
