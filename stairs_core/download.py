"""``python -m stairs_core.download ID COMMIT FILE ...``: fetches files of a model into the cache.

A process, so that it can be killed. Says on stdout, as lines of JSON, how many ``bytes`` have come,
and at the end the ``folder``, or why it was ``refused``.
"""

from __future__ import annotations

import glob
import io
import json
import os
import sys
import time
from typing import Any

from huggingface_hub import snapshot_download
from tqdm import tqdm

from .hub import explained

_INTERVAL = 0.1


class Bar(tqdm):
    """A progress bar that is not drawn. Of the two for bytes, received and put together, the one
    that is ahead is said."""

    _said, _most = 0.0, 0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options | {"file": io.StringIO(), "disable": False})

    def update(self, n: float | None = 1) -> bool | None:
        out = super().update(n)
        if self.unit == "B" and self.n > Bar._most:
            Bar._most = int(self.n)
            if time.monotonic() - Bar._said > _INTERVAL:
                Bar._said = time.monotonic()
                _say(bytes=Bar._most)
        return out


def _say(**facts: Any) -> None:
    try:
        print(json.dumps(facts), flush=True)
    except BrokenPipeError:  # nobody waits for it any more
        os._exit(1)


def main(name: str, commit: str, *files: str) -> None:
    try:
        options = {"allow_patterns": [*map(glob.escape, files)], "tqdm_class": Bar}
        _say(folder=snapshot_download(name, revision=commit, **options))
    except Exception as e:
        _say(refused=str(explained(e, name)))


if __name__ == "__main__":
    main(*sys.argv[1:])
