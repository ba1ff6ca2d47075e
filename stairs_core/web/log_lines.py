"""The log of the page's server: a line an event, for people or as JSON. Standard library only.

An event has a name and facts: numbers, and names that the program knows. What a visitor wrote, or
a model wrote for them, is never among them.
"""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone
from typing import Any

_log = logging.getLogger("stairs")


def start(as_json: bool) -> None:
    """From here on, events and failures are written to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLine() if as_json else Line())
    _log.handlers = [handler]
    _log.setLevel(logging.INFO)
    _log.propagate = False


def event(name: str, **facts: Any) -> None:
    """Writes what has happened. A fact that is None is left out."""
    known = {key: value for key, value in facts.items() if value is not None}
    _log.info(name, extra={"facts": known})


class Line(logging.Formatter):
    """Time, level, name, then ``key=value`` for each fact; a traceback on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        facts = getattr(record, "facts", {})
        told = [f"{key}={_plain(value)}" for key, value in facts.items()]
        return " ".join([super().formatMessage(record), *told])


class JsonLine(logging.Formatter):
    """An object: ``time``, ``level`` and ``event``, the facts, and the traceback as ``error``."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, timezone.utc).isoformat("T", "milliseconds")
        told = {"time": time, "level": record.levelname.lower(), "event": record.getMessage()}
        told |= getattr(record, "facts", {})
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


def _plain(value: Any) -> str:
    told = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return " ".join(told.split())
