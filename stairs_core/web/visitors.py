"""What each visitor has had of the page of late, and who that is. Imports no torch, no gradio.

A visitor is a client's address: sessions are new with every reload, and free to be made up. Who
share an address (a school, a company) share what it is given.
"""

from __future__ import annotations

import functools
import ipaddress
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import InputError
from ..settings import limits
from ..settings.limits import Limits

_MINUTE, _HOUR = 60.0, 3600.0
_MANY = 1000
"""Visitors who are remembered before those of whom nothing is left to remember are dropped."""


@dataclass
class _Had:
    """Moments of requests in the last minute; moments and lengths of runs in the last hour."""

    requests: deque[float] = field(default_factory=deque)
    runs: deque[tuple[float, float]] = field(default_factory=deque)

    def forget(self, now: float) -> None:
        while self.requests and self.requests[0] <= now - _MINUTE:
            self.requests.popleft()
        while self.runs and self.runs[0][0] <= now - _HOUR:
            self.runs.popleft()


class Visitors:
    """Counts requests and seconds of runs by visitor, within ``allowed``."""

    def __init__(self, allowed: Limits, now: Callable[[], float] = time.monotonic) -> None:
        self._allowed, self._now = allowed, now
        self._lock = threading.Lock()
        self._had: dict[str, _Had] = {}

    def admit(self, who: str) -> None:
        """Counts a request. Raises InputError where the visitor has had all of this minute."""
        most = self._allowed.visitor_requests
        if not most:
            return
        with self._lock:
            had, now = self._of(who), self._now()
            if len(had.requests) >= most:
                wait = math.ceil(had.requests[0] + _MINUTE - now)
                raise InputError(
                    f"This page takes {most} requests a minute from one address: try again in "
                    f"{_seconds(wait)}."
                )
            had.requests.append(now)

    def seconds(self, who: str) -> float:
        """How long the visitor's next run may take, in seconds; 0 without a limit. Raises
        InputError where the visitor has had all seconds of this hour."""
        run, hour = self._allowed.run_seconds, self._allowed.visitor_seconds
        if not hour:
            return run
        with self._lock:
            had = self._of(who)
            left = hour - sum(seconds for _, seconds in had.runs)
            if left <= 0:
                wait = math.ceil(had.runs[0][0] + _HOUR - self._now())
                raise InputError(
                    f"This page gives one address {_seconds(hour)} of runs an hour, and yours has "
                    f"had them: run again in {_seconds(wait)}, or run Stairs yourself."
                )
        return min(left, run or left)

    def charge(self, who: str, seconds: float) -> None:
        """Counts a run that took so long."""
        if self._allowed.visitor_seconds:
            with self._lock:
                self._of(who).runs.append((self._now(), seconds))

    def _of(self, who: str) -> _Had:
        now = self._now()
        if len(self._had) > _MANY:
            for had in self._had.values():
                had.forget(now)
            self._had = {w: had for w, had in self._had.items() if had.requests or had.runs}
        had = self._had.setdefault(who, _Had())
        had.forget(now)
        return had


@functools.cache
def current() -> Visitors:
    """The visitors of this process, within its limits."""
    return Visitors(limits.current())


def address(host: str, forwarded: str) -> str:
    """Whose address a request comes from. ``host``: who connected; ``forwarded``: the request's
    header X-Forwarded-For.

    On a Space, who connects is the host's proxy, which adds the address that it was called from at
    the end of that header: so it is the last public one there, and what stands before it may be
    made up. Elsewhere anybody can send such a header, so it counts for nothing. (Where uvicorn
    trusts a proxy, ``host`` is already what that one says.)
    """
    known = [host]
    if "SPACE_ID" in os.environ:
        known += forwarded.split(",")
    found = [parsed for word in known if (parsed := _parsed(word.strip()))]
    public = [one for one in found if one.is_global]
    if not public:
        return str(found[-1]) if found else host
    one = public[-1]
    # A household has a whole /64 of IPv6.
    return str(ipaddress.ip_network((one, 64), strict=False)) if one.version == 6 else str(one)


def _parsed(word: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(word)
    except ValueError:
        return None


def _seconds(seconds: float) -> str:
    """A length of time in words.

    >>> _seconds(1), _seconds(90), _seconds(1800)
    ('1 second', '90 seconds', '30 minutes')
    """
    if seconds > 120:
        return f"{math.ceil(seconds / 60)} minutes"
    return f"{seconds:.0f} second{'s' * (seconds != 1)}"
