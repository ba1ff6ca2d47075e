"""The files of the browser's side, and how the page loads them."""

from __future__ import annotations

from pathlib import Path

from . import vocabulary

PAGE = Path(__file__).resolve().parents[2] / "assets" / "page"
SCRIPTS = (
    *("base/text", "base/dom", "base/tabs", "base/prefs", "base/glossary", "base/ribbon"),
    *("trace/fold", "trace/sentences", "share/svg_export", "share/share"),
    *("race/token_card", "race/race", "race/lane_table", "charts/figures", "charts/chart"),
    *("views/step", "views/backends", "views/same_text", "views/ledger", "views/provenance"),
    *("tour/stops", "tour/tour", "stage/strip", "stage/cursor", "stage/facts", "stage/legend"),
    *("stage/stage", "stage/preflight", "stage/guessers", "stage/connection", "stage/mounts"),
)
"""The browser's side, in the order in which it is loaded (assets/page)."""
STYLES = ("stage", "views", "charts", "keep", "craft")
"""Its style sheets, in ``styles/``."""


def url(path: Path) -> str:
    """Where gradio serves a static file, under whatever path the app is mounted."""
    return f"gradio_api/file={path.as_posix()}"


def scripts() -> str:
    """The tags that load the stage, in order, and anew when a file has changed; before them the
    words that it shares with Python."""
    return "".join([f"<script>{vocabulary.script()}</script>", *map(_tag, SCRIPTS)])


def head() -> str:
    """The tag of what must be there before gradio's own scripts."""
    return _tag("base/queue")


def _tag(name: str) -> str:
    path = PAGE / f"{name}.js"
    return f'<script src="{url(path)}?{path.stat().st_mtime_ns:x}"></script>'
