"""The page: widgets to Settings, trace events to the stage. No algorithm in it.

Run ``python app.py`` and open http://127.0.0.1:7860. HOST and PORT move it; STAIRS_PAIR names
another pair of models than the bundled one (see ``stairs_core.models.load_pair``).
"""

from __future__ import annotations

import os

from stairs_core.quiet import hush

hush()  # before any library is imported
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import functools
import logging
import tempfile
import time
from abc import ABCMeta
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import gradio as gr
from gradio.themes import Base

from stairs_core import live, tracefile
from stairs_core.errors import InputError
from stairs_core.folders import Folders
from stairs_core.opening import open_any
from stairs_core.render import card, controls, lanes, links, look, page, replay, words
from stairs_core.render.controls import Widget
from stairs_core.trace import Recording

ROOT = Path(__file__).resolve().parent
PAGE, TRACES = ROOT / "assets" / "page", ROOT / "assets" / "traces"
PLOTLY = Path(str(find_spec("plotly").origin)).parent / "package_data" / "plotly.min.js"  # type: ignore[union-attr]
Updates = dict[str, Any]
"""New values by the name of their component; the others stay as they are."""

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_running: dict[str, live.Flag] = {}
_loading: dict[str, live.Flag] = {}
_made = Folders(prefix="stairs-")
_log = logging.getLogger("stairs")


def run(asked: dict[str, Any], request: gr.Request) -> Iterator[Updates]:
    """Streams one race. Bad input, or a failure, leaves the last result where it was.

    ``asked``: what the widgets hold, by their names.
    """
    session = request.session_hash or ""
    if session in _running:
        yield {"notice": page.notice(page.BUSY)}
        return
    flag = _running[session] = live.Flag()
    lines = page.Lines(uuid4().hex)
    try:
        folder = _made.folder()
        racing = lanes.settings(asked, folder)
        yield {"notice": page.notice(page.STARTING, "wait"), **_switch(idle=False)}
        race = live.race(asked["prompt"], racing, flag, asked["spec"])
        for records in live.batches(race, flag):
            lines.add(records)
            if lines.started:
                yield {"stage": lines.value(), "notice": page.notice()}
        name = time.strftime("stairs-%Y%m%d-%H%M%S")
        path, made = folder / f"{name}.jsonl", lines.lanes()
        tracefile.write(path, made)
        yield {
            "stage": lines.value(running=False),
            **_offer(path, made, name, folder),
            **_switch(idle=True),
        }
        yield {"recorded": gr.update(value=None)}
    except Exception as e:
        yield {"notice": page.notice(_sentence(e, page.NO_RUN)), **_switch(idle=True)}
    finally:
        flag.set()
        _running.pop(session, None)


def stop(request: gr.Request) -> None:
    """Asks the visitor's run, if there is one, to end after the steps that are being made."""
    if flag := _running.get(request.session_hash or ""):
        flag.set()


def load(asked: dict[str, Any], request: gr.Request) -> Iterator[Updates]:
    """Loads another pair for the visitor. A failure, or a stop, leaves the one in use in place."""
    session = request.session_hash or ""
    spec = asked["own"].strip() or asked["preset"] or ""
    flag = _loading[session] = live.Flag()
    idle, shelf = _load_switch(idle=True), live.shelf()
    try:
        yield _load_switch(idle=False)
        for words in shelf.loading(spec, flag):
            yield {"model-notice": page.notice(words, "wait")}
        named = {
            "head": _chips(shelf.get(spec)),
            "models": gr.update(label=controls.title(spec)),
            "preset": gr.update(**controls.pairs(spec)),
        }
        yield {"spec": spec, **named, "model-notice": page.notice(), **idle}
    except Exception as e:
        yield {"model-notice": page.notice(_sentence(e, page.NO_MODELS)), **idle}
    finally:
        flag.set()
        _loading.pop(session, None)


def preflight(asked: dict[str, Any], _: gr.Request | None = None) -> Updates:
    """What can be said of the first guesser before a run; or why there can be none."""
    if live.ZERO_GPU:
        return {"preflight": page.card(page.UNMEASURED)}
    try:
        with tempfile.TemporaryDirectory() as folder:
            settings = next(iter(lanes.settings(asked, Path(folder)).values()))
            return {"preflight": card.shown(live.preflight(settings, asked["spec"]))}
    except Exception as e:
        return {"preflight": page.card(_sentence(e, page.NO_CARD))}


