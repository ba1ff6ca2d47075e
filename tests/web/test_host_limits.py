"""The limits of a host where a visitor meets them: one sentence each, and nothing that was written
is lost."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import MagicMock

import page_runs
import pytest
from page_form import asking, said

import app
from stairs_core.errors import InputError
from stairs_core.settings import limits
from stairs_core.settings.settings import Settings
from stairs_core.traces import files
from stairs_core.web import engine_thread, handlers, live_race, notices, visitors, widgets

WHO = {"address": "9.9.9.9"}


@pytest.fixture
def host(monkeypatch, tiny_pair):
    """Sets limits; a run then races the tiny pair."""
    shelf = SimpleNamespace(get=lambda spec, flag=None: tiny_pair)
    monkeypatch.setattr(live_race, "shelf", lambda: shelf)

    def allow(**changes):
        found = replace(limits.read({}), **changes)
        had = visitors.Visitors(found)
        monkeypatch.setattr(limits, "current", lambda: found)
        monkeypatch.setattr(visitors, "current", lambda: had)

    return allow


def play(**changes):
    return list(handlers.run(asking(**{"prompt": "Once", "length": 8, **WHO, **changes})))


def stages(updates):
    return [update["stage"] for update in updates if "stage" in update]


@pytest.mark.parametrize(
    ("allowed", "changes", "word"),
    [
        ({"max_tokens": 8}, {"length": 9}, "8 tokens at most on this page"),
        ({"max_prompt": 9}, {"prompt": "x" * 10}, "9 are the most on this page"),
        ({"max_prompt": 9}, {"chat": True, "system": "x" * 10}, "9 are the most on this page"),
        ({"uploads": False}, {"files": ["notes.txt"]}, "opens no files of visitors"),
    ],
)
def test_a_run_that_is_too_large_is_refused_before_it_begins(host, allowed, changes, word):
    host(**allowed)
    updates = play(**changes)
    assert word in said(updates)
    assert not stages(updates)
    assert not handlers._running


def test_when_its_time_is_up_a_run_stops_and_what_was_written_stays(host, monkeypatch):
    host(run_seconds=0.5)
    race = live_race._race
    monkeypatch.setattr(live_race, "_race", lambda *a: (time.sleep(0.03) or e for e in race(*a)))
    updates = play(length=400)
    assert said(updates) == notices.late(0.5)
    (end,) = [u for u in updates if "download" in u]
    lanes = files.read(end["download"]["value"])
    assert [lane.stop.reason for lane in lanes] == ["stopped"] * 2
    assert all(lane.steps for lane in lanes)


def test_a_run_that_ends_in_time_says_nothing(host):
    host(run_seconds=600.0)
    updates = play()
    assert said(updates) == ""
    assert len(stages(updates)[-1]["facts"]) == 2


def test_seconds_of_an_hour_are_charged_and_then_refused(host):
    host(visitor_seconds=0.001)
    assert stages(play())
    updates = play(visitor="another session")
    assert "and yours has had them" in said(updates)
    assert not stages(updates)
    assert stages(play(address="8.8.8.8"))


def test_runs_loads_and_opened_files_count_as_requests(host, tmp_path):
    host(visitor_requests=2)
    path = tmp_path / "mine.jsonl"
    files.write(path, page_runs.pair())
    assert "stage" in handlers.open_trace({"open": str(path), "visitor": "a", **WHO})
    assert stages(play())
    full = "2 requests a minute"
    assert full in said(play())
    assert full in said([handlers.open_trace({"open": str(path), "visitor": "b", **WHO})])
    assert full in said([handlers.open_link({"link": "run=a fox", "visitor": "b", **WHO})])
    loaded = list(handlers.load({"own": "", "preset": "", "visitor": "b", **WHO}))
    assert full in loaded[-1]["model-notice"]["text"]
    assert "notice" not in handlers.open_link({"link": "", "visitor": "b", **WHO})


def test_where_files_are_not_taken_there_is_no_button_for_them(host, tmp_path):
    def shown(name):
        def walk(inside):
            for widget in inside:
                yield widget
                yield from walk(widget.inside)

        (widget,) = [w for w in walk(widgets.layout([], {})) if w.name == name]
        return widget.options.get("visible", True)

    host(uploads=True)
    assert (shown("open"), shown("files")) == (True, True)
    host(uploads=False)
    assert (shown("open"), shown("files")) == (False, False)
    path = tmp_path / "mine.jsonl"
    files.write(path, page_runs.pair())
    assert "opens no files" in said([handlers.open_trace({"open": str(path), "visitor": "a"})])


def test_the_slider_ends_where_the_host_says(host):
    host(max_tokens=40)
    slider = widgets._length().options
    assert (slider["minimum"], slider["maximum"], slider["value"]) == (8, 40, 40)
    host(max_tokens=10**6)
    assert widgets._length().options["maximum"] == 4096


def test_gradio_is_given_the_queue_the_runs_and_the_size_of_files(host, monkeypatch, capsys):
    given: dict = {}
    host(queue=5, runs=3, upload_mb=2.0)
    wires = MagicMock()
    app._wire_server(MagicMock(), defaultdict(MagicMock), wires)
    (run,) = [c.kwargs for c in wires.server.call_args_list if c.args[1] is handlers.run]
    assert run["concurrency_limit"] == 3
    demo = SimpleNamespace(
        queue=lambda **o: given.update(o) or demo,
        launch=lambda **o: given.update(o),
        _queue=SimpleNamespace(push=None),
    )
    monkeypatch.setattr(app, "build", lambda: demo)
    monkeypatch.setattr(live_race, "models", lambda: None)
    app.main()
    assert (given["max_size"], given["max_file_size"]) == (5, 2 * 2**20)
    assert "queue 5, runs 3" in capsys.readouterr().out
    host(uploads=False)
    app.main()
    assert given["max_file_size"] == 1


def test_a_limit_that_is_none_ends_the_program_with_a_sentence(monkeypatch):
    def refuse():
        raise InputError("STAIRS_RUNS is 'two': it must be a whole number above 0.")

    monkeypatch.setattr(limits, "current", refuse)
    with pytest.raises(SystemExit, match="STAIRS_RUNS is 'two'"):
        app.main()


def test_two_runs_at_once_take_turns_and_write_what_each_writes_alone(host):
    host(runs=2)
    prompts = "Once upon a time", "A river"
    settings = {"stairs": Settings(k=3, max_new_tokens=16)}
    order: list[str] = []

    def play(prompt):
        """The texts of a race, whose pass at every event is noted."""
        flag = live_race.Flag()
        race = live_race.race(prompt, settings, flag)
        noted = (order.append(prompt) or event for event in race)
        batches = live_race.batches(noted, flag, 0.001)
        return [e.text for batch in batches for _, e in batch if type(e).__name__ == "Stop"]

    alone = [play(prompt) for prompt in prompts]
    del order[:]
    gate = threading.Event()  # the engine begins when both races are there
    engine_thread.submit(gate.wait)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(play, prompt) for prompt in prompts]
        while len(live_race._turns) < 2:
            time.sleep(0.01)
        gate.set()
        assert [one.result() for one in both] == alone
    changes = sum(a != b for a, b in zip(order, order[1:], strict=False))
    assert changes > len(order) / 4, "a step each"


def test_a_stop_while_the_engine_is_busy_does_not_wait_for_it(host):
    """Nor does the engine make anything of that run afterwards; the next run is right."""
    host()
    alone = stages(play())[-1]["facts"]
    gate = threading.Event()
    engine_thread.submit(gate.wait)
    try:
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(play)
            while not live_race._turns:
                time.sleep(0.01)
            handlers.stop(asking()["visitor"])
            updates = running.result(timeout=20)
        assert said(updates) == f"{live_race.STOPPED}"
        assert not stages(updates)
    finally:
        gate.set()
    assert len(stages(play())[-1]["facts"]) == len(alone)
    assert not live_race._turns


def test_a_consumer_that_leaves_while_the_engine_is_busy_has_nothing_made(host):
    host()
    gate, made = threading.Event(), []
    engine_thread.submit(gate.wait)
    batches = live_race.batches((made.append(i) or i for i in range(9)), live_race.Flag(), 0.001)
    assert next(batches) == []
    batches.close()
    gate.set()
    engine_thread.run(time.sleep, 0)
    engine_thread.run(time.sleep, 0)
    assert made == []
