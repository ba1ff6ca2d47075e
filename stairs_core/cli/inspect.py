"""Commands that look at a trace or at a machine: ``stairs show`` and ``stairs preflight``."""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path

from ..importing import importing
from ..render import preflight_card
from ..render.terminal import trace
from ..settings.settings import Settings
from ..traces.files import open_any
from .console import drafting, fitted, load, paint, progress


def show(args: argparse.Namespace) -> int:
    recordings = open_any(args.file)
    if args.html is not None:
        from ..web import replay  # imported here: it loads plotly

        replay.write(args.html, recordings, Path(args.file).name)
        return 0
    columns = shutil.get_terminal_size().columns
    color = paint().color and not args.no_color
    print(trace.draw(recordings, columns, color=color, step=args.step), end="")
    return 0


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
