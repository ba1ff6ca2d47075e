"""The page: what it consists of, and what is connected to what.

Run ``python app.py`` and open http://127.0.0.1:7860. HOST and PORT move it; STAIRS_PAIR names
another pair of models than the bundled one (see ``stairs_core.models.load.load_pair``).

What happens on a click is in ``stairs_core/web/handlers.py``; what is drawn, in ``assets/page``.
"""

from __future__ import annotations

import os

from stairs_core.errors import InputError
from stairs_core.importing import importing
from stairs_core.quiet import hush
from stairs_core.settings import address, limits

hush()  # before any library is imported
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported
try:
    address.port(os.environ)  # so is this one, and gradio ends in a traceback where it is no number
except InputError as e:
    raise SystemExit(str(e)) from e
if os.environ.get("GRADIO_SERVER_PORT") == "":  # to gradio that is no number either
    del os.environ["GRADIO_SERVER_PORT"]

with importing():
    import gradio as gr

import functools
import inspect
import json
from abc import ABCMeta
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

from gradio.queueing import Queue
from gradio.server_messages import ProcessCompletedMessage
from gradio.themes import Base
from gradio.utils import get_upload_folder
from starlette.middleware import Middleware
from uvicorn.config import LOGGING_CONFIG

from stairs_core.web import (
    form,
    handlers,
    live_race,
    log_lines,
    notices,
    page_files,
    presence,
    presets,
    programs,
    queue_shares,
    stage_value,
    theme,
    visitors,
    watching,
    widgets,
    zero_gpu,
)
from stairs_core.web.handlers import Change, Handler
from stairs_core.web.page_files import PAGE
from stairs_core.web.request_limits import RequestLimits
from stairs_core.web.security_headers import SecurityHeaders
from stairs_core.web.sendable import sendable
from stairs_core.web.widgets import Widget

PLOTLY = Path(str(find_spec("plotly").origin)).parent / "package_data" / "plotly.min.js"  # type: ignore[union-attr]
RUNS = "runs"
"""The queue of all that decodes."""
AT_ONCE = 8
"""Calls of a handler at once, where it does not wait for the one thread that computes."""
SESSIONS = 500
"""Visitors of whom gradio keeps what their pages hold, half a MB or more each, the latest ones: by
itself it keeps 10,000, and never lets go of one."""
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def build() -> gr.Blocks:
    """The page, its parts wired together."""
    gr.set_static_paths([PAGE, handlers.TRACES, PLOTLY])
    names = list(handlers.recorded())
    first = handlers.open_recorded({"recorded": names[0]}) if names else {}
    files = {name: first[name]["value"] for name in widgets.FILES if name in first}
    laid_out = widgets.layout(names, files)
    with gr.Blocks(title="Stairs", analytics_enabled=False, delete_cache=(3600, 86400)) as demo:
        parts: dict[str, Any] = {"head": _head()}
        parts["spec"], parts["kept"] = gr.State(""), gr.State(form.UNTOUCHED)
        parts["fitted"] = gr.State(None)  # the spec of the pair that the form was fitted to
        with gr.Row(elem_id="columns", equal_height=False):
            with gr.Column(elem_id="controls", scale=0, min_width=300):
                _make(laid_out, parts)
            with gr.Column(elem_id="results", scale=1, min_width=320):
                stage = first.get("stage") or stage_value.value("", [], "live")
                parts["stage"] = _html("mountStage", "stage", stage, plotly=page_files.url(PLOTLY))
        wires = Wires(parts)
        _wire_browser(demo, parts, wires)
        _wire_server(demo, parts, wires)
        if limits.current().api:
            _offer(programs.run)
            _offer(programs.race)
    return demo


def _make(widgets: Sequence[Widget], parts: dict[str, Any]) -> None:
    """Adds the components to ``parts``, by name."""
    for widget in widgets:
        kind = _html if widget.kind == "HTML" else getattr(gr, widget.kind)
        if widget.name in (*form.CHECKED, "preset", "recorded"):
            kind = _unchecked(kind)
        part = parts[widget.name] = kind(elem_id=widget.elem_id, **widget.options)
        if widget.inside:
            with part:
                _make(widget.inside, parts)


@functools.cache
def _unchecked(kind: type) -> type:
    """A kind of widget that passes on whatever it holds: Settings refuses what is out of range or
    unknown, in a sentence on the page. A class, since an update makes the widget anew.
    """
    changed = {"is_template": True, "preprocess": lambda self, payload: payload}
    # Not called as it is: gradio's metaclass would write a .pyi file beside this one.
    return ABCMeta.__new__(type(kind), kind.__name__, (kind,), changed)


