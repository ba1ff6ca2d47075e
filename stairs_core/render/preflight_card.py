"""The preflight card, for the page and the terminal; the terminal's table of other Ks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..settings.methods import REGISTRY
from ..traces.records import Preflight, Promise
from ..traces.what_if import WhatIf
from .labels import BACKENDS, config_entries, guesser
from .terminal.text import Paint, pad, visible, width

_NONE = "–"


def lines(card: Preflight, paint: Paint) -> list[str]:
    """For the terminal: names and values, aligned, then the warnings, a line each."""
    found = rows(card)
    size = max(width(name) for name, _ in found)
    aligned = [f"{paint(pad(name, size), '2')}  {value}" for name, value in found]
    return [*aligned, *(f"{paint('!', '1')} {warning}" for warning in card.warnings)]


def shown(card: Preflight) -> dict[str, Any]:
    """For the page: a headline, rows of name and value, warnings."""
    ways = BACKENDS.get(card.backend, card.backend), guesser(card.drafter)
    return {"headline": headline(card), "rows": rows(card, *ways), "warnings": card.warnings}


def headline(card: Preflight) -> str:
    """What to expect, in one sentence."""
    if card.busy:
        return (
            "This machine is too busy to say what to expect: what passes cost differed by a factor "
            f"of {card.busy:.1f} while it was measured."
        )
    if not card.promises:
        return _unpriced(card.drafter)
    least, *_, most = card.promises
    k = "K auto" if card.k is None else f"K = {card.k}"
    return (
        f"{k}: passes alone allow {least.low:.1f} to {most.high:.1f} × the speed of the target "
        f"alone, if {100 * least.alpha:.0f} to {100 * most.alpha:.0f} % of the checked guesses "
        "hold."
    )


def _unpriced(drafter: str) -> str:
    """What to expect of a drafter whose passes are not of the kind that is timed."""
    method = REGISTRY.get(drafter)
    if drafter == "none":
        return "Nobody guesses: the target writes alone, at its own speed."
    if method is None or method.lossy:
        return "What it gains is not known before a run: what writes here is not timed."
    if method.draft == "no" and method.more(1):
        return "What it gains depends on the text: its guesses are made in the passes that check."
    return (
        "What it gains depends on the text, and on what its guesses cost, which the passes timed "
        "here do not tell."
    )


def _untimed(drafter: str) -> str:
    """What a guess costs where none was timed."""
    method = REGISTRY.get(drafter)
    if method is None or drafter == "none":
        return _NONE
    if method.more(1):
        return "made in the passes that check"
    return "free of any pass" if method.priced else "not timed"


def rows(
    card: Preflight, backend: str | None = None, drafter: str | None = None
) -> list[tuple[str, str]]:
    """Names and values of everything on the card. ``backend``, ``drafter``: their labels."""
    ways = f"{backend or card.backend}, {drafter or card.drafter}"
    guesses = "K auto" if card.k is None else f"K = {card.k}"
    defaults = config_entries(card.defaults, card.left_out)
    found = [
        ("target", _model(card.target, card.parameters[0], card.bytes[0])),
        ("draft", _model(card.draft, card.parameters[1], card.bytes[1])),
        ("tokenizers", visible(card.tokenizers)),
        ("runs as", f"{card.dtype}, {card.device}, {ways}, {guesses}"),
        *([("defaults", visible(defaults))] if defaults else []),
        ("one-token pass", f"{1000 * card.seconds:.2f} ms"),
        ("a pass over n", ", ".join(f"{n}: {cost:.2f} ×" for n, cost in card.v)),
        ("a guess", f"{card.c:.2f} ×" if card.c else _untimed(card.drafter)),
        *(
            (
                f"{promise.alpha:.0%} hold".replace("%", " %"),
                f"{promise.speedup:.2f} × with K = {promise.k}{_range(promise)}",
            )
            for promise in card.promises
        ),
    ]
    if card.best_k is not None:
        found.append(("best K at 70 %", str(card.best_k) if card.best_k else "none pays"))
    return found


def _range(promise: Promise) -> str:
    """The range of estimates, where low and high differ in their two digits; else empty."""
    low, high = f"{promise.low:.2f}", f"{promise.high:.2f}"
    return "" if low == high else f", from {low} to {high} by what passes took"


def other_lengths(found: Sequence[WhatIf], used: int | None, paint: Paint) -> list[str]:
    """For the terminal: a row for every K, aligned. ``used``: the run's own constant K, or None.

    Marks the K in use, the best one, and rows whose seconds rest on passes measured before the run.
    """
    timed = [w for w in found if w.seconds is not None]
    best = min(timed, key=lambda w: w.seconds or 0.0).k if timed else None
    rows = [("K", "steps", "tok/call", "seconds", "speedup")]
    marks = [""]
    for w in found:
        rows.append(
            (
                str(w.k),
                str(w.steps),
                f"{w.tokens_per_target_call:.2f}",
                _NONE if w.seconds is None else f"{w.seconds:.3f}",
                _NONE if w.speedup is None else f"{w.speedup:.2f}",
            )
        )
        own = "this run" if w.k == used else "passes as measured before" if w.before else ""
        words = [own] * bool(own) + ["best"] * (w.k == best)
        marks.append(f"  {', '.join(words)}" if words else "")
    sizes = [max(map(width, column)) for column in zip(*rows, strict=True)]
    aligned = [
        "  ".join(f"{cell:>{size}}" for cell, size in zip(row, sizes, strict=True)) + mark
        for row, mark in zip(rows, marks, strict=True)
    ]
    return [paint(aligned[0], "2"), *aligned[1:]]


def _model(name: str | None, parameters: int, size: int) -> str:
    if name is None:
        return _NONE
    return f"{visible(name)}, {parameters / 1e6:,.1f} M parameters, {size / 2**20:,.0f} MiB"
