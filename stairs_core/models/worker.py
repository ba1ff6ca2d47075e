"""Work in a process of its own, which can be stopped at once: downloads, conversions.

Only killing a process stops at once what waits for a network, or a library that calls nothing back.
The process writes lines of JSON to stdout: facts on its progress, and at the end what came of it,
or why it was ``refused``, in one sentence. Standard library only.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from .. import own_process
from ..errors import InputError

Say = Callable[[str], object]
"""Called with a sentence on the progress; an exception that it raises stops the work."""

_LOOK = 0.1


def run(
    module: str,
    arguments: list[str],
    say: Say,
    words: Callable[[Mapping[str, Any]], str],
    failed: str,
    environment: Mapping[str, str] | None = None,
    stopped: Callable[[], object] = bool,
) -> dict[str, Any]:
    """Runs ``python -m stairs_core.models.MODULE`` to its end; returns all facts that it told.

    ``words``: what to say, from the facts so far. An exception from ``say`` kills the process;
    ``stopped`` is called then.
    Raises InputError with the reason that it told or, where it told none, ``failed``.
    """
    process = _start(module, arguments, environment or {})
    facts: dict[str, Any] = {}
    listening = threading.Thread(target=_listen, args=(process, facts), daemon=True)
    listening.start()
    try:
        while process.poll() is None:
            say(words(facts))
            time.sleep(_LOOK)
    finally:
        killed = process.poll() is None
        process.kill()
        process.wait()
        listening.join()
        if killed:
            stopped()
    if process.returncode or "refused" in facts:
        raise InputError(facts.get("refused", failed))
    return facts


def tell(**facts: Any) -> None:
    """In the process: tells facts to the one that started it. Ends where nobody listens."""
    try:
        print(json.dumps(facts), flush=True)
    except BrokenPipeError:
        os._exit(1)


def _start(
    module: str, arguments: list[str], environment: Mapping[str, str]
) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 (our own module; no shell reads the arguments)
        own_process.command(f"stairs_core.models.{module}", *arguments),
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=None if os.environ.get("STAIRS_DEBUG") == "1" else subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C reaches only this process, which then kills it
        text=True,
        encoding="utf-8",
    )


def _listen(process: subprocess.Popen[str], facts: dict[str, Any]) -> None:
    """Merges the process's lines of JSON into ``facts``. Other lines are a library's."""
    with process.stdout or open(os.devnull) as lines:
        for line in lines:
            with suppress(ValueError):
                if isinstance(told := json.loads(line), dict):
                    facts.update(told)