def _head() -> gr.HTML:
    """The head of the page, which also says to the server that the page is still open."""
    held = {"process": presence.PROCESS, "server_functions": [presence.here]}
    return _html("mountHead", "head", [notices.LOADING], **held)


def _html(mount: str, elem_id: str, value: Any, **props: Any) -> gr.HTML:
    """A component drawn by assets/page: no template, since templates run what is put into them."""
    return gr.HTML(
        value,
        elem_id=elem_id,
        html_template="",
        apply_default_css=False,
        head=page_files.scripts(),
        js_on_load=f"Stairs.{mount}(element, props, watch, server)",
        **props,
    )


class Wires:
    """Connects an event to what it runs. ``reads`` and ``changes``: names of components."""

    def __init__(self, parts: dict[str, Any]) -> None:
        self._parts = parts
        self._names = {part: name for name, part in parts.items()}
        # One function for a handler, however many events run it: gradio limits the calls of each.
        self._answer = functools.cache(self._make_answer)

    def server(
        self,
        event: Callable[..., Any],
        handler: Handler,
        reads: Iterable[str],
        changes: Iterable[str],
        **options: Any,
    ) -> Any:
        """Runs a handler here; returns the event of its end, whose ``then`` goes on from it."""
        # Of a set of components gradio makes one argument: a dict of their values.
        inputs, outputs = {*self._pick(reads)}, self._pick(changes)
        return event(self._answer(handler), inputs, outputs, **_QUIET, **options)

    def browser(
        self, event: Callable[..., Any], js: str, reads: Iterable[str], changes: Iterable[str]
    ) -> None:
        """Runs JavaScript in the visitor's browser, and nothing here."""
        event(None, self._pick(reads), self._pick(changes), js=js, **_QUIET)

    def change(self, event: Callable[..., Any], changes: dict[str, Change]) -> None:
        """Changes components in the visitor's browser."""
        updates = [{"__type__": "update", **change} for change in changes.values()]
        self.browser(event, f"() => ({json.dumps(updates)})", (), changes)

    def _make_answer(self, handler: Handler) -> Callable[..., Any]:
        """A handler as gradio calls it: components for their names, updates for each ``Change``."""

        def answer(held: dict[Any, Any], request: gr.Request) -> Iterator[dict[Any, Any]]:
            asked = {self._names[part]: value for part, value in held.items()}
            who = {"visitor": _visitor(request), "address": _address(request)}
            result = handler({**asked, **who})
            told: dict[str, Any] = {}
            for updates in [result] if isinstance(result, dict) else result:
                # Whatever was told is told again. Gradio's client puts what is new into the values
                # that it has, those that it has yet to draw among them: where it draws late, it
                # draws the last answer alone, as often as there were answers.
                told |= {n: _together(told.get(n), v) for n, v in updates.items()}
                # An empty dict would be taken for the value of the first component.
                yield {self._parts[n]: _update(v) for n, v in told.items()} or gr.skip()

        return answer

    def _pick(self, names: Iterable[str]) -> list[Any]:
        return [self._parts[name] for name in names]


def _visitor(request: gr.Request) -> str:
    """Who asks. A program may leave it out; then nobody else is taken for the same."""
    return request.session_hash or uuid4().hex


def _address(request: gr.Request) -> str:
    client = request.client
    forwarded = request.headers.get("x-forwarded-for", "")
    return visitors.address(client.host if client else "", forwarded)


def _together(before: Any, value: Any) -> Any:
    """What a component is told in all; ``before``: what it was told earlier."""
    both = isinstance(before, Change) and isinstance(value, Change)
    return Change(before, **value) if both else value


def _update(value: Any) -> Any:
    """What gradio sends for a value, or for new properties, of a component."""
    # Never a bare value: gradio makes a component that an answer leaves out anew, with an id of its
    # own, and would then keep every value of it under another id, as long as the visitor stays.
    return sendable(gr.update(**(value if isinstance(value, Change) else {"value": value})))


def _stop(request: gr.Request) -> None:
    handlers.stop(_visitor(request))


def _stopper(demo: gr.Blocks, notice: Any) -> Callable[..., Any]:
    """What Stop does: ends the visitor's run, also one that waits for its turn."""

    async def stop(request: gr.Request) -> None:
        visitor = _visitor(request)
        handlers.stop(visitor)
        await _withdraw(demo._queue, visitor, notice)

    return stop


