"""The log of the page's server: a line an event, for people or as JSON. Standard library only.

An event has a name and facts: numbers, and names that the program knows. What a visitor wrote, or
a model wrote for them, is never among them.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from datetime import datetime, timezone
from typing import Any

_log = logging.getLogger("stairs")
_print_exc = traceback.print_exc


def start(as_json: bool) -> None:
    """From here on, events and failures are written to stderr. ``as_json``: so are those that
    libraries write, to their loggers or past them."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLine() if as_json else Line())
    _log.handlers = [handler]
    _log.setLevel(logging.INFO)
    _log.propagate = False
    if as_json:
        handler = logging.StreamHandler()
        handler.setFormatter(JsonLine())
        handler.setLevel(logging.WARNING)
        logging.getLogger().handlers = [handler]
        traceback.print_exc = _told  # gradio's way to say what failed
        sys.excepthook = lambda *found: _log.critical("not caught", exc_info=found)
        threading.excepthook = lambda found: _log.error("not caught", exc_info=found.exc_value)


def _told(limit: Any = None, file: Any = None, chain: bool = True) -> None:
    """``traceback.print_exc``, in the log where no other file is named."""
    if file is None:
        _log.error("failed", exc_info=True)
    else:
        _print_exc(limit, file, chain)


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
