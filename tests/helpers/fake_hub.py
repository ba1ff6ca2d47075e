"""A hub of our own: as much of its HTTP interface as a download asks for, over folders."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from huggingface_hub import constants

SPEC = "some/target:some/draft"
COMMIT = "c0ffee" + "0" * 34


class FakeHub(ThreadingHTTPServer):
    """``repos``: folders by id. ``gated``: ids whose files are kept back. ``asked``: all requests.
    ``slow``: of files over 100 kB, half is sent at once and the rest a byte at a time, for
    ever: ``dribbling``, until the client has ``broken_off``. Weights have their SHA-256 for an
    ETag, and are given from where they are asked for; ``spans``: the ranges asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.asked: list[str] = []
        self.spans: list[str] = []
        self.slow = False
        self.dribbling, self.broken_off = threading.Event(), threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        path = urlsplit(self.path).path.strip("/").split("/")
        if path == [""]:
            self._send(b"the hub")
        elif path[:2] == ["api", "models"]:
            self._about("/".join(path[2:4]), path[4:])
        elif path[2:3] == ["resolve"]:
            self._file("/".join(path[:2]), path[4:])
        else:
            self._refuse(404, "")

    def _about(self, name: str, rest: list[str]) -> None:
        folder = self.server.repos.get(name)
        if folder is None:
            return self._refuse(404, "RepoNotFound")
        paths = [p for p in sorted(folder.rglob("*")) if p.is_file()]
        files = [(p.relative_to(folder).as_posix(), p.stat().st_size) for p in paths]
        if rest[:1] == ["tree"]:
            tree = [{"type": "file", "path": n, "size": s, "oid": n} for n, s in files]
            return self._send(json.dumps(tree).encode())
        sizes = "blobs" in parse_qs(urlsplit(self.path).query)
        siblings = [{"rfilename": n, **({"size": s} if sizes else {})} for n, s in files]
        info = {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings}
        return self._send(json.dumps(info).encode())

    def _file(self, name: str, rest: list[str]) -> None:
        if name in self.server.gated:
            return self._refuse(403, "GatedRepo")
        path = self.server.repos[name] / "/".join(rest)
        if not path.is_file():
            return self._refuse(404, "EntryNotFound")
        body = path.read_bytes()
        if not path.name.endswith((".safetensors", ".gguf")):
            return self._send(body, ETag=f'"{hashlib.sha1(body).hexdigest()}"')
        tag = {"ETag": f'"{hashlib.sha256(body).hexdigest()}"'}
        if not (span := self.headers.get("Range")):
            return self._send(body, **tag)
        self.server.spans.append(span)
        start = int(span.removeprefix("bytes=").removesuffix("-"))
        tag["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        return self._send(body[start:], 206, **tag)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            if self.server.slow and len(body) > 100_000:
                self._dribble(body)
            self.wfile.write(body)
        except OSError:
            self.server.broken_off.set()
            self.close_connection = True

    def _dribble(self, body: bytes) -> None:
        half = len(body) // 2
        self.wfile.write(body[:half])
        self.server.dribbling.set()
        for place in range(half, len(body)):
            self.wfile.write(body[place : place + 1])
            time.sleep(0.02)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[FakeHub]:
    hub = FakeHub()
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


@pytest.fixture
def web(tiny_pair_dir: Path, tmp_path: Path, monkeypatch):
    """A hub with a pair on it, and an empty cache."""
    with serving() as served:
        for role in ("target", "draft"):
            served.repos[f"some/{role}"] = tmp_path / role
            shutil.copytree(tiny_pair_dir / role, tmp_path / role)
            (tmp_path / role / "pytorch_model.bin").write_bytes(b"a pickle")
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield served
