"""Fills in chat templates of models that nobody vouches for, within bounds of time and memory.

A chat template is a program. The sandbox of jinja keeps it from the machine, but not from going on
for ever, or from doubling a text until memory is full; and what runs in a thread cannot be ended.
So these templates are filled in by a process of their own, which is killed where its time is up.
It is started for the first of them, and stays.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import threading
import weakref
from collections.abc import Mapping
from typing import Any

from .. import own_process
from ..errors import InputError

SECONDS = 5.0
"""What a template may take."""
_START = 120.0
"""Seconds that the process may take to be there: a busy machine is slow."""
_FILLED_IN = "{{ filled_in }}"
"""A template that writes what has been filled in already."""

_strange: weakref.WeakSet = weakref.WeakSet()
_lock = threading.Lock()
_running: list[_Process] = []


def distrust(*tokenizers: Any) -> None:
    """From here on, the templates of these tokenizers are filled in within bounds."""
    _strange.update(one for one in tokenizers if one is not None)


def apply(tokenizer: Any, chat: list[dict[str, str]], **options: Any) -> Any:
    """``tokenizer.apply_chat_template(chat, **options)``, within bounds where it is distrusted.

    Raises InputError for a template that would not end, RuntimeError for one that fails, and
    whatever a trusted one raises.
    """
    if tokenizer not in _strange:
        return tokenizer.apply_chat_template(chat, **options)
    own = {"tokenize", "return_dict"}
    asked = {name: value for name, value in options.items() if name not in own}
    asked["chat_template"] = tokenizer.get_chat_template(None, options.get("tools"))
    text = _fill_in({**tokenizer.special_tokens_map, **asked, "conversation": chat})
    ours = {name: value for name, value in options.items() if name in own}
    # The tokenizer's own way from a text to ids.
    return tokenizer.apply_chat_template(chat, chat_template=_FILLED_IN, filled_in=text, **ours)


def _fill_in(asked: Mapping[str, Any]) -> str:
    with _lock:
        if not _running:
            _running.append(_Process())
        try:
            answer = _running[0].ask({**asked, "seconds": SECONDS})
        except BaseException:
            _running.pop().kill()
            raise
    if "failed" in answer:
        raise RuntimeError(answer["failed"])
    return answer["text"]


class _Process:
    """``template_process``, running. Raises InputError where it cannot be started."""

    def __init__(self) -> None:
        one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(  # noqa: S603 (our own module, and no arguments)
            own_process.command("stairs_core.text.template_process"),
            env=os.environ | one,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches this process alone, at whose end it ends
            text=True,
            encoding="utf-8",
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        self._next(_START, "could not be filled in: its process does not start")

    def ask(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(asked, default=str) + "\n")
            self._process.stdin.flush()
        took = f"was stopped, since it took more than {SECONDS:.0f} seconds or too much memory"
        return self._next(SECONDS, took)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError, ValueError):
                if pipe:
                    pipe.close()

    def _next(self, seconds: float, lacking: str) -> dict[str, Any]:
        """Its next answer. Raises InputError, with what is ``lacking``, where none comes."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            line = ""
        if not line:
            self.kill()
            raise InputError(
                f"The model's chat template {lacking}: switch chat off, or load another model."
            )
        return json.loads(line)

    def _listen(self) -> None:
        """Passes on its lines, and "" at its end."""
        with contextlib.suppress(OSError, ValueError):
            for line in self._process.stdout or ():
                self._lines.put(line)
        self._lines.put("")
