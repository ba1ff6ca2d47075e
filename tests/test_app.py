"""The page's handlers and what they send, on made-up recordings: no model, no browser."""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import page_runs
import pytest

import app
from stairs_core import live, metrics, tracefile
from stairs_core.errors import InputError
from stairs_core.render import charts, page
from stairs_core.settings import AUTO

VISITOR = SimpleNamespace(session_hash="a visitor")


def asking(**changes) -> tuple:
    """What the widgets hold, in the order in which a run is asked for."""
    values = {
        "prompt": "Once upon a time",
        "drafter": "model",
        "k": 5.0,
        "auto": False,
        "length": 96.0,
        "backend": "single_kv",
        "strict": False,
        "chat": False,
    }
    return tuple((values | changes).values())


ASKED = asking()


@pytest.fixture
def engine(monkeypatch):
    """Stands in for the engine: plays ``made.events``, and stops when it is asked to."""
    made = SimpleNamespace(lanes=page_runs.pair(), asked=[], wait=0.0)

    def race(prompt, settings, flag):
        made.asked.append((prompt, settings))
        heads = [(i, lane.run) for i, lane in enumerate(made.lanes)]
        steps = [(i, s) for i, lane in enumerate(made.lanes) for s in lane.steps]
        for record in [*heads, *sorted(steps, key=lambda r: r[1].elapsed)]:
            if flag.is_set():
                break
            time.sleep(made.wait)
            yield record
        yield from ((i, lane.stop) for i, lane in enumerate(made.lanes))

    monkeypatch.setattr(live, "race", race)
    return made


def play(*asked):
    return list(app.run(*(asked or ASKED), VISITOR))


def last(updates, name):
    return [u[name] for u in updates if name in u][-1]


def test_a_run_streams_a_trace_that_only_grows(engine):
    engine.wait = 0.005
    updates = play()
    values = [u["stage"] for u in updates if "stage" in u]
    assert len(values) > 3
    texts = [v["trace"] for v in values]
    assert all(b.startswith(a) for a, b in zip(texts, texts[1:], strict=False))
    assert len({v["run"] for v in values}) == 1
    assert [v["running"] for v in values] == [True] * (len(values) - 1) + [False]
    assert tracefile.loads(texts[-1]) == engine.lanes
    assert engine.asked[0][1].k == 5


def test_the_download_is_the_trace_that_was_shown(engine):
    for updates in app.run(*ASKED, VISITOR):
        if "download" in updates:
            offered = updates["download"]["value"]
            assert tracefile.read(offered) == engine.lanes
            return
    pytest.fail("nothing was offered")


def test_run_and_stop_take_turns(engine):
    updates = play()
    switched = [u for u in updates if "run" in u]
    assert [u["run"]["interactive"] for u in switched] == [False, True]
    assert [u["stop"]["interactive"] for u in switched] == [True, False]
    assert not app._running


def test_stop_ends_the_visitors_run_and_no_other(engine):
    engine.wait = 0.02
    updates = []
    for update in app.run(*ASKED, VISITOR):
        updates.append(update)
        app.stop(SimpleNamespace(session_hash="somebody else"))
        if len(updates) == 3:
            app.stop(VISITOR)
    lanes = tracefile.loads(last(updates, "stage")["trace"])
    assert 0 < len(lanes[1].steps) < len(engine.lanes[1].steps)


def test_a_visitor_who_leaves_ends_the_run(engine):
    engine.wait = 0.01
    stream = app.run(*ASKED, VISITOR)
    next(stream)
    next(stream)
    flag = app._running["a visitor"]
    stream.close()
    assert flag.is_set()
    assert not app._running


def test_one_run_a_visitor(engine):
    first = app.run(*ASKED, VISITOR)
    next(first)
    (second,) = play()
    assert second == {"notice": page.notice(page.BUSY)}
    first.close()


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({"k": 0.0}, "K is 0"),
        ({"k": 99.0}, "K is 99"),
        ({"k": 2.5}, "K is 2.5"),
        ({"k": None}, "K is None"),
        ({"length": 10**9}, "new tokens"),
        ({"backend": "magic"}, "magic"),
        ({"drafter": "crystal ball"}, "crystal ball"),
        ({"strict": True, "backend": "matrix"}, "no strict numerics"),
    ],
)
def test_bad_settings_are_one_sentence_and_leave_the_result(engine, asked, word):
    updates = play(*asking(**asked))
    assert all("stage" not in u for u in updates)
    assert word in last(updates, "notice")["text"]
    assert last(updates, "run")["interactive"]


