"""Permalinks, and what else the page offers to take along of a run: settings, code that repeats it.

A permalink is what follows the # of the page's address, which browsers send to no server.

The grammar, which assets/page reads and writes too:

- ``#trace=<packed>``: the lanes themselves (``pack``).
- ``#run=<name>``: a recorded run that comes with the page, percent-encoded.
- ``#settings=<packed>``: what the widgets hold: base64url without ``=`` of a JSON object in UTF-8
  (``settings_of``, and ``checked`` for what comes in).

Each may be followed by ``&step=17``, counted from 1, and ``&view=ledger``; other parts are ignored.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote

from ..errors import InputError
from ..render import snippets
from ..render.labels import BACKENDS
from ..render.summary import Kind
from ..settings.methods import REGISTRY
from ..settings.settings import AUTO, option_words
from ..traces import files
from ..traces.records import Recording, Run
from . import form

MOST = 24_000
"""The most characters of what is packed: as long a link as browsers, mailers and chats leave whole.
"""

_NAME = "The trace in the link"


def keep(lanes: Sequence[Recording], kind: Kind, name: str) -> dict[str, Any]:
    """What the page offers to take along of a run that is over, ``kind`` of source and ``name``.

    ``address``: what follows the #, "" where the run is too long for one; ``live``: whether the
    address bar may hold it while the run is looked at; ``settings``: what follows the # to ask for
    the run again, "" for another engine's log and for what is too long for a link; ``snippets``:
    code, for every lane.
    """
    recorded = kind == "recorded"
    packed = None if recorded else pack(lanes)
    address = (
        f"run={quote(name, errors='replace')}" if recorded else f"trace={packed}" if packed else ""
    )
    runs = [lane.run for lane in lanes]
    settings = "" if runs[0].engine else pack_settings(settings_of(runs[0], runs[1:]))
    return {
        "address": address,
        "live": recorded,
        "settings": settings and f"settings={settings}",
        "snippets": [snippets.snippets(run) for run in runs],
    }


def pack(recordings: Sequence[Recording]) -> str | None:
    """base64url without ``=`` of the zlib-compressed trace file; None if longer than ``MOST``."""
    data = files.dumps(recordings).encode("utf-8", "backslashreplace")
    packed = base64.urlsafe_b64encode(zlib.compress(data, 9)).decode().rstrip("=")
    return packed if len(packed) <= MOST else None


def unpack(text: str) -> list[Recording]:
    """The lanes in ``pack``'s text. Raises InputError, in one sentence, for anything else."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", text):
        raise InputError(f"{_NAME} is damaged: copy the whole link again.")
    stream = zlib.decompressobj()
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        data = stream.decompress(raw, files.MAX_BYTES + 1)
    except (binascii.Error, zlib.error) as e:
        raise InputError(f"{_NAME} is damaged: copy the whole link again.") from e
    if len(data) > files.MAX_BYTES:
        raise InputError(f"{_NAME} unpacks to more than {files.MAX_BYTES >> 20} MB.")
    if not stream.eof or stream.unused_data:
        raise InputError(f"{_NAME} is cut off: copy the whole link again.")
    return files.decode(data, _NAME)


def settings_of(run: Run, others: Sequence[Run]) -> dict[str, Any]:
    """Values of the widgets, by name, that ask for the same race again.

    ``run`` and ``others`` in the order of their lanes. Reference texts are not in a trace, and so
    not in here.
    """
    guessing = [lane for lane in (run, *others) if lane.drafter != "none"][: len(form.GUESSERS)]
    one = guessing[0] if guessing else run
    held: dict[str, Any] = {
        "prompt": one.prompt,
        "length": one.max_new_tokens,
        "chat": one.chat,
        "system": one.system,
        "options": "\n".join(option_words(one.template)),
        **{name: usual for name, (_, _, usual, *_) in form.SAMPLING.items()},
    }
    if one.sampling:
        held |= {name: getattr(one.sampling, name) for name in form.SAMPLING}
        held |= {"seed": one.sampling.seed, "same": one.sampling.rule == "coupled"}
    for i, guesser in enumerate(form.GUESSERS):
        lane = guessing[i] if i < len(guessing) else None
        held[f"drafter{guesser}"] = lane.drafter if lane else None
        if lane:
            strict = lane.numerics == "strict"
            held |= {f"backend{guesser}": lane.backend, f"strict{guesser}": strict}
            auto = lane.length == AUTO["length"]
            held |= {f"auto{guesser}": auto} | ({} if auto else {f"k{guesser}": lane.k})
    return checked(held)


def pack_settings(held: dict[str, Any]) -> str:
    """base64url without ``=`` of the JSON of ``settings_of``; "" if longer than ``MOST``."""
    data = json.dumps(held, ensure_ascii=False).encode("utf-8", "surrogatepass")
    packed = base64.urlsafe_b64encode(data).decode().rstrip("=")
    return packed if len(packed) <= MOST else ""


def unpack_settings(text: str) -> dict[str, Any]:
    """The settings in ``pack_settings``' text, as ``checked`` returns them; characters may be
    escapes of JSON, as they once were. Raises InputError."""
    try:
        held = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        held = None
    return checked(held)


def read(fragment: str) -> tuple[str, str]:
    """The kind of a fragment, without its #, and what it names: ("run", "a lost shoe"). Empty
    strings where it asks for nothing that is known."""
    for part in fragment[: MOST + 200].split("&"):
        kind, _, value = part.partition("=")
        if kind in ("trace", "run", "settings") and value:
            return kind, unquote(value)
    return "", ""


def checked(values: object) -> dict[str, Any]:
    """The values that a link may set: of known widgets, of the right type; others are left out.

    Ranges are for Settings to refuse, in a sentence, when the run is asked for. Raises InputError
    where ``values`` is no object at all.
    """
    if not isinstance(values, dict):
        raise InputError("The settings in the link are damaged: copy the whole link again.")
    return {name: values[name] for name in _KINDS if name in values and _fits(name, values[name])}


_OF_EACH = {"auto": "switch", "strict": "switch", "k": "number", "backend": "backend"}
_KINDS: dict[str, str] = {
    **dict.fromkeys(("prompt", "pasted", "system", "options"), "text"),
    **dict.fromkeys(("chat", "same"), "switch"),
    **{f"{name}{g}": kind for g in form.GUESSERS for name, kind in _OF_EACH.items()},
    **dict.fromkeys(("length", "seed", *form.SAMPLING), "number"),
    **dict.fromkeys(form.DRAFTING, "drafter"),
}
"""By widget, the type of its value in a link: of those that a run is started with, but for files.
"""


def _fits(name: str, value: object) -> bool:
    match _KINDS[name]:
        case "text":
            return isinstance(value, str)
        case "switch":
            return isinstance(value, bool)
        case "backend":
            return isinstance(value, str) and value in BACKENDS
        case "drafter":
            nobody = value is None and name != form.DRAFTING[0]
            return nobody or isinstance(value, str) and value in REGISTRY and value != "none"
        case _:
            if isinstance(value, bool) or not isinstance(value, int | float):
                return False
            return abs(value) <= 2**53  # nor is a NaN
