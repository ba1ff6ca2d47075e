"""What the widgets of the page hold, made into the lanes of a race. No gradio in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..drafters import FREE, REGISTRY, Lack
from ..sampling import Sampling
from ..settings import AUTO, Settings, template_options
from . import words

GUESSERS = ("", "-2", "-3")
"""What follows the names of the widgets of each guesser: ``drafter``, ``drafter-2`` and so on."""

DRAFTERS = [(words.guesser(name), name) for name in REGISTRY if name != "none"]
"""Who may guess: label and name, as a menu takes them."""

Kept = dict[str, tuple[Any, Any]]
"""By widget, what a visitor wants and the pair in use cannot do, and what stands there instead."""

SAMPLING = {
    "temperature": (0.0, 2.0, 0.0, 0.05, "Temperature", "0: always the most likely token."),
    "top_p": (0.05, 1.0, 1.0, 0.05, "Top-p", "Only the likeliest tokens that make up this share."),
    "top_k": (0, 200, 0, 1, "Top-k", "Only so many of the likeliest; 0: all."),
    "min_p": (0.0, 1.0, 0.0, 0.01, "Min-p", "Only those at least so likely, against the best."),
    "repetition_penalty": (0.5, 2.0, 1.0, 0.05, "Repetition penalty", "1: none."),
}
"""The sliders of the sampling controls: least, most, usual, step, label and meaning."""

DRAFTING = tuple(f"drafter{guesser}" for guesser in GUESSERS)
CHECKED = (
    *(f"{name}{guesser}" for guesser in GUESSERS for name in ("drafter", "k", "backend")),
    *("length", *SAMPLING, "seed"),
)
"""The widgets whose values Settings and Sampling check, and nobody before them."""

ASKED = (
    *("prompt", *CHECKED, "chat", "system", "options", "same", "pasted", "files"),
    *(f"{name}{guesser}" for guesser in GUESSERS for name in ("auto", "strict")),
)
"""The widgets that a run is asked for with."""

LAID_OUT = (*(f"guesser{g}" for g in GUESSERS[1:]), *DRAFTING[1:], "add", "references")
"""What changes when a guesser comes or goes (``guessers`` in assets/page/around.js)."""

PRICED = ("drafter", "k", "auto", "backend", "strict")
"""What changes the card before a run: it tells of the first guesser."""

HELD = tuple(dict.fromkeys((*ASKED, *LAID_OUT, "turn")))
"""What settings that are taken from a link may change."""

READ = {name: method.references for name, method in REGISTRY.items() if name != "none"}
"""Who may guess, and whether it reads reference texts."""

_PASTED = "pasted text"
_CHAT_GONE = "The chat template is off: this tokenizer has none."
_CHAT_BACK = "The chat template is on again."


def settings(asked: Mapping[str, Any], folder: Path) -> dict[str, Settings]:
    """The lanes that guess, by name. Raises InputError for a value that cannot be used.

    ``asked``: values by the names of the widgets. ``folder``: where a pasted text may be kept while
    the race goes on.
    """
    options = (asked.get("options") or "").splitlines()
    told = asked["chat"]  # what is in its fields otherwise is not seen
    shared = {
        "max_new_tokens": whole(asked["length"]),
        "chat": asked["chat"],
        "system": (asked.get("system") or "") if told else "",
        "template": template_options(options) if told else {},
        "sampling": _sampling(asked),
    }
    texts = _references(asked, folder)
    lanes: dict[str, Settings] = {}
    for guesser in GUESSERS:
        drafter, auto = asked[f"drafter{guesser}"], asked[f"auto{guesser}"]
        if not drafter:
            continue
        reads = drafter in REGISTRY and REGISTRY[drafter].references
        lane = Settings(
            drafter=drafter,
            backend=asked[f"backend{guesser}"],
            numerics="strict" if asked[f"strict{guesser}"] else "fast",
            references=texts if reads else (),
            **(AUTO if auto else {"k": whole(asked[f"k{guesser}"])}),
            **shared,
        )
        lanes[_free(words.lane(lane), lanes)] = lane
    return lanes


def fit(
    asked: Mapping[str, Any], kept: Kept, lacks: Mapping[str, Lack], chat: bool
) -> tuple[dict[str, Any], Kept, list[str]]:
    """What the widgets hold of who guesses, and of the chat template, once a pair is in use.

    ``lacks``: the drafters that it cannot use; ``chat``: whether it has a chat template; ``kept``:
    as the last call gave it. What a visitor wants comes back with a pair that can do it. Also
    returns what is kept now, and sentences on what has changed.
    """
    wanted = {name: _wanted(asked, kept, name) for name in (*DRAFTING, "chat")}
    values = dict(wanted)
    for guesser, name in zip(GUESSERS, DRAFTING, strict=True):
        lack = lacks.get(wanted[name] or "")
        if lack and asked[f"backend{guesser}"] not in lack.but:
            able = (*FREE, *(n for n, reads in READ.items() if n not in lacks and not reads))
            values[name] = next(other for other in able if other not in values.values())
    values["chat"] = bool(wanted["chat"] and chat)
    said = [_told(asked[name], wanted[name], values[name], lacks) for name in DRAFTING]
    if values["chat"] != bool(asked["chat"]):
        said.append(_CHAT_BACK if values["chat"] else _CHAT_GONE)
    now = {name: (w, values[name]) for name, w in wanted.items() if w != values[name]}
    return values, now, [*filter(None, said)]


def _wanted(asked: Mapping[str, Any], kept: Kept, name: str) -> Any:
    """What was kept for a widget, if it still holds what was put there instead."""
    want, instead = kept.get(name, (asked[name], asked[name]))
    return want if asked[name] == instead else asked[name]


def _told(before: Any, want: Any, now: Any, lacks: Mapping[str, Lack]) -> str:
    if before == now:
        return ""
    label = f"“{words.guesser(now)}”"
    if want == now:
        return f"{label} guesses again."
    return f"{label} guesses in place of “{words.guesser(want)}”: {lacks[want].why}."


def menu(lacks: Mapping[str, Lack]) -> list[tuple[str, str]]:
    """Who may guess, as a menu takes it; at its end who cannot with the pair in use, and why."""
    able = [choice for choice in DRAFTERS if choice[1] not in lacks]
    rest = [(label, name) for label, name in DRAFTERS if name in lacks]
    return able + [(f"{label} (not available: {lacks[name].why})", name) for label, name in rest]


def held(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What the widgets become where they are to hold ``values``, their guessers laid out."""
    updates: dict[str, dict[str, Any]] = {name: {"value": v} for name, v in values.items()}
    who = [values.get(name) for name in DRAFTING]
    for guesser, name in zip(GUESSERS, who, strict=True):
        if guesser:
            updates[f"guesser{guesser}"] = {"visible": bool(name)}
        if f"k{guesser}" in values or f"auto{guesser}" in values:
            auto = {"interactive": not values.get(f"auto{guesser}")}
            updates[f"k{guesser}"] = updates.get(f"k{guesser}", {}) | auto
    if "chat" in values:
        updates["turn"] = {"visible": values["chat"]}
    updates["add"] = {"visible": not all(who)}
    updates["references"] = {"visible": any(READ.get(name or "") for name in who)}
    return updates


def whole(number: float) -> Any:
    """A slider's 6.0 as 6; anything else as it is, for Settings to refuse."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _sampling(asked: Mapping[str, Any]) -> Sampling | None:
    if asked["temperature"] == 0 and asked["repetition_penalty"] == 1:
        return None
    values = {name: asked[name] for name in SAMPLING} | {"top_k": whole(asked["top_k"])}
    rule = "coupled" if asked["same"] else "speculative"
    return Sampling(**values, seed=whole(asked["seed"]), rule=rule)


def _references(asked: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    """Files that were given, and one with the text that was pasted."""
    files = [*(asked["files"] or [])]
    if (asked["pasted"] or "").strip():
        path = folder / _PASTED
        path.write_text(asked["pasted"], encoding="utf-8", errors="replace")
        files.append(str(path))
    return tuple(files)


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """``name``, numbered where another lane is called so already."""
    names = [name, *(f"{name} ({i})" for i in range(2, len(GUESSERS) + 1))]
    return next(n for n in names if n not in taken)