def test_every_widget_reaches_the_settings(engine):
    play(*asking(drafter="hybrid", k=3.0, auto=True, length=48.0, strict=True, backend="single"))
    ((prompt, settings),) = engine.asked
    assert (prompt, settings.drafter, settings.backend) == ("Once upon a time", "hybrid", "single")
    assert (settings.length, settings.numerics) == ("cost", "strict")
    assert (settings.max_new_tokens, settings.k) == (48, AUTO["k"])
    play(*asking(k=3.0))
    assert (engine.asked[1][1].k, engine.asked[1][1].length) == (3, "constant")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InputError("The prompt is empty."), "The prompt is empty."),
        (MemoryError(""), "MemoryError"),
    ],
)
def test_an_engine_that_breaks_is_one_sentence(monkeypatch, caplog, error, text):
    def broken(*_):
        raise error
        yield

    monkeypatch.setattr(live, "race", broken)
    updates = play()
    assert all("stage" not in u for u in updates)
    assert text in last(updates, "notice")["text"]
    assert "\n" not in last(updates, "notice")["text"]


def test_a_trace_can_be_opened(tmp_path):
    path = tmp_path / "mine.jsonl"
    tracefile.write(path, page_runs.pair())
    shown = app.open_trace(str(path))
    assert tracefile.loads(shown["stage"]["trace"]) == page_runs.pair()
    assert shown["stage"]["source"]["kind"] == "file"
    assert "mine.jsonl" in shown["stage"]["source"]["text"]
    assert shown["notice"] == page.notice()
    assert app.open_trace(None) == {}


def test_a_recorded_run_says_that_it_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr(app, "TRACES", tmp_path)
    assert app.recorded() == {}
    assert app.open_recorded(None) == {}
    tracefile.write(tmp_path / "a-fox.jsonl", page_runs.pair())
    shown = app.open_recorded("a fox")["stage"]
    assert shown["source"]["kind"] == "recorded"
    assert "no machine (made up)" in shown["source"]["text"]


def _newer(text):
    return text.replace('"schema": 1', '"schema": 9')


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda t: "", "empty"),
        (lambda t: "hello", "not a Stairs trace"),
        (lambda t: "[" * 100_000, "not a Stairs trace"),
        (lambda t: t[: len(t) // 2], "cut off"),
        (_newer, "newer"),
        (lambda t: t + "\n" * (50 * 2**20), "MB"),
    ],
)
def test_a_file_that_is_no_trace_is_one_sentence(tmp_path, change, word):
    path = tmp_path / "bad.jsonl"
    path.write_text(change(tracefile.dumps(page_runs.pair())), encoding="utf-8")
    updates = app.open_trace(str(path))
    assert list(updates) == ["notice"]
    assert word in updates["notice"]["text"]


def test_the_numbers_are_the_metrics():
    lanes = page_runs.pair()
    both, alone, lead = metrics.compare(*lanes), *(metrics.fold(lane.steps) for lane in lanes)
    shown = [n["value"] for n in page.numbers(lanes)]
    assert shown == [
        f"{both.speedup:.2f} ×",
        f"{alone.tokens_per_second:.1f}",
        f"{lead.tokens_per_second:.1f}",
        f"{lead.tokens_per_target_call:.2f}",
        f"{lead.acceptance_rate:.2f}",
        f"{lead.alpha:.2f}",
        str(both.calls_saved),
    ]


def test_what_is_not_known_is_a_dash():
    lanes = [replace(lane, steps=()) for lane in page_runs.pair()]
    assert [n["value"] for n in page.numbers(lanes, running=True)][:3] == ["–", "–", "–"]
    alone, stairs = page_runs.pair()
    assert [n["value"] == "–" for n in page.numbers([alone])] == [True, False, *[True] * 5]
    assert [n["value"] == "–" for n in page.numbers([stairs])] == [True, True, *[False] * 4, True]
    assert page.numbers(page_runs.pair(), running=True)[-1]["value"] == "–"
    assert len(page.numbers([])) == 7


