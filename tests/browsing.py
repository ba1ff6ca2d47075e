"""A server with the page, and a real browser: for the tests of the page and its screenshots."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
)
NO_BROWSER = (
    "The tests of the page need Chromium: install it (Debian: apt-get install chromium) or put the "
    "path of one into STAIRS_CHROMIUM."
)
_SERVE = "import sys, pathlib, app; app.TRACES = pathlib.Path(sys.argv[1]); app.main()"


def find_browser() -> str | None:
    paths = (os.environ.get("STAIRS_CHROMIUM"), *map(shutil.which, BROWSERS))
    return next((p for p in paths if p), None)


@contextlib.contextmanager
def serving(traces: Path, log: Path, pair: str = "bundled", limit: float = 60) -> Iterator[str]:
    """The page's address, while it is served with the recorded runs of ``traces``."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    environment = os.environ | {
        "PORT": str(port),
        "STAIRS_PAIR": pair,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",  # tiny models gain nothing from more, and lose on a busy machine
    }
    for name in ("HOST", "GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "SPACE_ID"):
        environment.pop(name, None)
    command = [sys.executable, "-c", _SERVE, str(traces)]
    with (
        log.open("w") as output,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        ) as server,
    ):
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(address, server, log, limit)
            yield address
        finally:
            server.terminate()


def _wait(address: str, server: subprocess.Popen, log: Path, limit: float) -> None:
    end = time.monotonic() + limit
    while time.monotonic() < end:
        assert server.poll() is None, f"app.py ended: {log.read_text()}"
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5):
            return
        time.sleep(0.2)
    raise AssertionError(f"app.py does not answer after {limit:.0f} s: {log.read_text()}")