def leave(request: gr.Request) -> None:
    """Ends the visitor's loading, if there is one."""
    if flag := _loading.get(request.session_hash or ""):
        flag.set()


def open_trace(path: str | None) -> Updates:
    """Shows a trace file of the visitor's."""
    shown = _show(Path(path), "file", Path(path).name) if path else {}
    return shown | {"recorded": gr.update(value=None)} if "stage" in shown else shown


def open_recorded(name: str | None) -> Updates:
    """Shows one of the recorded runs that come with the page."""
    path = recorded().get(name or "")
    return _show(path, "recorded", name or "") if path else {}


def open_link(fragment: str | None) -> Updates:
    """Shows what the page's address asks for behind its #: see ``render.links``."""
    try:
        kind, named = links.read(fragment or "")
        if kind == "run":
            if named not in recorded():
                return {"notice": page.notice(page.NO_SUCH_RUN)}
            return open_recorded(named) | {"recorded": gr.update(value=named)}
        if kind == "settings":
            return _held(links.unpack_settings(named))
        return _shown(links.unpack(named), None, "link", "a link") if kind else {}
    except InputError as e:
        return {"notice": page.notice(_sentence(e))}


def recorded() -> dict[str, Path]:
    """The recorded runs by the names they are shown with."""
    return {p.stem.replace("-", " "): p for p in sorted(TRACES.glob("*.jsonl"))}


def describe() -> Updates:
    """Waits for the models; says what they are."""
    try:
        return {"head": _chips(live.models().result())}
    except Exception as e:
        return {"head": ["no models"], "notice": page.notice(_sentence(e, page.NO_MODELS))}


def adapt(asked: dict[str, Any], _: gr.Request | None = None) -> Updates:
    """Once a pair is in use: who cannot guess with it, and who does instead; the chat template."""
    try:
        pair = live.shelf().get(asked["spec"])
    except Exception:
        return {}  # which has been said
    lacks, chat = pair.lacks(), pair.has_chat_template
    values, kept, said = lanes.fit(asked, asked["kept"], lacks, chat)
    updates = _held(values) if said else {}
    for name in lanes.DRAFTING:
        updates[name] = gr.update(**updates.get(name, {}), choices=lanes.menu(lacks))
    updates["chat"] = gr.update(**updates.get("chat", {}), interactive=chat)
    told = {"notice": page.notice(" ".join(said), "wait")} if said else {}
    lacking = ",".join(name for name, lack in lacks.items() if not lack.but)
    return {"kept": kept, "lacking": lacking, **updates, **told}


def _sentence(error: Exception, what: str = "") -> str:
    """Bad input says itself what to do. Of anything else the log has the rest."""
    if isinstance(error, InputError):
        return error.say(words.PAGE)
    _log.error("%s.", what, exc_info=error)
    return page.failure(error, what)


def _chips(pair: Any) -> list[str]:
    return [f"{role}: {name}" for role, name in pair.describe().items()]


def _held(values: dict[str, Any]) -> Updates:
    return {name: gr.update(**props) for name, props in lanes.held(values).items()}


def _show(path: Path, kind: page.Kind, name: str) -> Updates:
    try:
        return _shown(open_any(path), path, kind, name)
    except InputError as e:
        return {"notice": page.notice(_sentence(e))}


def _shown(recordings: list[Recording], path: Path | None, kind: page.Kind, name: str) -> Updates:
    folder = _made.folder()
    if path is None:
        path = folder / "stairs.jsonl"
        tracefile.write(path, recordings)
    value = page.value(uuid4().hex, recordings, kind, name)
    return {"stage": value, "notice": page.notice(), **_offer(path, recordings, name, folder)}


def _offer(path: Path, recordings: list[Recording], name: str, folder: Path) -> Updates:
    """The files of a run, for the buttons that save them."""
    page_of = folder / f"{path.stem}.html"
    replay.write(page_of, recordings, name)
    files = {"download": path, "replay": page_of}
    return {name: gr.update(value=str(file), interactive=True) for name, file in files.items()}


