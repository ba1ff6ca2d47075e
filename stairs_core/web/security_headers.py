"""Headers on every answer, by which browsers keep strangers' content from doing harm. ASGI."""

from __future__ import annotations

import os
from typing import Any

_HUB = "https://huggingface.co https://*.huggingface.co"


def policy(space: bool) -> str:
    """The Content-Security-Policy: nothing is loaded from, or sent to, another host.

    Gradio's page has inline scripts, and builds functions from its templates: both must be let.
    ``space``: on a Space gradio also asks the hub about the Space. The hub's site may frame it.
    """
    hub = f" {_HUB}" if space else ""
    return "; ".join(
        [
            "default-src 'self'",
            "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
            "style-src 'self' 'unsafe-inline'",
            f"img-src 'self' data: blob:{hub}",
            "font-src 'self' data:",
            f"connect-src 'self' data: blob:{hub}",
            "worker-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            f"frame-ancestors 'self' {_HUB} https://*.hf.space",
        ]
    )


def headers(space: bool) -> list[tuple[bytes, bytes]]:
    """Names and values, as ASGI has them."""
    found = {
        "content-security-policy": policy(space),
        "x-content-type-options": "nosniff",
        "referrer-policy": "same-origin",
        "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    }
    return [(name.encode(), value.encode()) for name, value in found.items()]


class SecurityHeaders:
    """Adds the headers to every HTTP answer of ``app``."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._headers = headers("SPACE_ID" in os.environ)

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        async def sending(message: dict) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *self._headers]}
            await send(message)

        await self._app(scope, receive, sending if scope["type"] == "http" else send)
