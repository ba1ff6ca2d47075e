"""What a visitor may take home of a run: its address, its settings, the code that repeats it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from ..trace import Recording
from . import links, snippets
from .facts import Kind


def keep(lanes: Sequence[Recording], kind: Kind, name: str) -> dict[str, Any]:
    """For a run that is over. ``address``: what follows the # (see ``links``), "" where the run is
    too long for one; ``live``: whether the address bar may hold it while it is looked at."""
    recorded = kind == "recorded"
    packed = None if recorded else links.pack(lanes)
    address = (
        f"run={quote(name, errors='replace')}" if recorded else f"trace={packed}" if packed else ""
    )
    runs = [lane.run for lane in lanes]
    settings = "" if runs[0].engine else links.pack_settings(links.settings_of(runs[0], runs[1:]))
    return {
        "address": address,
        "live": recorded,
        "settings": settings and f"settings={settings}",
        "snippets": [snippets.snippets(run) for run in runs],
    }
