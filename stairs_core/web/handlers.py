"""What happens when a visitor presses, chooses or opens something. No gradio: app.py connects it.

A handler takes ``asked``: what the widgets that it reads hold, by their names; under "visitor" who
asks, a session, and under "address" its client. It returns, or yields one after the other, new
values of components, by their names. The page may show the later ones alone, all that was told by
then in them.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ..models import out_of_memory
from ..render import preflight_card
from ..render.summary import Kind
from ..traces import files
from ..traces.records import Recording
from . import (
    form,
    live_race,
    notices,
    permalinks,
    presence,
    presets,
    replay,
    resume,
    run_reports,
    stage_value,
    visitors,
    widgets,
    zero_gpu,
)
from .notices import notice, sentence
from .temp_folders import Folders

if TYPE_CHECKING:
    from ..models.pair import Pair
    from ..settings.methods import Lack

TRACES = Path(__file__).resolve().parents[2] / "assets" / "traces"
Asked = Mapping[str, Any]
Updates = dict[str, Any]
"""New values by the names of components, or a ``Change``; the others stay as they are."""
Handler = Callable[[Asked], Updates | Iterator[Updates]]

_running: dict[str, live_race.Flag] = {}
_loading: dict[str, live_race.Flag] = {}
_made = Folders(prefix="stairs-")


class Change(dict[str, Any]):
    """New properties of a component, ``value`` among them or not: what ``gradio.update`` takes."""


def run(asked: Asked) -> Iterator[Updates]:
    """Streams one race. Bad input, or a failure before the first step, leaves the last result where
    it was; after a later failure, what was written stays."""
    visitor = asked["visitor"]
    if visitor in _running or presence.gone(visitor):
        yield {"notice": notice(notices.BUSY if visitor in _running else notices.GONE)}
        return
    live, ended = stage_value.LiveValue(uuid4().hex), {}
    who, began, own = _who(asked), None, contextlib.ExitStack()
    try:
        visitors.current().admit(who)
        flag = _running[visitor] = live_race.Flag()
        flag.seconds = visitors.current().seconds(who)
        # For a pasted text, until the run is over: folders for results are swept away before.
        folder = Path(own.enter_context(_folder()))
        settings = form.settings(asked, folder)  # what is wrong is said at once
        yield {"notice": notice(notices.STARTING, "wait"), **run_buttons(idle=False)}
        if asked.get("fitted", asked["spec"]) != asked["spec"]:
            # Pressed before the pair was there, and with it what the form holds for it.
            pair = live_race.shelf().get(asked["spec"], flag)
            asked = {**asked, **_fitting(pair, pair.lacks(), asked)[0]}
            settings = form.settings(asked, folder)
        race = live_race.race(form.text(asked, "prompt"), settings, flag, asked["spec"])
        began, stopped = time.monotonic(), False
        batches = live_race.batches(race, flag)
        for events in run_reports.watched(batches, "page", settings, live.lanes):
            stopped = flag.asked
            live.add(events)
            if live.lanes.started:
                yield {"stage": live.value(), "notice": notice()}
            if presence.gone(visitor):
                flag.set()
                ended = {"notice": notice(notices.GONE)}
        cut = any(lane.stop.reason == "stopped" for lane in live.lanes.recordings())
        if cut and not stopped and not ended:
            ended = {"notice": notice(notices.late(flag.seconds))}
    except Exception as e:
        ended = {"notice": notice(sentence(e, notices.NO_RUN))}
        if out_of_memory.place(e):
            ended |= _offer(asked)
            out_of_memory.forget(e)
    finally:
        if flag := _running.pop(visitor, None):
            flag.set()
        own.close()
        if began is not None:
            visitors.current().charge(who, time.monotonic() - began)
    if live.lanes.started:
        ended = {"stage": live.value(running=False), **ended}
    yield ended
    if live.lanes.started:
        yield _files(live.lanes.recordings(), None, time.strftime("stairs-%Y%m%d-%H%M%S"))
        yield {"recorded": Change(value=None)}


def _folder() -> tempfile.TemporaryDirectory[str]:
    """A folder that is there as long as what it is made for."""
    return tempfile.TemporaryDirectory(prefix="stairs-", ignore_cleanup_errors=True)


def _offer(asked: Asked) -> Updates:
    """The button that makes the form ask for less, if it can."""
    less = form.smaller(asked)
    return {"smaller": Change(visible=True, value=widgets.asking_less(less))} if less else {}


def ask_less(asked: Asked) -> Updates:
    """Makes the form ask for what takes less memory."""
    try:
        less = _form(form.smaller(asked), asked)
    except Exception as e:
        return {"notice": notice(sentence(e, notices.NO_LESS))}
    return {**less, "smaller": Change(visible=False), "notice": notice()}


def stop(visitor: str) -> None:
    """Asks the visitor's run, if there is one, to end after the steps that are being made."""
    if flag := _running.get(visitor):
        flag.set()