def _switch(*, idle: bool) -> Updates:
    free, busy = gr.update(interactive=idle), gr.update(interactive=not idle)
    return {"run": free, "stop": busy, "open": free, "recorded": free}


def _load_switch(*, idle: bool) -> Updates:
    return {"load": gr.update(interactive=idle), "leave": gr.update(interactive=not idle)}


def build() -> gr.Blocks:
    """The page, its parts wired together."""
    gr.set_static_paths([PAGE, TRACES, PLOTLY])
    names = list(recorded())
    first = open_recorded(names[0]) if names else {}
    files = {name: first[name]["value"] for name in controls.FILES if name in first}
    widgets = controls.layout(names, files)
    with gr.Blocks(title="Stairs", analytics_enabled=False, delete_cache=(3600, 86400)) as demo:
        parts: dict[str, Any] = {"head": _html("mountHead", "head", [page.LOADING])}
        parts["spec"], parts["kept"] = gr.State(""), gr.State({})
        with gr.Row(elem_id="columns", equal_height=False):
            with gr.Column(elem_id="controls", scale=0, min_width=300):
                _make(widgets, parts)
            with gr.Column(elem_id="results", scale=1, min_width=320):
                stage = first.get("stage") or page.value("", [], "live")
                parts["stage"] = _html("mountStage", "stage", stage, plotly=page.url(PLOTLY))
        _wire(demo, parts)
        _wire_guessers(parts)
    return demo


def _make(widgets: Sequence[Widget], parts: dict[str, Any]) -> None:
    """Adds the components to ``parts``, by name."""
    for widget in widgets:
        kind = _html if widget.kind == "HTML" else getattr(gr, widget.kind)
        if widget.name in (*lanes.CHECKED, "preset"):
            kind = _unchecked(kind)
        part = parts[widget.name] = kind(elem_id=widget.elem_id, **widget.options)
        if widget.inside:
            with part:
                _make(widget.inside, parts)


@functools.cache
def _unchecked(kind: type) -> type:
    """A kind of widget that hands on whatever it holds: what is out of range, or unknown, is for
    Settings to refuse, in a sentence on the page. A class, since an update makes the widget anew.
    """
    changed = {"is_template": True, "preprocess": lambda self, payload: payload}
    # Not called as it is: gradio's metaclass would write a .pyi file beside this one.
    return ABCMeta.__new__(type(kind), kind.__name__, (kind,), changed)


def _html(mount: str, elem_id: str, value: Any, **props: Any) -> gr.HTML:
    """A component drawn by assets/page: no template, since templates run what is put into them."""
    return gr.HTML(
        value,
        elem_id=elem_id,
        html_template="",
        apply_default_css=False,
        head=page.scripts(PAGE),
        js_on_load=f"Stairs.{mount}(element, props, watch)",
        **props,
    )


