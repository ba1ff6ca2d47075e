"""The form: from what its widgets hold to Settings, and back. No gradio in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import InputError
from ..render import labels
from ..settings import limits
from ..settings.methods import REGISTRY, USUAL, Lack
from ..settings.sampling import Sampling
from ..settings.settings import AUTO, Settings, template_options
from ..traces.records import unused

GUESSERS = ("", "-2", "-3")
"""The ends of the widgets' names, by guesser: ``drafter``, ``drafter-2``, ``drafter-3``."""

DRAFTERS = [(labels.guesser(name), name) for name in REGISTRY if name != "none"]
"""The drafters to choose from: label and name, as a menu takes them."""

Kept = dict[str, tuple[Any, Any]]
"""By widget: the value that the visitor chose and the pair in use cannot do, and its substitute;
that value twice where a link chose it."""

SAMPLING = {
    "temperature": (0.0, 2.0, 0.0, 0.05, "Temperature", "0: always the most likely token."),
    "top_p": (0.05, 1.0, 1.0, 0.05, "Top-p", "Only the likeliest tokens that make up this share."),
    "top_k": (0, 200, 0, 1, "Top-k", "Only so many of the likeliest; 0: all."),
    "min_p": (0.0, 1.0, 0.0, 0.01, "Min-p", "Only those at least so likely, against the best."),
    "repetition_penalty": (0.5, 2.0, 1.0, 0.05, "Repetition penalty", "1: none."),
}
"""The sliders of the sampling controls: minimum, maximum, usual value, step, label, meaning."""

SHORTEST = 8
"""The fewest new tokens that the page asks for."""

DRAFTING = tuple(f"drafter{guesser}" for guesser in GUESSERS)
CHECKED = (
    *(f"{name}{guesser}" for guesser in GUESSERS for name in ("drafter", "k", "backend")),
    *("length", *SAMPLING, "seed"),
)
"""The widgets whose values are checked by Settings and Sampling alone: gradio checks none."""

ASKED = (
    *("prompt", *CHECKED, "chat", "system", "options", "same", "pasted", "files"),
    *(f"{name}{guesser}" for guesser in GUESSERS for name in ("auto", "strict")),
)
"""The widgets that a run is started with."""

LAID_OUT = (*(f"guesser{g}" for g in GUESSERS[1:]), *DRAFTING[1:], "add", "references")
"""What changes when a guesser comes or goes (``guessers`` in assets/page/stage/guessers.js)."""

PRICED = ("drafter", "k", "auto", "backend", "strict")
"""The widgets that the card before a run depends on: it is about the first guesser."""

HELD = tuple(dict.fromkeys((*ASKED, *LAID_OUT, "turn")))
"""The widgets that settings in a link may change."""

READ = {name: method.references for name, method in REGISTRY.items() if name != "none"}
"""By drafter: whether it reads reference texts."""

UNTOUCHED: Kept = {"chat": (True, False)}
"""What counts as chosen on a page just opened: a pair that has a chat template is asked by it."""

_PASTED = "pasted text"
_CHAT_GONE = "The chat template is off: this tokenizer has none."
_CHAT_BACK = "The chat template is on, since this tokenizer has one."


def settings(asked: Mapping[str, Any], folder: Path) -> dict[str, Settings]:
    """The Settings of every guesser in the form, by the name of its lane in the race. Raises
    InputError for a value that cannot be used.

    ``asked``: values by the names of the widgets. ``folder``: for a pasted text, which must stay
    there while the race goes on.
    """
    options = text(asked, "options").splitlines()
    chat = asked["chat"]  # without it its other fields are hidden, and count for nothing
    shared = {
        "max_new_tokens": whole(asked["length"]),
        "chat": chat,
        "system": text(asked, "system") if chat else "",
        "template": template_options(options) if chat else {},
        "sampling": _sampling(asked),
    }
    texts = _references(asked, folder)
    found: dict[str, Settings] = {}
    for guesser in GUESSERS:
        drafter, auto = asked[f"drafter{guesser}"], asked[f"auto{guesser}"]
        if not drafter:
            continue
        known = isinstance(drafter, str) and drafter in REGISTRY
        reads = known and REGISTRY[drafter].references
        one = Settings(
            drafter=drafter,
            backend=asked[f"backend{guesser}"],
            numerics="strict" if asked[f"strict{guesser}"] else "fast",
            references=texts if reads else (),
            **(AUTO if auto else {"k": whole(asked[f"k{guesser}"])}),
            **shared,
        )
        found[unused(labels.lane(one), found)] = one
    if not found:
        raise InputError("Nobody guesses: choose a guesser.")
    return found