async def _withdraw(queue: Queue, visitor: str, notice: Any) -> None:
    """Takes the visitor's runs that wait out of the queue. Gradio's client hears at once that they
    are over, as it does after gradio's own way to cancel an event."""
    async with queue.delete_lock:  # or one of them may begin meanwhile
        waiting = queue.event_queue_per_concurrency_id[RUNS].queue
        own = [event for event in waiting if event.session_hash == visitor]
        for event in own:
            waiting.remove(event)
            queue.event_ids_to_events.pop(event._id, None)
    said = _update(notices.notice(notices.WITHDRAWN))
    for event in own:
        data = [said if part is notice else gr.skip() for part in event.fn.outputs]
        output = {"data": data, "is_generating": False}
        queue.send_message(event, ProcessCompletedMessage(output=output, success=True))


def _leave(request: gr.Request) -> None:
    handlers.leave(_visitor(request))


def _close(request: gr.Request) -> None:
    presence.forget(_visitor(request))


def _wire_browser(demo: gr.Blocks, parts: dict[str, Any], wires: Wires) -> None:
    """Connects what the browser does alone: the form laid out, examples, the seed.

    Guessers come and go there too (``Stairs.guessers`` in assets/page). What the form holds is
    noted there at every change, for a page that must open anew.
    """
    noted = ("preset", *form.ASKED)
    changes = (parts[name].change for name in noted)
    js = f"(...held) => globalThis.Stairs?.hold?.({json.dumps(noted)}, held) ?? []"
    wires.browser(functools.partial(gr.on, [demo.load, *changes]), js, noted, ())
    queued = json.dumps(notices.notice(notices.QUEUED, "wait"))
    asked = f"() => [{queued}, Stairs.shows('smaller', false)]"
    wires.browser(parts["run"].click, asked, (), ("notice", "smaller"))
    # Run is off until `_free`. A run that waits for its turn can be stopped, too.
    busy = handlers.run_buttons(idle=False)
    wires.change(parts["run"].click, {name: busy[name] for name in ("run", "stop")})
    wires.browser(parts["new-seed"].click, widgets.NEW_SEED, (), ("seed",))
    wires.browser(parts["chat"].input, widgets.CHATTING, ("chat",), ("turn",))
    wires.browser(parts["preset"].input, "() => ''", (), ("own",))
    # How far the chat model is, is said there.
    wires.change(parts["try"].click, {"models": Change(open=True), "own": Change(value="")})
    for i in range(len(widgets.PROMPTS)):
        js = f"label => ({json.dumps(widgets.PROMPTS | widgets.CHATS)})[label]"
        wires.browser(parts[f"example-{i}"].click, js, (f"example-{i}",), ("prompt",))

    def lay_out(event: Callable[..., Any], change: str) -> None:
        reads = json.dumps(form.READ)
        js = f"(lacking, ...who) => Stairs.guessers({reads}, who, {change}, lacking)"
        wires.browser(event, js, ("lacking", *form.DRAFTING), form.LAID_OUT)

    for i, guesser in enumerate(form.GUESSERS):
        auto, k = f"auto{guesser}", f"k{guesser}"
        wires.browser(parts[auto].input, widgets.BY_HAND, (auto,), (k,))
        lay_out(parts[f"drafter{guesser}"].input, "null")
        if i:
            lay_out(parts[f"remove{guesser}"].click, str(i))
    lay_out(parts["add"].click, json.dumps("add"))


