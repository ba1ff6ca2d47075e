"""A recording as one HTML file: the stage's own code in it, no server, no network.

The library that draws figures is larger than all the rest, and left out: ``Stairs.mountReplay``
shows what they would show as tables.
"""

from __future__ import annotations

import contextlib
import html as markup
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..trace import Recording
from . import page
from .cells import visible

PAGE = Path(__file__).resolve().parent.parent.parent / "assets" / "page"
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"
)
_BODY = """
body { margin: 0; background: var(--st-bg); color: var(--st-ink); }
body { font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1400px; margin: 0 auto; padding: 14px 20px 40px; }
noscript pre { white-space: pre-wrap; overflow-wrap: anywhere; }
"""
# Before anything is drawn, and whenever the visitor's system changes its mind.
_THEME = """
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.body.classList.toggle("dark", dark.matches);
dark.addEventListener("change", follow);
follow();
"""
_MOUNT = 'Stairs.mountReplay(document.getElementById("stage"), {});'


def html(recordings: Sequence[Recording], title: str) -> str:
    """The file. ``title``: what the recording is called, in the tab and on the page."""
    value = page.value("replay", recordings, "recorded", title)
    scripts = [(PAGE / f"{name}.js").read_text(encoding="utf-8") for name in page.SCRIPTS]
    styles = [(PAGE / f"{name}.css").read_text(encoding="utf-8") for name in page.STYLES]
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
    """Whole or not at all. Raises InputError, in one sentence, where it cannot be written."""
    path, data = Path(path), html(recordings, title).encode("utf-8")
    part = path.parent / f".stairs-replay-{os.getpid()}"
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as e:
        with contextlib.suppress(OSError):
            part.unlink()
        raise InputError(f"The replay cannot be written to {path}: {e.strerror}.") from e


def _json(value: Any) -> str:
    """JavaScript that can stand in a script element: ASCII, and nothing that could end it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _inside(code: str) -> str:
    """Our own code, in an element that its own words must not end."""
    return code.replace("</", "<\\/").replace("<!--", "<\\!--")


def _plain(recordings: Sequence[Recording]) -> str:
    """What there is to read without scripts: the text of every lane."""
    said = ["<p>This replay needs JavaScript; below is the text that was written.</p>"]
    for recording in recordings:
        run = recording.run
        apart = "\n" if run.encoded else ""
        text = visible(f"{run.prompt}{apart}{recording.stop.text}", "\n")
        said.append(f"<h2>{_words(run.name)}</h2><pre>{markup.escape(text)}</pre>")
    return "".join(said)


def _words(text: str) -> str:
    return markup.escape(visible(text))
