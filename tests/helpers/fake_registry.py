"""A package registry of our own: one wheel with a tiny GGUF file, by the simple API."""

from __future__ import annotations

import base64
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
    and then nothing (``waiting``). ``fault``: what is wrong with how the wheel is sent: half of it
    comes, without a length (``cut``) or in pieces (``pieces``), or all of it as though it were the
    range asked for (``whole``). ``login``: without it nothing is given. ``/moved`` redirects to
    ``moved``. ``asked``: paths, with the range asked for; ``logins``: that came with them."""

    daemon_threads = True

    def __init__(self, known: Known, wheel: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.known, self.wheel = known, wheel
        self.html = self.slow = False
        self.fault = self.login = self.moved = ""
        self.asked: list[tuple[str, str]] = []
        self.logins: list[str] = []
        self.waiting = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/simple"


class Handler(BaseHTTPRequestHandler):
    server: FakeRegistry

    def do_GET(self) -> None:
        known, span = self.server.known, self.headers.get("Range", "")
        self.server.asked.append((self.path, span))
        word = self.headers.get("Authorization", "").removeprefix("Basic ")
        self.server.logins.append(base64.b64decode(word).decode())
        link = f"../../files/{known.wheel}"
        if self.path.startswith("/moved/"):
            self._send(b"", "text/html", 302, Location=self.server.moved + self.path[6:])
        elif self.server.login not in ("", self.server.logins[-1]):
            self.send_error(401)
        elif self.path == f"/simple/{known.package}/" and self.server.html:
            self._send(f'<a href="{link}#sha256=0">wheel</a>'.encode(), "text/html")
        elif self.path == f"/simple/{known.package}/":
            page = {"files": [{"filename": known.wheel, "url": link}]}
            self._send(json.dumps(page).encode(), "application/vnd.pypi.simple.v1+json")
        elif self.path == f"/files/{known.wheel}":
            self._wheel(int(re.sub(r"\D", "", span) or 0))
        else:
            self.send_error(404)

    def _wheel(self, start: int) -> None:
        wheel, fault = self.server.wheel, self.server.fault
        if fault in ("cut", "pieces"):
            self.protocol_version = "HTTP/1.1"
            self.close_connection = True
            self.send_response(200)
            half = wheel[: len(wheel) // 2]
            if fault == "pieces":
                self.send_header("Transfer-Encoding", "chunked")
                half = b"%x\r\n" % (len(half) + 5) + half
            self.end_headers()
            self.wfile.write(half)
            return
        begun = 0 if fault == "whole" else start
        span = {"Content-Range": f"bytes {begun}-{len(wheel) - 1}/{len(wheel)}"} if start else {}
        self._send(wheel[begun:], "application/zip", 206 if start else 200, **span)

    def _send(self, body: bytes, kind: str, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        sent = {"Content-Type": kind, "Content-Length": str(len(body)), **headers}
        for name, value in sent.items():
            self.send_header(name, value)
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
        monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))  # which is not there
        yield served
