"""Commands that look at a trace or at a machine: ``stairs show`` and ``stairs preflight``."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import InputError
from ..importing import importing
from ..render import preflight_card
from ..render.terminal import trace
from ..settings.settings import Settings
from ..traces.files import MAX_BYTES, open_any
from ..traces.records import Recording
from .console import drafting, fitted, load, paint, progress

_STDIN = "standard input"


def show(args: argparse.Namespace) -> int:
    _check_html(args)
    recordings = _opened(args.file)
    name = _STDIN if args.file == "-" else Path(args.file).name
    if args.html is not None:
        from ..web import replay  # imported here: it loads plotly

        replay.write(args.html, recordings, name)
        return 0
    if args.step is not None and not any(r.steps for r in recordings):
        raise InputError(f"{name} has no steps: it was stopped before the first, leave out --step.")
    columns = shutil.get_terminal_size().columns
    color = paint().color and not args.no_color
    print(trace.draw(recordings, columns, color=color, step=args.step), end="")
    return 0


def _check_html(args: argparse.Namespace) -> None:
    if args.html is None:
        return
    if args.step is not None:
        raise InputError("--html writes every step: leave out --step, or --html.")
    if args.html == "-":
        raise InputError("--html - is no file: name one, such as replay.html.")
    same = False
    with suppress(OSError, ValueError):  # one of them is not there
        same = os.path.samefile(args.file, args.html)
    if same:
        raise InputError(f"{args.html} is the trace itself: name another file for --html.")


def _opened(file: str) -> list[Recording]:
    """The lanes of a trace or a log, which may come in by a pipe ("-")."""
    if file != "-":
        return open_any(file)
    with TemporaryDirectory() as folder:
        copy = Path(folder, _STDIN)
        copy.write_bytes(sys.stdin.buffer.read(MAX_BYTES + 1))
        return open_any(copy)


def preflight(args: argparse.Namespace) -> int:
    args.named = args.drafter is not None
    settings = Settings(
        args.drafter if args.named else "model",
        backend=args.backend,
        numerics=args.numerics,
        **drafting(args.k, None),
    )
    progress("Loading the models")
    try:
        with importing():
            from ..measuring.preflight import preflight as prepare

        pair = load(args)
        progress("Measuring passes")
        found = prepare(pair, fitted(settings, pair, args))
    finally:
        progress("")
    print(
        json.dumps(asdict(found), allow_nan=False)
        if args.json
        else "\n".join(preflight_card.lines(found, paint()))
    )
    return 0