def load(asked: Asked) -> Iterator[Updates]:
    """Loads another pair for the visitor. A failure, or a stop, leaves the one in use in place."""
    try:
        visitors.current().admit(_who(asked))
        spec = form.text(asked, "own").strip() or form.text(asked, "preset")
        yield from _load(asked["visitor"], spec)
    except Exception as e:
        failed = notice(sentence(e, notices.NO_MODELS))
        if out_of_memory.place(e):
            out_of_memory.forget(e)
        yield {"model-notice": failed}


def _load(visitor: str, spec: str) -> Iterator[Updates]:
    flag, shelf = live_race.Flag(), live_race.shelf()
    _loading[visitor] = flag
    try:
        yield load_buttons(idle=False)
        for words in shelf.loading(spec, flag):
            yield {"model-notice": notice(words, "wait")}
            if presence.gone(visitor):
                flag.set()
        yield {"head": _chips(shelf.get(spec)), **_in_use(spec), "model-notice": notice()}
    finally:
        flag.set()
        _loading.pop(visitor, None)


def _in_use(spec: str) -> Updates:
    """The page once it uses a pair."""
    return {
        "spec": spec,
        "models": Change(label=widgets.title(spec)),
        "preset": Change(**widgets.pairs(spec)),
        "try": Change(visible=presets.offer(spec) is not None),
    }


def try_chat(asked: Asked) -> Iterator[Updates]:
    """Loads the chat model that the page offers."""
    if known := presets.offer(asked["spec"]):
        yield from load({**asked, "own": "", "preset": known.name})


def leave(visitor: str) -> None:
    """Ends the visitor's loading, if there is one."""
    if flag := _loading.get(visitor):
        flag.set()


def describe(asked: Asked) -> Updates:
    """Waits for the pair of models in use, most often the first one; says what they are."""
    try:
        return {"head": _chips(live_race.shelf().get(asked["spec"]))}
    except Exception as e:
        return {"head": ["no models"], "notice": notice(sentence(e, notices.NO_MODELS))}


def adapt(asked: Asked) -> Updates:
    """Fits the form to the pair in use: other drafters in place of those that cannot draft with
    it, and the chat template only where it has one."""
    try:
        pair = live_race.shelf().get(asked["spec"])
    except Exception:
        return {}  # `describe` or `load` has reported it
    lacks, chat = pair.lacks(), pair.has_chat_template
    values, kept, changes = _fitting(pair, lacks, asked)
    updates = _form(values, asked) if changes else {}
    for name in form.DRAFTING:
        updates[name] = Change(updates.get(name, {}), choices=form.menu(lacks))
    updates["chat"] = Change(updates.get("chat", {}), interactive=chat)
    prompt, of_prompt = widgets.suited(asked["prompt"], asked["kept"], chat)
    if prompt != asked["prompt"]:
        updates["prompt"] = Change(value=prompt)
    for i, label in enumerate(widgets.CHATS if chat else widgets.PROMPTS):
        updates[f"example-{i}"] = Change(value=label)
    if changes:
        updates["notice"] = notice(" ".join(changes), "wait")
    lacking = ",".join(name for name, lack in lacks.items() if not lack.but)
    return {
        "kept": kept | of_prompt,
        "lacking": lacking,
        "fitted": asked["spec"],
        **updates,
    }


def _fitting(
    pair: Pair, lacks: Mapping[str, Lack], asked: Asked
) -> tuple[dict[str, Any], form.Kept, list[str]]:
    """As ``form.fit``, for the pair in use, which has these ``lacks``."""
    outdone = {"model": notices.OUTDONE} if pair.own_draft else {}
    return form.fit(asked, asked["kept"], lacks, pair.has_chat_template, outdone)


def preflight(asked: Asked) -> Updates:
    """What to expect of the first drafter, before a run; or why nothing can be said."""
    if zero_gpu.ON:
        return {"preflight": notices.card(notices.UNMEASURED)}
    try:
        with _folder() as folder:
            settings = next(iter(form.settings(_short(asked), Path(folder)).values()))
            return {"preflight": preflight_card.shown(live_race.preflight(settings, asked["spec"]))}
    except Exception as e:
        return {"preflight": notices.card(sentence(e, notices.NO_CARD))}


def _short(asked: Asked) -> Asked:
    """The form as the card needs it. Texts that somebody gave only cost time there, as much as they
    are long: a word stands for references, and the system prompt is left out."""
    given = asked["files"] or form.text(asked, "pasted").strip()
    return {**asked, "pasted": "text" if given else "", "files": None, "system": ""}


def open_trace(asked: Asked) -> Updates:
    """Shows a trace, or a log, from a file of the visitor's."""
    path = asked["open"]
    if not path:
        return {}
    try:
        form.take_uploads()
        visitors.current().admit(_who(asked))
    except Exception as e:
        return {"notice": notice(sentence(e, notices.NOT_SHOWN))}
    shown = _show_file(Path(path), "file", Path(path).name)
    return shown | {"recorded": Change(value=None)} if "stage" in shown else shown


