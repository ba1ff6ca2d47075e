"""What a request may ask for and bring, checked before gradio sees it. ASGI.

Gradio opens more doors than the page uses, reads JSON of any size, and fetches files that are named
by a URL. Here these doors are shut, and a body is bounded in size, in depth and in time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from ..settings.limits import current

SECONDS = 300.0
"""How long a body may take to come."""
JSON_BYTES = 8 * 2**20
"""Of a body of JSON: a pasted reference text is the longest that the page sends."""
MARKS, DEPTH = 50_000, 64
"""Of a body of JSON: how many commas and brackets, and how deep inside each other."""
FOLDER = 50
"""How many of the largest uploads the folder for them holds."""

SHUT = re.compile(
    r"proxy=|custom_component/|process_recording|deep_link|stream/|runs/?$"
    r"|run-history/|(undo-)?vibe-|dev/|profiling/|monitoring|token|login|file/|file=\s*https?:",
    re.IGNORECASE,
)
"""Doors of gradio, as they begin behind its prefix, that the page has no use for."""
_FILE = "gradio.FileData"
_PREFIX = re.compile(r"/+(gradio_api/+)?")
_STRING = re.compile(rb'"[^"\\]*(?:\\(?:.|\Z)[^"\\]*)*(?:"|\Z)', re.DOTALL)

_log = logging.getLogger("stairs")

Receive = Callable[[], Awaitable[dict[str, Any]]]


class RequestLimits:
    """Passes on to ``app`` what keeps within the limits. ``uploads``: gradio's folder of files."""

    def __init__(self, app: Any, uploads: Path, seconds: float = SECONDS) -> None:
        self._app, self._uploads, self._seconds = app, Path(os.path.abspath(uploads)), seconds

    async def __call__(self, scope: dict, receive: Receive, send: Any) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        path = _PREFIX.sub("", scope["path"], count=1)
        upload = path.rstrip("/") == "upload"
        if SHUT.match(path) or (upload and not current().uploads):
            return await _answer(send, 404, "There is no such thing here.")
        most = int(current().upload_mb * 2**20) + 2**16 if upload else JSON_BYTES
        if _declared(scope) > most:
            return await _answer(send, 413, _too_large(most))
        if upload and _size(self._uploads) > FOLDER * most:
            return await _answer(send, 507, "This page has no room for more files: come later.")
        body = self._bounded(receive, most, upload)
        try:
            if scope["method"] == "POST" and not upload:
                body = _again(await self._whole(body), receive)
        except HTTPException as e:
            return await _answer(send, e.status_code, e.detail)
        return await self._pass_on(scope, body, send)

    async def _pass_on(self, scope: dict, body: Receive, send: Any) -> None:
        """To gradio, which stumbles over requests that its own page would not send, such as one for
        a function that there is not: they are the sender's fault."""
        began = False

        async def sending(message: dict[str, Any]) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self._app(scope, body, sending)
        except (AttributeError, LookupError, TypeError, ValueError) as e:
            if began:
                raise
            _log.warning("Not understood: %.200r (%s)", scope["path"], type(e).__name__)
            await _answer(send, 400, "This request is not understood.")

    async def _whole(self, receive: Receive) -> bytes:
        """The body, checked if it is JSON; else gradio refuses it. Raises HTTPException."""
        parts, more = [], True
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        body = b"".join(parts)
        check_shape(body)
        with contextlib.suppress(ValueError, RecursionError):
            json.loads(body, object_hook=self._check_file)
        return body

    def _check_file(self, found: dict[str, Any]) -> dict[str, Any]:
        """Raises HTTPException for a file that was not uploaded: one of this machine's, or a URL,
        which gradio would fetch."""
        meta = found.get("meta")
        if isinstance(meta, dict) and meta.get("_type") == _FILE:
            place = Path(os.path.abspath(str(found.get("path"))))
            if not place.is_relative_to(self._uploads) or not os.path.isfile(place):
                raise HTTPException(400, "This file was not uploaded, or is gone: upload it again.")
        return found

    def _bounded(self, receive: Receive, most: int, upload: bool) -> Receive:
        """``receive``, which raises where the body is too long, or too slow, or breaks off."""
        # Gradio removes the files of an upload that it has begun to read, for this error alone.
        error = (lambda _, words: MultiPartException(words)) if upload else HTTPException
        end, came, more = time.monotonic() + self._seconds, 0, True

        async def bounded() -> dict[str, Any]:
            nonlocal came, more
            if not more:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), end - time.monotonic())
            except asyncio.TimeoutError as e:  # noqa: UP041 (another class before Python 3.11)
                raise error(408, "The request did not come in time: send it again.") from e
            if message["type"] == "http.disconnect":
                raise error(400, "The request broke off.")
            came += len(message.get("body", b""))
            if came > most:
                raise error(413, _too_large(most))
            more = message.get("more_body", False)
            return message

        return bounded


def _again(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives ``body`` at first."""
    given = False

    async def again() -> dict[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def check_shape(body: bytes) -> None:
    """Raises HTTPException for JSON with too many values, or nested too deep."""
    marks = _STRING.sub(b"", body)
    if sum(map(marks.count, (b",", b"[", b"]", b"{", b"}"))) > MARKS:
        raise HTTPException(413, "This holds too many values: send fewer.")
    steps = (1 if mark in b"[{" else -1 for mark in re.sub(rb"[^][{}]", b"", marks))
    if max(accumulate(steps), default=0) > DEPTH:
        raise HTTPException(413, f"This is nested more than {DEPTH} deep: send it flatter.")


def _declared(scope: dict) -> int:
    told = dict(scope["headers"]).get(b"content-length", b"0")
    return int(told) if told.isdigit() else 0


def _too_large(most: int) -> str:
    return f"This is over the maximum allowed size, {most >> 20} MB: send less."


def _size(folder: Path) -> int:
    """Bytes of all files in a folder of folders."""
    found = 0
    for path in folder.glob("*/*"):
        try:
            found += path.stat().st_size
        except OSError:  # swept meanwhile
            continue
    return found


async def _answer(send: Any, status: int, words: str) -> None:
    """One sentence, in JSON as gradio's own refusals are."""
    body = json.dumps({"detail": words}).encode()
    kind = [(b"content-type", b"application/json"), (b"connection", b"close")]
    head = [*kind, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
