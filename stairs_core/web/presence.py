"""Which pages are open, by what they say themselves: a proxy may not tell that one was closed.

A page says so every few seconds from when it opens (assets/page/stage/connection.js); in the
background, browsers let it do so once a minute. A program that calls the page's handlers says
nothing, and is never counted as gone.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from uuid import uuid4

PATIENCE = 90.0
"""Seconds without a word after which a page counts as closed."""
PROCESS = uuid4().hex
"""Tells a page whether the server is the one that it was opened with."""
_MOST = 10_000

_lock = threading.Lock()
_heard: OrderedDict[str, float] = OrderedDict()


def here(visitor: object) -> str:
    """Notes that the page of a visitor is open; returns ``PROCESS``."""
    with _lock:
        _heard[str(visitor)[:64]] = time.monotonic()
        _heard.move_to_end(str(visitor)[:64])
        if len(_heard) > _MOST:
            _heard.popitem(last=False)
    return PROCESS


def gone(visitor: str) -> bool:
    """Whether the visitor's page said that it is open, but not in the last ``PATIENCE`` seconds."""
    return time.monotonic() - _heard.get(visitor, math.inf) > PATIENCE


def forget(visitor: str) -> None:
    """Notes that the page has said that it closes."""
    with _lock:
        _heard.pop(visitor, None)
