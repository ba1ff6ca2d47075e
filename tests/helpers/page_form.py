"""What the page's widgets hold when it has just been opened."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from stairs_core.web import widgets
from stairs_core.web.widgets import Widget

VISITOR = "a visitor"


def _values(inside: Iterable[Widget]) -> Iterator[tuple[str, Any]]:
    for widget in inside:
        usual = False if widget.kind == "Checkbox" else None
        yield widget.name, widget.options.get("value", usual)
        yield from _values(widget.inside)


def asking(visitor: str = VISITOR, **changes: Any) -> dict[str, Any]:
    """What a handler is asked by somebody who has just opened the page, but for ``changes``."""
    held = dict(_values(widgets.layout([], {})))
    return {**held, "prompt": "Once upon a time", "spec": "", "visitor": visitor, **changes}


def said(updates: Iterable[dict[str, Any]]) -> str:
    """The last notice of a handler's updates."""
    return [update["notice"]["text"] for update in updates if "notice" in update][-1]


def last(updates: list[dict[str, Any]], name: str) -> Any:
    """The last value of a component in what a handler yielded."""
    return [u[name] for u in updates if name in u][-1]
