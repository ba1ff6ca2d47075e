"""Permalinks: what stands behind the # of the page's address, which no server is sent.

The grammar, which assets/page reads and writes too:

- ``#trace=<packed>``: the lanes themselves (``pack``).
- ``#run=<name>``: a recorded run that comes with the page, percent-encoded.
- ``#settings=<packed>``: what the widgets hold: base64url without ``=`` of a JSON object in UTF-8
  (``settings_of``, and ``checked`` for what comes in).

Each may be followed by ``&step=17``, counted from 1, and ``&view=ledger``. What is unknown is let
by.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from .. import tracefile
from ..drafters import REGISTRY
from ..errors import InputError
from ..settings import AUTO, option_words
from ..trace import Recording, Run
from . import lanes
from .words import BACKENDS

MOST = 24_000
"""Characters of a packed trace: what browsers, mailers and chats let pass whole."""

_NAME = "The trace in the link"


def pack(recordings: Sequence[Recording]) -> str | None:
    """base64url without ``=`` of the zlib stream of the trace file; None for more than ``MOST``."""
    data = tracefile.dumps(recordings).encode("utf-8", "backslashreplace")
    packed = base64.urlsafe_b64encode(zlib.compress(data, 9)).decode().rstrip("=")
    return packed if len(packed) <= MOST else None


def unpack(text: str) -> list[Recording]:
    """The lanes in ``pack``'s text. Raises InputError, in one sentence, for anything else."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", text):
        raise InputError(f"{_NAME} is damaged: copy the whole link again.")
    stream = zlib.decompressobj()
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        data = stream.decompress(raw, tracefile.MAX_BYTES + 1)
    except (binascii.Error, zlib.error) as e:
        raise InputError(f"{_NAME} is damaged: copy the whole link again.") from e
    if len(data) > tracefile.MAX_BYTES:
        raise InputError(f"{_NAME} unpacks to more than {tracefile.MAX_BYTES >> 20} MB.")
    if not stream.eof or stream.unused_data:
        raise InputError(f"{_NAME} is cut off: copy the whole link again.")
    return tracefile.decode(data, _NAME)


def settings_of(run: Run, others: Sequence[Run]) -> dict[str, Any]:
    """What the widgets, by name, must hold to ask for these lanes again, the target's apart.

    ``run`` and ``others`` in the order of their lanes. Reference texts are not in a trace, and so
    not in here.
    """
    guessing = [lane for lane in (run, *others) if lane.drafter != "none"][: len(lanes.GUESSERS)]
    one = guessing[0] if guessing else run
    held: dict[str, Any] = {
        "prompt": one.prompt,
        "length": one.max_new_tokens,
        "chat": one.chat,
        "system": one.system,
        "options": "\n".join(option_words(one.template)),
        **{name: usual for name, (_, _, usual, *_) in lanes.SAMPLING.items()},
    }
    if one.sampling:
        held |= {name: getattr(one.sampling, name) for name in lanes.SAMPLING}
        held |= {"seed": one.sampling.seed, "same": one.sampling.rule == "coupled"}
    for i, guesser in enumerate(lanes.GUESSERS):
        lane = guessing[i] if i < len(guessing) else None
        held[f"drafter{guesser}"] = lane.drafter if lane else None
        if lane:
            strict = lane.numerics == "strict"
            held |= {f"backend{guesser}": lane.backend, f"strict{guesser}": strict}
            auto = lane.length == AUTO["length"]
            held |= {f"auto{guesser}": auto} | ({} if auto else {f"k{guesser}": lane.k})
    return checked(held)


def pack_settings(held: dict[str, Any]) -> str:
    """base64url without ``=`` of the JSON of ``settings_of``."""
    data = json.dumps(held).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def unpack_settings(text: str) -> dict[str, Any]:
    """What ``checked`` lets through of ``pack_settings``' text. Raises InputError."""
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
    """What a link may set: known widgets, values of the right kind; anything else is left out.

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
    **{f"{name}{g}": kind for g in lanes.GUESSERS for name, kind in _OF_EACH.items()},
    **dict.fromkeys(("length", "seed", *lanes.SAMPLING), "number"),
    **dict.fromkeys(lanes.DRAFTING, "drafter"),
}
"""Of the widgets that a run is asked for with; files stay where they are."""


def _fits(name: str, value: object) -> bool:
    match _KINDS[name]:
        case "text":
            return isinstance(value, str)
        case "switch":
            return isinstance(value, bool)
        case "backend":
            return isinstance(value, str) and value in BACKENDS
        case "drafter":
            nobody = value is None and name != lanes.DRAFTING[0]
            return nobody or isinstance(value, str) and value in REGISTRY and value != "none"
        case _:
            if isinstance(value, bool) or not isinstance(value, int | float):
                return False
            return abs(value) <= 2**53  # nor is a NaN
