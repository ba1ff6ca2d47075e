"""What stands between a request and gradio: shut doors, bodies that are bounded, headers."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import httpx
import pytest
from loops import alone
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import app
from stairs_core.settings.limits import Limits
from stairs_core.web import request_limits
from stairs_core.web.request_limits import DEPTH, JSON_BYTES, MARKS, RequestLimits
from stairs_core.web.security_headers import SecurityHeaders, policy


async def _echo(request: Request) -> JSONResponse:
    if request.url.path.endswith("/stumble"):
        raise KeyError("a function that there is not")
    return JSONResponse({"came": len(await request.body())})


def _app(uploads: Path, seconds: float = 5.0) -> Starlette:
    routes = [Route("/{path:path}", _echo, methods=["GET", "POST"])]
    guards = [Middleware(SecurityHeaders)]
    guards += [Middleware(RequestLimits, uploads=uploads, seconds=seconds)]
    return Starlette(routes=routes, middleware=guards)


def ask(uploads: Path, path: str, body: object = None, seconds: float = 5.0) -> httpx.Response:
    """What is answered to a POST of ``body``: bytes, parts of them that come one after the other,
    or what is sent as JSON; to a GET, without one."""

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(_app(uploads, seconds))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            if body is None:
                return await client.get(path)
            plain = isinstance(body, bytes) or hasattr(body, "__aiter__")
            return await client.post(path, content=body if plain else json.dumps(body))

    return alone(run)


def file(path: object) -> dict:
    return {"data": [{"x": [{"path": str(path), "meta": {"_type": "gradio.FileData"}}]}]}


USED = """
/ /config /static/{path} /assets/{path} /svelte/{path} /favicon.ico /theme.css
/robots.txt /manifest.json /pwa_icon /pwa_icon/{size} /openapi.json /logout
/gradio_api/info /gradio_api/openapi.json /gradio_api/app_id /gradio_api/user
/gradio_api/startup-events /gradio_api/theme.css /gradio_api/heartbeat/{session_hash}
/gradio_api/file={path_or_url} /gradio_api/upload /gradio_api/upload_progress
/gradio_api/queue/join /gradio_api/queue/data /gradio_api/queue/status /gradio_api/cancel
/gradio_api/reset /gradio_api/component_server /gradio_api/run/{api_name} /gradio_api/api/{api_name}
/gradio_api/call/{api_name} /gradio_api/call/{api_name}/{event_id}
/gradio_api/call/v2/{api_name} /gradio_api/call/v2/{api_name}/{event_id}
"""


def test_doors_that_the_page_does_not_use_are_shut(tmp_path):
    """All of gradio's, by its own list: a new one of a later version is looked at before it is let
    in. What stands here is what the page and the interface for programs ask for."""
    used = USED.split()
    from gradio.routes import App

    async def made() -> App:
        return App.create_app(app.gr.Blocks())

    gradio = alone(made)
    paths = [*gradio.openapi()["paths"], *(getattr(r, "path", "/") for r in gradio.routes)]
    found = {path.replace(":path}", "}").rstrip("/") or "/" for path in paths}
    assert len(found) > len(used)
    others = sorted(found - {*used})
    statuses = {path: ask(tmp_path, re.sub("[{}]", "", path)).status_code for path in others}
    assert statuses == dict.fromkeys(others, 404)
    for path in used:
        assert ask(tmp_path, path).status_code == 200
    for path in ("file=https://a.b/c", "FILE=%20http://a.b/c", "/proxy=http://a.b"):
        assert ask(tmp_path, f"/gradio_api/{path}").status_code == 404
        assert ask(tmp_path, f"//gradio_api//{path}").status_code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"data": ["x" * 1_000_000, [[[0]]]]}, 200),
        ({"data": ["[{,\\" * 100_000]}, 200),  # marks in a text are none
        (b"x" * (JSON_BYTES + 1), 413),
        (b"[" * (DEPTH + 1), 413),
        (b"[" * DEPTH + b"]" * DEPTH, 200),
        (b'"' + b'\\"' * 1_000_000, 200),  # no JSON: gradio says so
        (b"[0" + b",0" * MARKS + b"]", 413),
        (b"9" * 100_000, 200),
        (file("/etc/passwd"), 400),
        (file("http://a.b/c"), 400),
        (file("\0"), 400),
        (file(""), 400),
        (b'{"m\\u0065ta":{"_type":"gradio.FileData"},"path":"/etc/passwd"}', 400),
        ({"path": "/etc/passwd", "meta": {"_type": "gradio.FileData", "more": 1}}, 400),
        ({"path": "/etc/passwd"}, 200),  # gradio takes it for no file either
    ],
)
def test_json_is_bounded_and_names_no_file_but_an_uploaded_one(tmp_path, body, status):
    answer = ask(tmp_path, "/gradio_api/queue/join", body)
    assert answer.status_code == status
    assert status == 200 or answer.json()["detail"].endswith(".")


def test_a_file_that_was_uploaded_is_named(tmp_path):
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "a.txt").write_text("a")
    (tmp_path / "beside.txt").write_text("a")
    up = tmp_path / "up"
    for path, status in (("a.txt", 200), ("b.txt", 400), ("../beside.txt", 400), (".", 400)):
        assert ask(up, "/gradio_api/queue/join", file(up / path)).status_code == status


def test_uploads_are_bounded_in_size_in_time_and_in_number(tmp_path, monkeypatch):
    def allowing(**limits) -> None:
        monkeypatch.setattr(request_limits, "current", lambda: Limits(**limits))

    async def slow():
        yield b"a"
        await asyncio.sleep(60)

    async def long():
        for _ in range(40):
            yield b"a" * 2**16

    allowing(upload_mb=1)
    assert ask(tmp_path, "/gradio_api/upload", b"a" * 2**20).json() == {"came": 2**20}
    assert ask(tmp_path, "/gradio_api/upload", b"a" * 2**21).status_code == 413
    with pytest.raises(request_limits.MultiPartException, match="maximum allowed size, 1 MB"):
        ask(tmp_path, "/gradio_api/upload", long())  # gradio's parser makes a 413 of it
    with pytest.raises(request_limits.MultiPartException, match="did not come in time"):
        ask(tmp_path, "/gradio_api/upload", slow(), seconds=0.1)
    assert ask(tmp_path, "/gradio_api/queue/join", slow(), seconds=0.1).status_code == 408
    monkeypatch.setattr(request_limits, "FOLDER", 2)
    (tmp_path / "hash").mkdir()
    (tmp_path / "hash" / "big").write_bytes(bytes(2**20 * 5 // 2))
    assert ask(tmp_path, "/gradio_api/upload", b"a").status_code == 507
    allowing(uploads=False)
    assert ask(tmp_path, "/gradio_api/upload", b"a").status_code == 404


def test_what_gradio_stumbles_over_is_refused_in_a_sentence(tmp_path, caplog):
    answer = ask(tmp_path, "/gradio_api/stumble", {"data": []})
    assert (answer.status_code, answer.json()) == (
        400,
        {"detail": "This request is not understood."},
    )
    assert "KeyError" in caplog.text
    assert "Traceback" not in caplog.text


def test_every_answer_has_the_headers(tmp_path):
    for path in ("/", "/gradio_api/monitoring", "/monitoring"):
        found = ask(tmp_path, path).headers
        assert found["x-content-type-options"] == "nosniff"
        assert found["referrer-policy"] == "same-origin"
        assert found["content-security-policy"] == policy(space=False)
    assert "frame-ancestors 'self' https://huggingface.co " in policy(space=False)
    assert "connect-src 'self' data: blob:;" in policy(space=False)
    assert "connect-src 'self' data: blob: https://huggingface.co " in policy(space=True)
