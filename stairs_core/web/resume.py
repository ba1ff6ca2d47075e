"""What a page hands over when it opens anew because its server was gone: the form, the run on show.

The page that was open keeps it in the browser (assets/page/stage/connection.js).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast, get_args

from ..errors import InputError
from ..render.summary import Kind
from ..traces import files
from ..traces.records import Recording
from . import permalinks

KEPT = "kept="
"""What such a hand-over starts with, in the place of the address behind its #."""
_NAME = "The run that was on show"


@dataclass(frozen=True)
class Kept:
    """``form``: values of widgets, by name. ``pair``: the spec of the pair in use, "" for the
    page's own. ``files``: whether reference files were added, which are gone. ``lanes``: of the
    run on show, none where there is none; ``kind`` and ``name``: as ``summary.source`` takes them.
    """

    form: dict[str, Any]
    pair: str
    files: bool
    lanes: list[Recording]
    kind: Kind
    name: str


def read(text: str) -> Kept:
    """What was kept, from what comes after ``KEPT``. Raises InputError where it is damaged."""
    try:
        raw = json.loads(text)
        held, run = raw["held"], raw.get("run") or {}
        kind, name, trace = run.get("kind"), run.get("name"), run.get("trace")
        form, pair = permalinks.checked(held), held.get("preset")
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as e:
        raise InputError("What the page had kept is damaged: begin anew.") from e
    lanes = files.loads(trace, _NAME) if isinstance(trace, str) and trace.strip() else []
    return Kept(
        form,
        pair if isinstance(pair, str) else "",
        bool(held.get("files")),
        lanes,
        cast(Kind, kind) if kind in get_args(Kind) else "file",
        name[:300] if isinstance(name, str) else "",
    )
