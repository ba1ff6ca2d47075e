"""What the commands share: the models they load, options that need reading, progress and colour."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..render.terminal.text import Paint
from ..settings.methods import REGISTRY
from ..settings.settings import AUTO, K_RANGE, Settings

if TYPE_CHECKING:
    from ..models.pair import Pair

INTERRUPTED = 130
"""The exit status after Ctrl-C."""


def load(args: argparse.Namespace, *, own_draft: bool = True) -> Pair:
    """The pair of ``--pair``, on ``--device`` in ``--dtype``, with the head of ``--head``; fetched
    from the hub if need be. ``own_draft``: see ``load_pair``."""
    from ..models import devices, heads, load

    devices.keep_to_cores()
    where = args.pair, args.device, args.dtype, args.compile
    pair = load.load_pair(*where, say=progress, own_draft=own_draft)
    if args.head:
        heads.give(pair.target, args.head, progress)
    return pair


def drafting(k: str | None, length: str | None) -> dict[str, Any]:
    """``--k`` and ``--length`` as settings: ``--k auto`` is a length policy, not a number."""
    if k is None:
        return {"length": length or "constant"}
    if k == "auto":
        if length not in (None, "cost"):
            raise InputError(f"K auto is the length policy cost: leave out --length {length}.")
        return AUTO
    try:
        return {"k": int(k), "length": length or "constant"}
    except ValueError as e:
        low, high = K_RANGE
        raise InputError(
            f"K is {k!r:.60}, but must be a whole number from {low} to {high}, or auto."
        ) from e


def check_readers(references: Iterable[str], drafters: Iterable[str]) -> None:
    """Raises InputError for texts of ``--reference`` that none of these drafters reads."""
    readers = [name for name, method in REGISTRY.items() if method.references]
    named = {*drafters}
    if references and not named & {*readers} and named <= REGISTRY.keys():
        raise InputError(
            f"Nobody here reads --reference: name the drafter {' or '.join(readers)}, or leave it "
            "out."
        )


def fitted(settings: Settings, pair: Pair, args: argparse.Namespace) -> Settings:
    """The settings with what was not asked for as it suits the pair: who guesses, how many (as
    suits who does), and whether the prompt is a turn in the chat template."""
    if getattr(args, "chat", False) is None:
        settings = replace(settings, chat=settings.chat or pair.has_chat_template)
    chosen = args.k is not None or getattr(args, "length", None) is not None
    if settings.drafter == "model" and not getattr(args, "named", True):
        usual = pair.usual_drafter(strict=settings.numerics == "strict")
        settings = replace(settings, drafter=usual)
        if usual != "model" and not chosen and REGISTRY[usual].by_cost:
            return replace(settings, **AUTO)
    k = pair.usual_k(settings.drafter)
    return settings if args.k is not None or k is None else replace(settings, k=k)


def progress(text: str) -> None:
    """One line on stderr that the next one overwrites; nothing where stderr is no terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def paint(stream: Any = None) -> Paint:
    """Colours for a stream (stdout) that is a terminal, unless NO_COLOR is set."""
    tty = (stream or sys.stdout).isatty() and os.environ.get("TERM") != "dumb"
    return Paint(tty and not os.environ.get("NO_COLOR"))