def _wire_server(demo: gr.Blocks, parts: dict[str, Any], wires: Wires) -> None:
    """Connects what needs Python."""
    # What happens                 Its handlers                What they change
    # ------------                 ------------                ----------------
    # the page opens               open_link                   stage and files, or the form
    #   then                       describe                    head, notice
    #   then                       adapt, then preflight       drafter menus, then the card
    # Load                         load                        head, models, spec, buttons
    # Try a real chat model        try_chat                    the same
    #   then, of both              adapt, then preflight       drafter menus, then the card
    #   then, in the browser                                   buttons
    # the first guesser changes    preflight                   card; until then it says so
    # Run                          run, while it goes on       stage, notice, buttons
    #                              run, at its end             stage, files to save
    #   then, in the browser                                   buttons
    # Ask for less                 ask_less                    the form
    # Open trace or log            open_trace                  stage, notice, files to save
    # Recorded runs                open_recorded               stage, notice, files to save
    # Stop; the page closes        stop                        (`run` comes to its end)
    #   if it waits for its turn                               notice, buttons
    # Stop loading; closes         leave                       (`load` comes to its end)
    shown = ("stage", "notice", *widgets.FILES)
    asked = ("spec", *form.ASKED)
    card = handlers.preflight, asked, ("preflight",)

    linked = (*shown, "recorded", "kept", "spec", "models", "preset", "try", *form.HELD)
    link = wires.server(demo.load, handlers.open_link, ("link",), linked, js=widgets.LINK)
    described = wires.server(link.then, handlers.describe, ("spec",), ("head", "notice"))
    named = ("head", "models", "preset", "model-notice", "spec", "load", "try", "leave")
    click, other = parts["load"].click, parts["try"].click
    loaded = wires.server(click, handlers.load, ("preset", "own"), named, trigger_mode="once")
    tried = wires.server(other, handlers.try_chat, ("spec",), named, trigger_mode="once")
    drafting = (*form.DRAFTING, *(f"{name}{g}" for g in form.GUESSERS for name in ("auto", "k")))
    fitted = ("notice", "kept", "fitted", "lacking", "chat", "turn", *drafting, *form.LAID_OUT)
    fitted += ("prompt", *(f"example-{i}" for i in range(len(widgets.PROMPTS))))
    for ready in (described, loaded, tried):
        # Reads what the form holds by then: a link, or the visitor, may have changed it meanwhile.
        adapted = wires.server(ready.then, handlers.adapt, (*asked, "kept"), dict.fromkeys(fitted))
        wires.server(adapted.then, *card)
    for ended in (loaded, tried):
        _free(wires, ended, handlers.load_buttons(idle=True))
    waits = json.dumps(notices.card(notices.MEASURING) | {"waits": True})
    unasked = json.dumps(notices.card(notices.UNASKED))
    for name in form.PRICED:
        wires.browser(parts[name].change, f"() => ({waits})", (), ("preflight",))
        priced = wires.server(parts[name].change, *card, trigger_mode="always_last")
        wires.browser(priced.failure, f"() => ({unasked})", (), ("preflight",))

    once: dict[str, Any] = {**_turn(), "trigger_mode": "once"}
    switched = ("run", "stop", "open", "recorded", "smaller")
    form_and_pair = (*asked, "kept", "fitted")
    changed = (*shown, *switched)
    ran = wires.server(parts["run"].click, handlers.run, form_and_pair, changed, **once)
    # A handler says itself what failed: this is gradio's refusal, when its queue is full.
    refused = json.dumps(notices.notice(notices.REFUSED))
    wires.browser(ran.failure, f"() => ({refused})", (), ("notice",))
    _free(wires, ran, handlers.run_buttons(idle=True))
    less = ("smaller", "notice", *form.HELD)
    wires.server(parts["smaller"].click, handlers.ask_less, asked, less)
    opened, chosen = parts["open"].upload, parts["recorded"].input
    latest = {"trigger_mode": "always_last"}
    wires.server(opened, handlers.open_trace, ("open",), (*shown, "recorded"), **latest)
    wires.server(chosen, handlers.open_recorded, ("recorded",), shown, **latest)

    # Not in the queue, where they would wait for what they are to end.
    parts["stop"].click(_stopper(demo, parts["notice"]), queue=False, **_QUIET)
    parts["leave"].click(_leave, queue=False, **_QUIET)
    demo.unload(_leave)
    demo.unload(_stop)
    demo.unload(_close)


def _free(wires: Wires, ended: Any, buttons: dict[str, Change]) -> None:
    """Frees what an event took, once Gradio's client takes it for over: until then the client
    passes over whoever presses again."""
    for over in (ended.then, ended.failure):  # no ``then`` comes after a failure
        wires.change(over, buttons)


def _turn() -> dict[str, Any]:
    """For all that decodes: it waits in one queue for its turn on the device."""
    # On ZeroGPU every run has a device of its own.
    most = AT_ONCE if zero_gpu.ON else limits.current().runs
    return {"concurrency_id": RUNS, "concurrency_limit": most}


def _share_queue(blocks: gr.Blocks) -> None:
    """Has gradio's queue refuse who holds their share of it: it counts all visitors as one."""
    queue = blocks._queue
    push = queue.push

    async def shared(body: Any, request: Any, username: str | None) -> Any:
        waiting = [e for one in queue.event_queue_per_concurrency_id.values() for e in one.queue]
        held = [(_address(e.request), e.concurrency_id == RUNS) for e in waiting]  # pyright: ignore[reportArgumentType]
        asked = blocks.fns.get(body.fn_index)
        run = asked is not None and asked.concurrency_id == RUNS
        try:
            queue_shares.check(_address(request), run, held, limits.current())
        except InputError as e:
            return False, str(e), "queue_full"
        return await push(body=body, request=request, username=username)

    queue.push = shared


