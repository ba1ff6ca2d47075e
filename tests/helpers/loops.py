"""Coroutines that are run in tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def alone(function: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What it returns, from a loop in a thread of its own: the test's may have a browser's."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(function())).result()