def _wire(demo: gr.Blocks, parts: dict[str, Any]) -> None:
    def pick(*names: str) -> list[Any]:
        return [parts[name] for name in names]

    def named(function: Callable[..., Updates | Iterator[Updates]]) -> Callable[..., Any]:
        """``function``, its Updates turned into what gradio takes: values by component."""

        @functools.wraps(function)
        def stream(*args: Any) -> Iterator[dict[Any, Any]]:
            result = function(*args)
            for updates in [result] if isinstance(result, dict) else result:
                # An empty dict would be taken for the value of the first component.
                yield {parts[name]: value for name, value in updates.items()} or gr.skip()

        return stream

    names = {part: name for name, part in parts.items()}

    def asking(function: Callable[..., Updates | Iterator[Updates]]) -> Callable[..., Any]:
        """``function``, which takes what widgets hold by their names, and who asks."""

        def stream(held: dict[Any, Any], request: gr.Request) -> Iterator[dict[Any, Any]]:
            asked = {names[part]: value for part, value in held.items()}
            yield from named(function)(asked, request)

        return stream

    shown = pick("stage", "notice", *controls.FILES)
    switched = pick("run", "stop", "open", "recorded")
    once: dict[str, Any] = {"concurrency_limit": 1, "trigger_mode": "once"}
    waiting = page.js(page.notice(page.QUEUED, "wait"))
    parts["run"].click(None, None, parts["notice"], js=f"() => ({waiting})", **_QUIET)
    asked = {*pick("spec", *lanes.ASKED)}
    parts["run"].click(asking(run), asked, shown + switched, **once, **_QUIET)
    parts["stop"].click(stop, queue=False, **_QUIET)
    parts["new-seed"].click(None, None, parts["seed"], js=controls.NEW_SEED, **_QUIET)
    parts["open"].upload(named(open_trace), parts["open"], [*shown, parts["recorded"]], **_QUIET)
    parts["recorded"].input(named(open_recorded), parts["recorded"], shown, **_QUIET)
    linked = [*shown, parts["recorded"], *pick(*lanes.HELD)]
    link = demo.load(named(open_link), parts["link"], linked, js=controls.LINK, **_QUIET)
    described = link.then(named(describe), None, pick("head", "notice"), **_QUIET)
    loaded = pick("head", "models", "preset", "model-notice", "spec", "load", "leave")
    own = {*pick("preset", "own")}
    done = parts["load"].click(asking(load), own, loaded, trigger_mode="once", **_QUIET)
    who = [
        *dict.fromkeys(
            ("notice", "kept", "lacking", "chat", "turn", *lanes.DRAFTING, *lanes.LAID_OUT)
        )
    ]
    priced = asking(preflight), asked, parts["preflight"]
    for ready in (described, done):
        # What the widgets hold by then, the link's guessers or others that were chosen meanwhile.
        adapted = ready.then(asking(adapt), {*asked, parts["kept"]}, pick(*who), **_QUIET)
        adapted.then(*priced, **_QUIET)
    for name in lanes.PRICED:
        parts[name].change(*priced, trigger_mode="always_last", **_QUIET)
    parts["chat"].input(None, parts["chat"], parts["turn"], js=controls.CHATTING, **_QUIET)
    parts["leave"].click(leave, queue=False, **_QUIET)
    parts["preset"].input(None, None, parts["own"], js="() => ''", **_QUIET)
    demo.unload(leave)
    demo.unload(stop)
    for i, text in enumerate(page.PROMPTS.values()):
        js = f"() => {page.js(text)}"
        parts[f"example-{i}"].click(None, None, parts["prompt"], js=js, **_QUIET)


def _wire_guessers(parts: dict[str, Any]) -> None:
    """Who guesses comes and goes in the browser alone (``guessers`` in assets/page/around.js)."""
    who, laid_out = ([parts[name] for name in names] for names in (lanes.DRAFTING, lanes.LAID_OUT))

    def lay_out(event: Callable[..., Any], change: str) -> None:
        js = f"(lacking, ...who) => Stairs.guessers({page.js(lanes.READ)}, who, {change}, lacking)"
        event(None, [parts["lacking"], *who], laid_out, js=js, **_QUIET)

    for i, guesser in enumerate(lanes.GUESSERS):
        auto, k = parts[f"auto{guesser}"], parts[f"k{guesser}"]
        auto.input(None, auto, k, js=controls.BY_HAND, **_QUIET)
        lay_out(parts[f"drafter{guesser}"].input, "null")
        if i:
            lay_out(parts[f"remove{guesser}"].click, str(i))
    lay_out(parts["add"].click, page.js("add"))


def main() -> None:
    try:
        blocks = build()
    except InputError as e:
        raise SystemExit(str(e)) from e
    loading = live.models()
    if live.ZERO_GPU:
        loading.result()  # there, the models must be on the device before the first call
    host = "0.0.0.0" if "SPACE_ID" in os.environ else "127.0.0.1"
    theme = Base(font=look.FONT, font_mono=look.MONO, radius_size="md")
    blocks.queue(default_concurrency_limit=8, max_size=64).launch(
        server_name=os.environ.get("GRADIO_SERVER_NAME") or os.environ.get("HOST") or host,
        server_port=int(os.environ.get("GRADIO_SERVER_PORT") or os.environ.get("PORT") or 7860),
        theme=theme.set(**look.theme()),
        css_paths=[PAGE / f"{name}.css" for name in page.STYLES],
        footer_links=[],
        max_file_size="100mb",
        ssr_mode=False,
    )


if __name__ == "__main__":
    main()