def _offer(function: Callable[..., programs.Answers]) -> None:
    """Makes a function of ``programs`` an endpoint of Gradio's API, and a tool of its MCP server.

    Gradio reads names, types and docstring from the function that it is given.
    """

    @functools.wraps(function)
    def answer(request: gr.Request, *asked: Any) -> Iterator[Any]:
        kind = "mcp" if request.headers.get("x-gradio-user") == "mcp" else "api"
        caller = programs.Caller(kind, _address(request))
        try:
            with closing(function(*asked, caller=caller)) as answers:
                for told in answers:
                    # To gradio's MCP server as JSON: it writes a dict as Python does.
                    as_text = told and kind == "mcp"
                    yield json.dumps(told, ensure_ascii=False) if as_text else told
        except Exception as e:
            words = notices.sentence(e, notices.NO_RUN, programs.WORDS)
            raise gr.Error(words, print_exception=False) from e

    signature = inspect.signature(function)
    request = inspect.Parameter("request", inspect.Parameter.POSITIONAL_ONLY)
    named = [request, *(p for p in signature.parameters.values() if p.name != "caller")]
    seen = signature.replace(parameters=named, return_annotation=dict)
    answer.__signature__ = seen  # type: ignore[attr-defined]
    answer.__annotations__ = {**function.__annotations__, "request": gr.Request, "return": dict}
    gr.api(answer, **_turn())  # pyright: ignore[reportPrivateImportUsage]


def main() -> None:
    try:
        _check_tools()
        host, port = address.host(os.environ), address.port(os.environ)
        _check_address(host, port)
        blocks = build()
        loading = live_race.models()
        if zero_gpu.ON:
            loading.result()  # there, the models must be on the device before the first call
    except InputError as e:
        raise SystemExit(str(e)) from e
    allowed = limits.current()
    _log_start(allowed)
    # Not open: programs wait in the queue, too.
    blocks.queue(default_concurrency_limit=AT_ONCE, max_size=allowed.queue, api_open=False)
    _share_queue(blocks)
    try:
        _launch(blocks, allowed, host, port)
    except OSError as e:
        if e.errno is not None:  # of a file; gradio's own on ports has none
            raise
        raise SystemExit(_unheard(host, port)) from e


def _check_address(host: str, port: int) -> None:
    """Raises InputError where the page cannot listen there: before models are loaded for it."""
    try:
        address.listen(host, port)
    except (OSError, UnicodeError) as e:  # UnicodeError: no name that a network may have
        raise InputError(_unheard(host, port)) from e


def _unheard(host: str, port: int) -> str:
    return (
        f"The page cannot listen on {host:.100}:{port}: the port is taken, or may not be used, or "
        "the host is none of this machine; set PORT or HOST."
    )


def _launch(blocks: gr.Blocks, allowed: limits.Limits, host: str, port: int) -> None:
    """Serves the page until the program is told to end."""
    base = Base(font=theme.FONT, font_mono=theme.MONO, radius_size="md")
    blocks.launch(
        server_name=host,
        server_port=port,
        theme=base.set(**theme.theme()),
        head=page_files.head(),
        css_paths=[PAGE / f"styles/{name}.css" for name in page_files.STYLES],
        footer_links=[],
        # A byte: gradio has no switch for uploads.
        max_file_size=int(allowed.upload_mb * 2**20) if allowed.uploads else 1,
        ssr_mode=False,
        state_session_capacity=SESSIONS,
        quiet=allowed.json_logs,  # gradio's own lines are none of JSON
        mcp_server=allowed.api and allowed.mcp,
        enable_monitoring=False,
        app_kwargs={
            "routes": watching.routes(lambda: blocks._queue.get_status().queue_size),
            "middleware": _guards(),
        },
    )


def _check_tools() -> None:
    """Raises InputError where the MCP server is asked for and cannot be had."""
    if limits.current().mcp and find_spec("mcp") is None:
        raise InputError(
            f"{limits.variable('mcp')} is on, but the package mcp is missing: install it with "
            "pip install 'gradio[mcp]'."
        )


def _log_start(allowed: limits.Limits) -> None:
    log_lines.start(allowed.json_logs)
    if allowed.json_logs:
        # The server's loggers, which it sets up itself when it starts, have no format of their own.
        LOGGING_CONFIG["loggers"] = {"uvicorn": {"propagate": True}}
        log_lines.event("start", pair=presets.first(), **asdict(allowed))
    else:
        log_lines.event("start", pair=presets.first())
        print(limits.line(allowed, os.environ), flush=True)


def _guards() -> list[Middleware]:
    """What stands between a stranger's request and gradio, the outermost first."""
    uploads = Path(get_upload_folder())
    return [Middleware(SecurityHeaders), Middleware(RequestLimits, uploads=uploads)]


if __name__ == "__main__":
    main()
