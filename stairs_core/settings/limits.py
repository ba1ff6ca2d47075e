"""What a host allows its visitors, and all else that it sets by environment variables. Standard
library only.

Each field of ``Limits`` is set by the environment variable ``STAIRS_`` + its name in capitals.
The command line has no such limits: it runs on the user's own machine.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..errors import InputError
from . import address

_ON, _OFF = ("1", "on", "true", "yes"), ("0", "off", "false", "no")


@dataclass(frozen=True)
class Limits:
    """What a host allows, with defaults that are safe on a public Space. See ``SAYS``."""

    max_tokens: int = 512
    max_prompt: int = 20_000
    run_seconds: float = 300.0
    visitor_seconds: float = 1800.0
    visitor_requests: int = 120
    visitor_queue: int = 8
    queue: int = 64
    runs: int = 1
    memory_gb: float = 0.0
    upload_mb: float = 100.0
    uploads: bool = True
    api: bool = True
    mcp: bool = False
    metrics: bool = False
    json_logs: bool = False

    def check(self, prompt: str, tokens: int) -> None:
        """Raises InputError for a run that is larger than the host allows. ``prompt``: all that
        the models read; ``tokens``: to be written by a lane."""
        if tokens > self.max_tokens:
            raise InputError(
                f"A lane writes {self.max_tokens} tokens at most on this page, and {tokens} were "
                "asked for: choose fewer new tokens."
            )
        if 0 < self.max_prompt < len(prompt):
            raise InputError(
                f"The prompt has {len(prompt)} characters, and {self.max_prompt} are the most on "
                "this page: shorten it."
            )


AT_HOME = {
    "max_prompt": 0,
    "run_seconds": 0.0,
    "visitor_seconds": 0.0,
    "visitor_requests": 0,
    "visitor_queue": 0,
}
"""Other defaults where the page is its owner's alone: see ``address.is_public``."""
SAYS = {
    "max_tokens": "new tokens of a lane, at most",
    "max_prompt": "characters of a prompt, at most",
    "run_seconds": "seconds that a run takes, all its lanes together, at most",
    "visitor_seconds": "seconds of runs that a visitor has in an hour",
    "visitor_requests": "runs, loads and opened files that a visitor may ask for in a minute",
    "visitor_queue": "runs of a visitor that wait for their turn, at most; of all, half the queue",
    "queue": "requests that wait for their turn, at most",
    "runs": "runs at once on a device, which take turns, a step each",
    "memory_gb": "GB that all loaded models take, at most; 0: what the machine has",
    "upload_mb": "MB of a file that a visitor opens, at most",
    "uploads": "whether visitors may open files of their own",
    "api": "whether programs may call the endpoints run and race",
    "mcp": "whether these are tools of an MCP server, too",
    "metrics": "whether /metrics is served, for Prometheus",
    "json_logs": "whether the log is JSON, an object a line",
}
OTHERS = {
    "STAIRS_PAIR": ("the pair that the page starts with, as `--pair` takes it", "bundled"),
    "STAIRS_MODELS": (
        "what else visitors may load: `bundled` (nothing; always so on ZeroGPU), `presets` (those "
        "by name), `hub` (ids of the hub, too) or `any` (this machine's folders, too)",
        ("presets", "any"),
    ),
    "STAIRS_CACHE": ("the folder of what was fetched or unpacked", "~/.cache/stairs"),
    "STAIRS_DEBUG": ("1: libraries print what they like, and failures their tracebacks", "0"),
    "HOST": ("the address that the page is served at", ("0.0.0.0", "127.0.0.1")),  # noqa: S104
    "PORT": ("its port", "7860"),
    "GRADIO_SERVER_NAME": ("in place of HOST", "-"),
    "GRADIO_SERVER_PORT": ("in place of PORT", "-"),
    "OMP_NUM_THREADS": ("the threads that compute", "every core but one"),
}
"""What else the environment sets: what it is; its default, or those on a Space and elsewhere."""
_MAY_BE_ZERO = ("memory_gb", *AT_HOME)


def variable(name: str) -> str:
    """The environment variable of a field."""
    return f"STAIRS_{name.upper()}"


def read(environment: Mapping[str, str]) -> Limits:
    """The limits that the environment sets. Raises InputError for a value that is none."""
    set_: dict[str, Any] = {} if address.is_public(environment) else {**AT_HOME}
    for field in fields(Limits):
        told = environment.get(variable(field.name), "").strip()
        if told:
            set_[field.name] = _value(field.name, type(field.default), told)
    return Limits(**set_)


def table() -> list[tuple[str, str, str, str]]:
    """Rows for people: a variable, what it sets, its defaults on a Space and at home."""
    rows = []
    for name, (says, usual) in OTHERS.items():
        space, elsewhere = (usual, usual) if isinstance(usual, str) else usual
        rows.append((name, says, space, elsewhere))
    public, own = read({"SPACE_ID": "some/space"}), read({})
    for name, says in SAYS.items():
        space, elsewhere = (_shown(name, getattr(limits, name)) for limits in (public, own))
        rows.append((variable(name), says, space, elsewhere))
    return rows


def line(limits: Limits, environment: Mapping[str, str]) -> str:
    """One line for the log: the limits in force, and which of them the environment sets."""
    shown = {name: _shown(name, getattr(limits, name)) for name in SAYS}
    inside = ", ".join(f"{name} {value}" for name, value in shown.items() if value != "none")
    set_ = [variable(name) for name in SAYS if environment.get(variable(name), "").strip()]
    named = ", ".join(set_) or "none"
    return f"Limits: {inside}. Set here: {named}; stairs_core/web/README.md has them all."


def _shown(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if not value:
        return "the machine's" if name == "memory_gb" else "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


@functools.cache
def current() -> Limits:
    """This process's limits, read once. Raises InputError."""
    return read(os.environ)


def _value(name: str, kind: type, told: str) -> Any:
    if kind is bool:
        if told.lower() not in (*_ON, *_OFF):
            raise InputError(f"{variable(name)} is {told!r}: it must be on or off.")
        return told.lower() in _ON
    try:
        value = kind(told)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0 or (value == 0 and name not in _MAY_BE_ZERO):
        what = "a whole number" if kind is int else "a number"
        least = "of 0 (no limit) or more" if name in _MAY_BE_ZERO else "above 0"
        raise InputError(f"{variable(name)} is {told!r}: it must be {what} {least}.")
    return value