def open_recorded(asked: Asked) -> Updates:
    """Shows one of the recorded runs that come with the page."""
    name = asked["recorded"]
    if not name:
        return {}
    path = recorded().get(str(name))
    return _show_file(path, "recorded", name) if path else {"notice": notice(notices.NO_SUCH_RUN)}


def open_link(asked: Asked) -> Updates:
    """Shows what the page's address asks for behind its #, or what a page before it has kept: see
    ``permalinks`` and ``resume``."""
    link = asked["link"] or ""
    try:
        if link:
            visitors.current().admit(_who(asked))
        if link.startswith(resume.KEPT):
            return _resume(resume.read(link.removeprefix(resume.KEPT)))
        kind, value = permalinks.read(link)
        if kind == "run":
            shown = open_recorded({"recorded": value})
            return shown | ({"recorded": Change(value=value)} if "stage" in shown else {})
        if kind == "settings":
            held = permalinks.unpack_settings(value)
            kept = form.chosen(held)
            return _form(held, {}) | ({"kept": kept} if kept or "chat" in held else {})
        return _show(permalinks.unpack(value), None, "link", "a link") if kind else {}
    except Exception as e:
        return {"notice": notice(sentence(e, notices.NOT_SHOWN))}


def _resume(kept: resume.Kept) -> Updates:
    """The page as it was before its server was gone, as far as that can be."""
    updates, said = {**_form(kept.form, {}), "kept": form.chosen(kept.form)}, [notices.BACK]
    if kept.pair and live_race.shelf().has(kept.pair):
        updates |= _in_use(kept.pair)
    elif kept.pair:
        said.append(notices.OTHER_PAIR)
    if kept.files:
        said.append(notices.NO_FILES)
    if kept.kind == "recorded" and kept.name in recorded():
        updates |= open_recorded({"recorded": kept.name}) | {"recorded": Change(value=kept.name)}
    elif kept.lanes:
        updates |= _show(kept.lanes, None, kept.kind, kept.name) | {"recorded": Change(value=None)}
    wrong = updates.get("notice", {}).get("text")  # its files cannot be made
    return {**updates, "notice": notice(" ".join([*said, wrong] if wrong else said), "wait")}


def recorded() -> dict[str, Path]:
    """The recorded runs that come with the page, by the names they are shown with."""
    return {p.stem.replace("-", " "): p for p in sorted(TRACES.glob("*.jsonl"))}


def _who(asked: Asked) -> str:
    """Whom limits count: the address that gradio knows, else the session."""
    return asked.get("address") or asked.get("visitor", "")


def _chips(pair: Pair) -> list[str]:
    """The models of a pair, as the head of the page names them."""
    return [f"{role}: {name}" for role, name in pair.describe().items()]


def _form(values: Mapping[str, Any], now: Asked) -> Updates:
    """The form holding ``values``, and laid out for them."""
    return {name: Change(props) for name, props in form.held(values, now).items()}


def _show_file(path: Path, kind: Kind, name: str) -> Updates:
    try:
        return _show(files.open_any(path), path, kind, name)
    except Exception as e:
        return {"notice": notice(sentence(e, notices.NOT_SHOWN))}


def _show(recordings: list[Recording], path: Path | None, kind: Kind, name: str) -> Updates:
    """A run that is over, on the stage; or why it cannot be shown. ``path``: its file, None where
    one is still to be made."""
    try:
        stage = stage_value.value(uuid4().hex, recordings, kind, name)
    except Exception as e:
        return {"notice": notice(sentence(e, notices.NOT_SHOWN))}
    return {"stage": stage, "notice": notice(), **_files(recordings, path, "stairs", name)}


def _files(
    recordings: Sequence[Recording], path: Path | None, stem: str, name: str = ""
) -> Updates:
    """The files of a run that is over; why there are none, where they cannot be made.

    ``path``: its trace, None where that is still to be made, called ``stem``.
    """
    try:
        folder = _made.folder()
        if path is None:
            path = folder / f"{stem}.jsonl"
            files.write(path, recordings)
        return _downloads(path, recordings, name or stem, folder)
    except Exception as e:
        none = dict.fromkeys(widgets.FILES, Change(value=None, interactive=False))
        return {**none, "notice": notice(sentence(e, notices.NOT_SAVED))}


def _downloads(path: Path, recordings: Sequence[Recording], name: str, folder: Path) -> Updates:
    """The files of a run, for the buttons that save them; its replay is made in ``folder``."""
    page = folder / f"{path.stem}.html"
    replay.write(page, recordings, name)
    made = {"download": path, "replay": page}
    return {name: Change(value=str(file), interactive=True) for name, file in made.items()}


def run_buttons(*, idle: bool) -> Updates:
    """What can be pressed while the visitor has a run (not ``idle``), or has none."""
    free, busy = Change(interactive=idle), Change(interactive=not idle)
    return {"run": free, "stop": busy, "open": free, "recorded": free}


def load_buttons(*, idle: bool) -> Updates:
    """The same while models are loaded for the visitor."""
    free = Change(interactive=idle)
    return {"load": free, "try": free, "leave": Change(interactive=not idle)}
