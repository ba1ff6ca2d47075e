"""Visitors of the page without a browser: the requests that one sends, and what comes back."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
from gradio_client.utils import apply_diff

API = "/gradio_api"


@dataclass
class Run:
    """One run as its visitor saw it. Moments in seconds of the monotonic clock: when Run was
    pressed, when the server had taken it into its queue, when its turn came, and so on.

    ``texts`` and ``verdicts``: by lane, the target alone first. ``failed``: what gradio said.
    """

    prompt: str
    pressed: float
    joined: float | None = None
    began: float | None = None
    first_step: float | None = None
    ended: float | None = None
    left: bool = False
    texts: list[str] = field(default_factory=list)
    verdicts: list[dict[str, str]] = field(default_factory=list)
    failed: str = ""


class Visitor:
    """One open page: its session, what its form holds, and all that the server has sent it."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client, self._session = client, uuid4().hex[:12]
        self._alive: asyncio.Task | None = None
        self.received: list[str] = []

    async def open(self) -> None:
        """Loads the page, stays connected, and lets its events at the start run one by one."""
        (await self._client.get("/")).raise_for_status()
        config = (await self._client.get("/config")).json()
        parts = {part["id"]: part["props"] for part in config["components"]}
        self._named = {props.get("elem_id"): id for id, props in parts.items()}
        self._held = {id: props.get("value") for id, props in parts.items()}
        self._events = config["dependencies"]
        self._alive = asyncio.create_task(self._stay())
        event = next(
            e for e in self._events if e["backend_fn"] and any(t[1] == "load" for t in e["targets"])
        )
        while event:
            async with aclosing(self._call(event)) as messages:
                async for _ in messages:
                    pass
            event = next((e for e in self._events if e["trigger_after"] == event["id"]), None)

    async def run(self, prompt: str, tokens: int, leave: bool = False) -> Run:
        """Presses Run; ``leave``: closes the page when the first step is there."""
        self._held[self._named["prompt"]] = prompt
        self._held[self._named["max-new-tokens"]] = tokens
        button = [self._named["run"], "click"]
        event = next(e for e in self._events if button in e["targets"] and e["backend_fn"])
        stage, found = event["outputs"].index(self._named["stage"]), Run(prompt, time.monotonic())
        seen: list[Any] = []
        shown: dict[str, Any] = {}
        async with aclosing(self._call(event)) as messages:
            async for message in messages:
                now, said = time.monotonic(), message["msg"]
                if said == "joined":
                    found.joined = now
                if said == "process_starts":
                    found.began = now
                if said == "process_generating" and message["success"]:
                    seen = _grown(seen, message["output"]["data"])
                    if seen[stage].get("value", {}).get("trace"):
                        shown = seen[stage]["value"]
                        found.first_step = found.first_step or now
                        if leave:
                            break
                if said == "process_completed" and not message["success"]:
                    found.failed = json.dumps(message["output"])
        found.ended, found.left = time.monotonic(), leave
        if leave:
            await self.close()
        elif shown:
            lines = [json.loads(line) for line in shown["trace"].split("\n") if line]
            stops = [one for one in lines if isinstance(one, dict) and one["type"] == "stop"]
            found.texts = [s["text"] for s in sorted(stops, key=lambda s: s["lane"])]
            found.verdicts = [facts["verdict"] for facts in shown["facts"]]
        return found

    async def close(self) -> None:
        """Closes the page: its connections break off."""
        if self._alive:
            self._alive.cancel()
            await asyncio.wait([self._alive])

    async def _stay(self) -> None:
        async with self._client.stream("GET", f"{API}/heartbeat/{self._session}") as answer:
            async for _ in answer.aiter_lines():
                pass

    async def _call(self, event: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """An event of the page: yields what the server says of it, up to its end."""
        asked = {
            "data": [self._held.get(id) for id in event["inputs"]],
            "fn_index": event["id"],
            "session_hash": self._session,
            "trigger_id": None,
            "event_data": None,
        }
        joined = await self._client.post(f"{API}/queue/join", json=asked)
        if joined.status_code != 200:
            output = {"error": joined.text}
            yield {"msg": "process_completed", "success": False, "output": output}
            return
        yield {"msg": "joined"}
        query = {"session_hash": self._session}
        async with self._client.stream("GET", f"{API}/queue/data", params=query) as answer:
            async for line in answer.aiter_lines():
                self.received.append(line)
                if line.startswith("data:"):
                    message = json.loads(line[5:])
                    yield message
                    if message["msg"] in ("process_completed", "close_stream"):
                        self._take(event, message)
                        return

    def _take(self, event: dict[str, Any], message: dict[str, Any]) -> None:
        """Puts what an event has changed into the form, as the page does."""
        data = (message.get("output") or {}).get("data") or []
        for id, value in zip(event["outputs"], data, strict=False):
            update = isinstance(value, dict) and value.get("__type__") == "update"
            if not update or "value" in value:
                self._held[id] = value["value"] if update else value


def _grown(seen: list[Any], data: list[Any]) -> list[Any]:
    """The outputs: the first message has them whole, later ones what is new."""
    if not seen:
        return data
    return [apply_diff(old, diff) for old, diff in zip(seen, data, strict=True)]