def test_the_verdict():
    texts = page_runs.words(page_runs.STORY)
    lanes = page_runs.pair(texts)
    assert page.verdict(lanes)["text"] == f"Same text: yes, all {len(texts)} tokens."
    assert page.verdict(lanes, running=True)["state"] == "open"
    assert "not compared" in page.verdict(lanes[:1])["text"]
    assert page.verdict([])["text"] == "Nothing has run yet."
    shorter = [lanes[0], page_runs.lane(texts[:20], stopped=True)]
    assert page.verdict(shorter) == {
        "state": "yes",
        "text": "Same text: yes, the 20 tokens that both had written when the run was stopped.",
    }
    ended = [lanes[0], page_runs.lane(texts[:20])]
    assert page.verdict(ended)["state"] == "no"


def test_the_verdict_names_the_first_difference():
    alone, stairs = page_runs.pair()
    step = stairs.steps[2]
    own = replace(step.tokens[-1], id=9999, text=" cat")
    said = list(step.predictions)
    said[step.accepted] = replace(said[step.accepted], id=9999, text=" cat", margin=2e-5)
    changed = replace(step, tokens=(*step.tokens[:-1], own), predictions=tuple(said))
    other = replace(stairs, steps=(*stairs.steps[:2], changed, *stairs.steps[3:]))
    other = replace(other, stop=replace(other.stop, noise=1e-5))
    verdict = page.verdict([alone, other])
    position = metrics.compare(alone, other).first_difference.position
    assert verdict["state"] == "no"
    assert f"new token {position + 1}" in verdict["text"]
    assert "rounding tie" in verdict["text"]


def test_the_curve_of_the_speedup_ends_at_the_speedup():
    alone, stairs = page_runs.pair()
    tokens, ratios = charts.speedup_so_far(alone.steps, stairs.steps)
    assert ratios[-1] == pytest.approx(metrics.compare(alone, stairs).speedup)
    assert tokens[-1] == metrics.fold(stairs.steps).new_tokens
    half, _ = charts.speedup_so_far(alone.steps[:20], stairs.steps)
    assert half[-1] <= 20


def test_the_figure_holds_both_lanes_and_no_colour_of_its_own():
    lanes = page_runs.pair()
    lanes[1] = replace(lanes[1], run=replace(lanes[1].run, name="<b>&"))
    figure = charts.figure(lanes)
    assert [t.name for t in figure.data] == ["Target alone", "&lt;b&gt;&amp;", "Speedup so far"]
    assert list(figure.data[1].y)[-1] == metrics.fold(lanes[1].steps).new_tokens
    assert "#" not in figure.to_json()
    assert len(charts.figure(lanes[:1]).data) == 1
    json.loads(page.value("one", "", lanes, "live")["figure"])


def test_batches_hand_on_everything_in_order():
    flag = live.Flag()
    records = [(0, i) for i in range(50)]
    got = [r for batch in live.batches(iter(records), flag, 0.001) for r in batch]
    assert got == records
    assert flag.is_set()


def test_the_engine_does_not_wait_for_the_page():
    done = threading.Event()

    def race():
        yield from ((0, i) for i in range(1000))
        done.set()

    batches = live.batches(race(), live.Flag(), 0.001)
    next(batches)
    assert done.wait(5)
    batches.close()


def test_on_zero_gpu_a_race_is_one_call_for_the_gpu(monkeypatch):
    def function():
        return "race"

    assert live.on_gpu(function) is function
    calls = []
    spaces = SimpleNamespace(GPU=lambda f: calls.append(f) or f)
    monkeypatch.setitem(sys.modules, "spaces", spaces)
    monkeypatch.setattr(live, "ZERO_GPU", True)
    assert live.on_gpu(function)() == "race"
    assert calls == [function]


@pytest.mark.parametrize(
    ("environment", "address"),
    [
        ({}, ("127.0.0.1", 7860)),
        ({"HOST": "0.0.0.0", "PORT": "8000"}, ("0.0.0.0", 8000)),
        ({"SPACE_ID": "someone/stairs"}, ("0.0.0.0", 7860)),
        ({"GRADIO_SERVER_NAME": "::1", "HOST": "0.0.0.0"}, ("::1", 7860)),
    ],
)
def test_where_the_page_is_served(monkeypatch, environment, address):
    for name in ("HOST", "PORT", "SPACE_ID", "GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    launched = {}
    demo = SimpleNamespace(queue=lambda **_: demo, launch=lambda **o: launched.update(o))
    monkeypatch.setattr(app, "build", lambda: demo)
    monkeypatch.setattr(live, "models", lambda: None)
    app.main()
    assert (launched["server_name"], launched["server_port"]) == address
