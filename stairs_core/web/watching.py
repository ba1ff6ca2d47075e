"""Addresses for who watches the server: /healthz, and /metrics where the host asks for it."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import engine_thread, live_race, run_metrics, zero_gpu


def health() -> tuple[int, str]:
    """The status of HTTP, and a word: 200 once runs can be made."""
    first = live_race.models()
    if not first.done():
        return 503, "loading"
    if first.exception():
        return 503, "no models"
    # On ZeroGPU runs are made by other processes.
    return (200, "ready") if zero_gpu.ON or engine_thread.is_alive() else (503, "stopped")


def routes(waiting: Callable[[], int]) -> list[Route]:
    """For the server, before gradio's own. ``waiting``: how many requests are in the queue."""

    # Coroutines: they answer while all of the server's threads are busy.
    async def healthz(_: Request) -> Response:
        status, word = health()
        return JSONResponse({"status": word}, status)

    async def metrics(_: Request) -> Response:
        assert counted
        body, kind = counted.text(waiting())
        return Response(body, headers={"content-type": kind})

    counted = run_metrics.current()
    found = [Route("/healthz", healthz)]
    return [*found, Route("/metrics", metrics)] if counted else found
