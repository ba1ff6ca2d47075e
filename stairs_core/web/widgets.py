"""The widgets of the page as data, which app.py makes gradio's components from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..render import labels
from ..settings import limits
from ..settings.settings import K_RANGE, LENGTH_RANGE
from . import form, notices, presets

PROMPTS = {
    "A fox and a key": "Once upon a time, a small fox found a key under the old bridge",
    "Three words": "Words: river, drum, brave\nStory:",
    "A lost shoe": "One day, a king lost his shoe in the garden. He asked",
}
"""Prompts to try, by the labels of their buttons."""
CHATS = {
    "Gravity": "Explain gravity to a child.",
    "A letter": "Write a short letter to thank a friend for a book.",
    "A list": "List five things to take on a hike, and say why.",
}
"""The same for a pair that has a chat template."""

_AUTO = "As many as pay, by measured costs and what was accepted."
_REFERENCE = "What may be copied from, beside the text itself."
_DICE = "Then the text depends on the seed alone, and must be the same in every lane."
_STRICT = "The same bits however tokens are grouped into passes."
_OWN = {
    "any": "A folder (one model, or target/ and draft/ in it), a GGUF file (its path, or "
    "OWNER/NAME/FILE.gguf on the hub), an id of the hub, or two of these, the target first, with "
    "a colon between.",
    "hub": "An id of the hub, as OWNER/NAME or OWNER/NAME/FILE.gguf, or two of these, the target "
    "first, with a colon between.",
}
_CHAT = "Only for a tokenizer that has one."
_OPTIONS = "One a line, such as enable_thinking=false."
_WHO = ("Guesses by", "Second guesser", "Third guesser")
_IDS = {
    "length": "max-new-tokens",
    "open": "trace-open",
    "download": "trace-download",
    "preset": "model-preset",
    "own": "model-own",
    "load": "model-load",
    "leave": "model-stop",
}

FILES = {"download": "Save trace", "replay": "Save replay"}
"""The files of a run that can be saved: names and labels of their buttons."""

LINK = """() => {
  const kept = sessionStorage.getItem("stairs-kept");
  if (kept) sessionStorage.removeItem("stairs-kept");
  return kept ? `kept=${kept}` : location.hash.slice(1);
}"""
"""What the page asks for as it opens: its address behind the #, or what a page before it kept
(``resume``)."""
CHATTING = "chat => ({__type__: 'update', visible: chat})"
BY_HAND = "auto => ({__type__: 'update', interactive: !auto})"
NEW_SEED = "() => Math.floor(Math.random() * 2 ** 31)"


@dataclass(frozen=True, slots=True)
class Widget:
    """``kind``: its class in gradio; ``options``: its arguments; ``inside``: what it contains."""

    name: str
    kind: str
    options: dict[str, Any]
    inside: Sequence[Widget] = ()

    @property
    def elem_id(self) -> str:
        """Its id in the page, which styles and tests rely on."""
        return _IDS.get(self.name, self.name.replace("_", "-"))


def layout(recorded: Sequence[str], files: Mapping[str, str]) -> list[Widget]:
    """All widgets of the form, from the top. ``recorded``: names of recorded runs; ``files``: paths
    of the files that can be saved of the run on show, by the names in ``FILES``."""
    return [
        models(),
        _small("try", trying(""), visible=presets.offer() is not None),
        _text("prompt", "Prompt", value=next(iter(PROMPTS.values())), lines=4, max_lines=8),
        _row(
            "examples",
            (_small(f"example-{i}", label) for i, label in enumerate(PROMPTS)),
        ),
        *(_guesser(i, suffix) for i, suffix in enumerate(form.GUESSERS)),
        _small("add", "Add a guesser"),
        Widget("references", "Column", {"visible": False}, _references()),
        _length(),
        _folded("sampling", "Sampling", _sampling()),
        _switch("chat", "Chat template", _CHAT, interactive=False),
        Widget("turn", "Column", {"visible": False}, _turn()),
        Widget(
            "preflight",
            "HTML",
            {"mount": "mountPreflight", "value": notices.card(notices.MEASURING)},
        ),
        _row("go", [_button("run", "Run", variant="primary"), _button("stop", "Stop", **_off())]),
        Widget("notice", "HTML", {"mount": "mountNotice", "value": notices.notice()}),
        _small("smaller", "", visible=False),
        _menu("recorded", "Recorded runs", recorded, **_first(recorded)),
        _row("traces", _traces(files)),
        _text("link", "Link", visible=False),
        _text("lacking", "Who cannot guess", visible=False),
    ]


def models() -> Widget:
    """The choice of the pair, hidden where there is only one. Its title names the pair in use.

    A spec typed in ``own`` has precedence over the choice in ``preset``.
    """
    choices, kind = presets.choices(), presets.allowed()
    inside = [
        _menu("preset", "Pair", choices, value=""),
        _text("own", "Your own pair", info=_OWN.get(kind, ""), visible=kind in _OWN, max_lines=2),
        _row("model-go", [_small("load", "Load"), _small("leave", "Stop loading", **_off())]),
        Widget("model-notice", "HTML", {"mount": "mountNotice", "value": notices.notice()}),
    ]
    options = {"label": title(""), "open": False, "visible": len(choices) > 1}
    return Widget("models", "Accordion", options, inside)


def trying(spec: str) -> str:
    """The label of the button that loads a chat model."""
    known = presets.offer(spec)
    return f"Try a real chat model ({known.title}, {known.size / 1e6:.0f} MB)" if known else ""


def asking_less(values: Mapping[str, Any]) -> str:
    """The label of the button that makes the form ask for less (``form.smaller``)."""
    parts = [f"{values['length']} new tokens"] if "length" in values else []
    parts += ["one guesser", "one pass with a cache"]
    return f"Ask for less: {', '.join(parts)}"


def suited(prompt: str, kept: form.Kept, chat: bool) -> tuple[str, form.Kept]:
    """The prompt for a pair that has a chat template or has none, where the visitor has not typed
    one; and what is kept, for a pair that comes later."""
    want, instead = kept.get("prompt", (prompt, prompt))
    if chat and prompt in PROMPTS.values():
        first = next(iter(CHATS.values()))
        return first, {"prompt": (prompt, first)}
    if not chat and want != instead == prompt:
        return want, {}
    return prompt, {"prompt": (want, instead)} if want != instead == prompt else {}


def title(spec: str) -> str:
    """The title of the choice of models while the pair of a spec is in use."""
    return f"Models: {presets.label(spec)}"


def pairs(spec: str) -> dict[str, Any]:
    """The menu of pairs while that of a spec is in use; a pair that was typed is added to it."""
    used = presets.resolve(spec)
    used = "" if used == presets.first() else used
    return {"choices": presets.choices(used), "value": used}


def _guesser(i: int, suffix: str) -> Widget:
    inside = [
        _menu(f"drafter{suffix}", _WHO[i], form.DRAFTERS, value=None if i else "model"),
        _slider(f"k{suffix}", "Guess ahead (K tokens)", *K_RANGE, 5),
        _switch(f"auto{suffix}", "K auto", None if i else _AUTO),
        _folded(f"checked{suffix}", "How its guesses are checked", _checked(suffix)),
        *([_small(f"remove{suffix}", "Remove")] if i else []),
    ]
    return Widget(
        f"guesser{suffix}", "Column", {"visible": not i, "elem_classes": "st-guesser"}, inside
    )


def _length() -> Widget:
    most = min(limits.current().max_tokens, LENGTH_RANGE[1])
    return _slider("length", "New tokens", min(form.SHORTEST, most), most, min(96, most))


def _checked(suffix: str) -> list[Widget]:
    backends = [(label, name) for name, label in labels.BACKENDS.items()]
    return [
        _menu(f"backend{suffix}", "Stairs computed as", backends, value=backends[0][1]),
        _switch(f"strict{suffix}", "Strict numerics", _STRICT),
    ]


def _references() -> list[Widget]:
    files = {"label": "Reference files", "file_count": "multiple", "height": 110}
    files["visible"] = limits.current().uploads
    return [
        _text("pasted", "Reference text", info=_REFERENCE, max_lines=6),
        Widget("files", "File", files),
    ]


def _sampling() -> list[Widget]:
    seed = Widget("seed", "Number", {"label": "Seed", "value": 7, "precision": 0, "min_width": 0})
    return [
        *(
            _slider(name, label, low, high, usual, step=step, info=info)
            for name, (low, high, usual, step, label, info) in form.SAMPLING.items()
        ),
        _row("dice", [seed, _small("new-seed", "New seed")]),
        _switch("same", "Same dice for every lane", _DICE, value=True),
    ]


def _turn() -> list[Widget]:
    """More fields of the chat template, visible while it is on."""
    return [
        _text("system", "System prompt", value="", lines=1, max_lines=6),
        _text("options", "Template options", value="", info=_OPTIONS, lines=1, max_lines=4),
    ]


def _traces(files: Mapping[str, str]) -> list[Widget]:
    options = {"size": "sm", "min_width": 0}
    opening = {"label": "Open trace or log", **options, "visible": limits.current().uploads}

    def saving(name: str, label: str) -> Widget:
        given = {"value": files[name]} if name in files else _off()
        return Widget(name, "DownloadButton", {"label": label, **options, **given})

    return [
        Widget("open", "UploadButton", opening),
        *(saving(name, label) for name, label in FILES.items()),
    ]


def _first(names: Sequence[str]) -> dict[str, Any]:
    return {"value": names[0]} if names else {"visible": False}


def _off() -> dict[str, Any]:
    return {"interactive": False}


def _folded(name: str, label: str, inside: Sequence[Widget]) -> Widget:
    return Widget(name, "Accordion", {"label": label, "open": False}, inside)


def _row(name: str, inside: Iterable[Widget]) -> Widget:
    return Widget(name, "Row", {}, [*inside])


def _text(name: str, label: str, **options: Any) -> Widget:
    return Widget(name, "Textbox", {"label": label, **options})


def _menu(name: str, label: str, choices: Sequence[Any], **options: Any) -> Widget:
    return Widget(name, "Dropdown", {"label": label, "choices": choices, **options})


def _slider(
    name: str, label: str, low: float, high: float, usual: float, step: float = 1, **options: Any
) -> Widget:
    ends = {"minimum": low, "maximum": high, "value": usual, "step": step}
    return Widget(name, "Slider", {"label": label, **ends, **options})


def _switch(name: str, label: str, info: str | None, **options: Any) -> Widget:
    return Widget(name, "Checkbox", {"label": label, "info": info, **options})


def _button(name: str, label: str, **options: Any) -> Widget:
    return Widget(name, "Button", {"value": label, "min_width": 0, **options})


def _small(name: str, label: str, **options: Any) -> Widget:
    return _button(name, label, size="sm", **options)