def fit(
    asked: Mapping[str, Any],
    kept: Kept,
    lacks: Mapping[str, Lack],
    chat: bool,
    outdone: Mapping[str, Lack] = MappingProxyType({}),
) -> tuple[dict[str, Any], Kept, list[str]]:
    """Values for the drafter menus, K auto and the chat switch that the pair in use can do. Who
    guesses in another's place does so by K auto, where that is for it.

    ``lacks``: the drafters that it cannot use; ``outdone``: those that it can, but has better ones
    than: they stay where they were ``chosen``. ``chat``: whether it has a chat template; ``kept``:
    as the last call returned it. What was replaced comes back with a pair that can do it. Also
    returns what is kept now, and sentences on what has changed.
    """
    autos = {name: f"auto{guesser}" for guesser, name in zip(GUESSERS, DRAFTING, strict=True)}
    wanted = {name: _wanted(asked, kept, name) for name in (*DRAFTING, *autos.values(), "chat")}
    values, never = dict(wanted), {**outdone, **lacks}
    for guesser, name in zip(GUESSERS, DRAFTING, strict=True):
        lack = lacks.get(wanted[name] or "")
        if tuple(kept.get(name, ())) != (wanted[name],) * 2:
            lack = lack or outdone.get(wanted[name] or "")
        if lack and asked[f"backend{guesser}"] not in lack.but:
            exact = (n for n, reads in READ.items() if not reads and not REGISTRY[n].lossy)
            able = (n for n in (*USUAL, *exact) if n not in never and n not in values.values())
            strict = asked[f"strict{guesser}"]  # has no trees
            values[name] = next(n for n in able if not (strict and REGISTRY[n].tree))
            values[autos[name]] = wanted[autos[name]] or REGISTRY[values[name]].by_cost
    values["chat"] = bool(wanted["chat"] and chat)
    changes = [_change(asked[name], wanted[name], values[name], never) for name in DRAFTING]
    if values["chat"] != bool(asked["chat"]):
        changes.append(_CHAT_BACK if values["chat"] else _CHAT_GONE)
    now = {name: (w, values[name]) for name, w in wanted.items() if w != values[name]}
    return values, now, [*filter(None, changes)]


def chosen(values: Mapping[str, Any]) -> Kept:
    """What is kept of a form's ``values`` that somebody chose, as those of a link."""
    return {name: (values[name], values[name]) for name in DRAFTING if name in values}


def _wanted(asked: Mapping[str, Any], kept: Kept, name: str) -> Any:
    """What the visitor chose: the kept value while the widget still holds its substitute."""
    want, instead = kept.get(name, (asked[name], asked[name]))
    return want if asked[name] == instead else asked[name]


def _change(before: Any, want: Any, now: Any, lacks: Mapping[str, Lack]) -> str:
    """A sentence on a drafter menu that changes from ``before`` to ``now``; empty if it stays."""
    if before == now:
        return ""
    label = f"“{labels.guesser(now)}”"
    if want == now:
        return f"{label} guesses again."
    return f"{label} guesses in place of “{labels.guesser(want)}”: {lacks[want].why}."


def menu(lacks: Mapping[str, Lack]) -> list[tuple[str, str]]:
    """The drafters as a menu takes them; last, those that the pair in use cannot use, and why."""
    able = [choice for choice in DRAFTERS if choice[1] not in lacks]
    rest = [(label, name) for label, name in DRAFTERS if name in lacks]
    return able + [(f"{label} (not available: {lacks[name].why})", name) for label, name in rest]


def held(values: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """New properties of the widgets: their ``values``, and who of them is visible then. ``now``:
    what they hold; empty for a page that has just opened.

    A part that is not there is not hidden again: Gradio's client would wait for it to be drawn.
    """
    updates: dict[str, dict[str, Any]] = {name: {"value": v} for name, v in values.items()}
    who = [values.get(name) for name in DRAFTING]
    for guesser, name in zip(GUESSERS, who, strict=True):
        if guesser and (name or now.get(f"drafter{guesser}")):
            updates[f"guesser{guesser}"] = {"visible": bool(name)}
        if f"k{guesser}" in values or f"auto{guesser}" in values:
            auto = {"interactive": not values.get(f"auto{guesser}")}
            updates[f"k{guesser}"] = updates.get(f"k{guesser}", {}) | auto
    if values.get("chat") or ("chat" in values and now.get("chat")):
        updates["turn"] = {"visible": values["chat"]}
    updates["add"] = {"visible": not all(who)}
    reads = any(READ.get(name or "") for name in who)
    if reads or any(READ.get(now.get(name) or "") for name in DRAFTING):
        updates["references"] = {"visible": reads}
    return updates


def text(asked: Mapping[str, Any], name: str) -> str:
    """What a text field holds; "" where it is not there, or empty. A program may send anything:
    raises InputError for what is no text."""
    value = asked.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"“{name}” is {value!r:.60}, and must be a text: type it again.")
    return value


def smaller(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Values that ask for a run that takes less memory; empty where it is as small as can be: half
    as many tokens, one guesser, the stairs in one pass over the cache."""
    values: dict[str, Any] = {}
    if asked["length"] > SHORTEST:
        values["length"] = max(SHORTEST, int(asked["length"]) // 2)
    first, *others = DRAFTING
    values |= {name: None for name in others if asked[name]}
    backends = (f"backend{guesser}" for guesser in GUESSERS)
    values |= {name: "single_kv" for name in backends if asked[name] != "single_kv"}
    return values and {first: asked[first], **dict.fromkeys(others), **values}


def whole(number: float) -> Any:
    """A slider's 6.0 as 6; any other number as it is, for Settings to refuse."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


def take_uploads() -> None:
    """Raises InputError where the host takes no files of visitors."""
    if not limits.current().uploads:
        raise InputError(
            "This page opens no files of visitors: paste a text, or run Stairs yourself."
        )


def _sampling(asked: Mapping[str, Any]) -> Sampling | None:
    if asked["temperature"] == 0 and asked["repetition_penalty"] == 1:
        return None
    values = {name: asked[name] for name in SAMPLING} | {"top_k": whole(asked["top_k"])}
    rule = "coupled" if asked["same"] else "speculative"
    return Sampling(**values, seed=whole(asked["seed"]), rule=rule)


def _references(asked: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    """Paths: the visitor's files, and one in ``folder`` with the pasted text."""
    files = [*(asked["files"] or [])]
    if files:
        take_uploads()
    if (pasted := text(asked, "pasted")).strip():
        path = folder / _PASTED
        path.write_text(pasted, encoding="utf-8", errors="replace")
        files.append(str(path))
    return tuple(files)
