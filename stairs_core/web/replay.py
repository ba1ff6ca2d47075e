"""A replay: a recording as one HTML file that holds the stage's scripts; no server, no network.

Plotly is larger than all the rest and left out: ``Stairs.mountReplay`` shows tables of the same
numbers instead of charts.
"""

from __future__ import annotations

import html as markup
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..render.terminal.text import visible
from ..traces import files
from ..traces.records import Recording
from . import page_files, stage_value, vocabulary
from .page_files import PAGE

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"
)
_BODY = """
body { margin: 0; background: var(--st-bg); color: var(--st-ink); }
body { font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1400px; margin: 0 auto; padding: 14px 20px 40px; }
noscript pre { white-space: pre-wrap; overflow-wrap: anywhere; }
"""
# Runs before anything is drawn, and again when the system changes between light and dark.
_THEME = """
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.body.classList.toggle("dark", dark.matches);
dark.addEventListener("change", follow);
follow();
"""
_MOUNT = 'Stairs.mountReplay(document.getElementById("stage"), {});'


def html(recordings: Sequence[Recording], title: str) -> str:
    """The text of the file. ``title``: the recording's name, in the tab and on the page."""
    value = stage_value.value("replay", recordings, "recorded", title)
    scripts = [(PAGE / f"{name}.js").read_text(encoding="utf-8") for name in page_files.SCRIPTS]
    scripts.insert(0, vocabulary.script())
    styles = [
        (PAGE / f"styles/{name}.css").read_text(encoding="utf-8") for name in page_files.STYLES
    ]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_words(title)} · Stairs</title>",
            f"<style>{_inside(''.join(styles))}{_BODY}</style>",
            "</head>",
            "<body>",
            f"<script>{_THEME}</script>",
            f'<main><div id="stage"></div><noscript>{_plain(recordings)}</noscript></main>',
            *(f"<script>\n{_inside(script)}</script>" for script in scripts),
            f"<script>{_MOUNT.format(_json(value))}</script>",
            "</body>",
            "</html>",
            "",
        ]
    )


def write(path: str | Path, recordings: Sequence[Recording], title: str) -> None:
    """Writes the file, whole or not at all. Raises InputError, in one sentence, if it cannot."""
    files.write_whole(path, html(recordings, title).encode("utf-8"), "replay")


def _json(value: Any) -> str:
    """``value`` as JavaScript for a script element: ASCII, and nothing that could end it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _inside(code: str) -> str:
    """Our own scripts or styles, escaped so that nothing in them ends their element."""
    return code.replace("</", "<\\/").replace("<!--", "<\\!--")


def _plain(recordings: Sequence[Recording]) -> str:
    """What a browser without scripts shows: the text of every lane."""
    html = ["<p>This replay needs JavaScript; below is the text that was written.</p>"]
    for recording in recordings:
        run = recording.run
        apart = "\n" if run.encoded else ""
        text = visible(f"{run.prompt}{apart}{recording.stop.text}", "\n")
        html.append(f"<h2>{_words(run.name)}</h2><pre>{markup.escape(text)}</pre>")
    return "".join(html)


def _words(text: str) -> str:
    return markup.escape(visible(text))
