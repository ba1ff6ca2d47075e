"""The page's handlers and what they send, on made-up recordings: no model, no browser."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import page_runs
import pytest
from gradio.state_holder import SessionState
from loops import alone
from page_form import VISITOR, asking, last
from paths import ROOT
from tiny_models import make_model, perturb, save_pair

import app
from stairs_core.errors import InputError
from stairs_core.measuring.race import race
from stairs_core.measuring.runner import Runner
from stairs_core.models.load import load_pair
from stairs_core.render import explain, labels, summary
from stairs_core.settings import methods
from stairs_core.settings.sampling import Sampling
from stairs_core.settings.settings import AUTO, Settings
from stairs_core.traces import files, metrics
from stairs_core.web import (
    form,
    handlers,
    live_race,
    notices,
    packed_trace,
    permalinks,
    replay,
    resume,
    stage_value,
    widgets,
)


@pytest.fixture
def engine(monkeypatch):
    """Stands in for the engine: plays ``made.events``, and stops when it is asked to."""
    made = SimpleNamespace(lanes=page_runs.pair(), asked=[], wait=0.0)

    def race(prompt, lanes, flag, spec=None):
        made.asked.append((prompt, lanes))
        made.read = [Path(f).read_text() for s in lanes.values() for f in s.references]
        heads = [(i, lane.run) for i, lane in enumerate(made.lanes)]
        steps = [(i, s) for i, lane in enumerate(made.lanes) for s in lane.steps]
        for record in [*heads, *sorted(steps, key=lambda r: r[1].elapsed)]:
            if flag.is_set():
                break
            time.sleep(made.wait)
            yield record
        yield from ((i, lane.stop) for i, lane in enumerate(made.lanes))

    monkeypatch.setattr(live_race, "race", race)
    return made


def describing(monkeypatch, lacks=(), template=True, own_draft=False, **changes):
    """What changes on the page where a pair is in use that cannot do ``lacks``."""
    pair = SimpleNamespace(
        own_draft=own_draft,
        lacks=lambda: {name: methods.Lack("it has none") for name in lacks},
        has_chat_template=template,
    )
    monkeypatch.setattr(
        live_race, "shelf", lambda: SimpleNamespace(get=lambda spec, flag=None: pair)
    )
    return handlers.adapt(asking(**{"kept": {}, **changes}))


DRAFTING = ("model", "tree", "hybrid", "reencode", "shared", "hybrid-eagle", "ngram-table")
DRAFTING += ("hybrid-eagle-tree",)


def test_who_cannot_guess_is_replaced_and_comes_back(monkeypatch):
    told = describing(monkeypatch, DRAFTING, **{"drafter-2": "lookup", "drafter-3": "hybrid"})
    assert [told[name]["value"] for name in form.DRAFTING] == ["suffix", "lookup", "recycle"]
    assert (
        "“copying the longest match” guesses in place of “the draft model”: it has none."
        in (told["notice"]["text"])
    )
    assert told["references"]["visible"], "what stands there now reads them"
    assert not told["add"]["visible"]
    menu = {name: label for label, name in told["drafter"]["choices"]}
    assert menu["model"] == "the draft model (not available: it has none)"
    assert menu["lookup"] == "copying from the text"
    assert told["lacking"] == ",".join(DRAFTING)
    held = {"drafter": "suffix", "drafter-2": "lookup", "drafter-3": "jacobi"}
    back = describing(monkeypatch, **held, kept=told["kept"])
    assert [back[name]["value"] for name in form.DRAFTING] == ["model", "lookup", "jacobi"]
    assert back["notice"]["text"] == "“the draft model” guesses again."
    assert back["kept"] == {}
    again = describing(monkeypatch, ("model",), **held, kept=back["kept"])
    assert "value" not in again["drafter"], "nothing of it is left"
    assert "notice" not in again


def test_a_draft_that_came_along_makes_way_unless_a_link_chose_it(monkeypatch):
    told = describing(monkeypatch, own_draft=True)
    assert told["drafter"]["value"] == "hybrid-eagle-tree"
    assert told["auto"]["value"]
    assert (
        "in place of “the draft model”: it guesses better for this model."
        in (told["notice"]["text"])
    )
    assert ("the draft model", "model") in told["drafter"]["choices"]
    held, kept = {"drafter": "hybrid-eagle-tree", "auto": True}, told["kept"]
    again = describing(monkeypatch, own_draft=True, kept=kept, **held)
    assert "notice" not in again
    back = describing(monkeypatch, kept=kept, **held)
    assert (back["drafter"]["value"], back["auto"]["value"]) == ("model", False)
    linked = {name: [*pair] for name, pair in form.chosen({"drafter": "model"}).items()}
    assert "notice" not in describing(monkeypatch, own_draft=True, kept=linked)


def test_a_pair_that_can_do_all_changes_nothing(monkeypatch):
    told = describing(monkeypatch)
    assert "notice" not in told
    assert not [name for name in form.HELD if "value" in told.get(name, {})]


def test_a_chat_template_that_is_missing_is_switched_off_and_comes_back(monkeypatch):
    values, kept, said = form.fit(asking(chat=True), {}, {}, chat=False)
    assert values["chat"] is False
    assert "chat template is off" in said[0]
    values, kept, said = form.fit(asking(), kept, {}, chat=True)
    assert values["chat"] is True
    assert kept == {}
    assert not describing(monkeypatch, template=False)["chat"]["interactive"]
    told = describing(monkeypatch, template=False, chat=True)["chat"]
    assert (told["value"], told["interactive"]) == (False, False)


def test_a_run_that_is_asked_for_before_its_pair_is_there_is_fitted_to_it(engine, monkeypatch):
    """As the form is then: by the chat template, and by who guesses best on that pair. What was
    chosen once the form was fitted stays."""
    asked = {"kept": form.UNTOUCHED, "fitted": None}
    told = describing(monkeypatch, own_draft=True, kept=form.UNTOUCHED)
    play(**asked)
    (one,) = engine.asked[-1][1].values()
    assert (one.chat, one.drafter) == (True, told["drafter"]["value"])
    assert one.drafter != "model"
    assert told["fitted"] == ""
    play(kept=told["kept"], fitted=told["fitted"], drafter="model", auto=False, k=4)
    (one,) = engine.asked[-1][1].values()
    assert (one.chat, one.drafter, one.k) == (False, "model", 4)


def test_a_tree_stays_where_every_row_is_computed(monkeypatch):
    lack = methods.Lack("not in one pass", ("matrix", "matrix_kv"))
    for backend, who in (("matrix", "tree"), ("single_kv", "model")):
        values, _, said = form.fit(
            asking(drafter="tree", backend=backend), {}, {"tree": lack}, chat=False
        )
        assert values["drafter"] == who
        assert bool(said) == (who == "model")


def play(**changes):
    return list(handlers.run(asking(**changes)))


def sent(value):
    """The lines that a value of the stage holds."""
    return [json.loads(line) for line in value["trace"].splitlines()]


def test_a_run_streams_a_trace_that_only_grows(engine):
    engine.wait = 0.005
    updates = play()
    values = [u["stage"] for u in updates if "stage" in u]
    assert len(values) > 3
    texts = [v["trace"] for v in values]
    assert all(b.startswith(a) for a, b in zip(texts, texts[1:], strict=False))
    assert len({v["run"] for v in values}) == 1
    assert [v["running"] for v in values] == [True] * (len(values) - 1) + [False]
    assert sorted(texts[-1].splitlines()) == sorted(packed_trace.lines(engine.lanes).splitlines())
    assert values[-1]["facts"] == summary.facts(engine.lanes)
    assert list(engine.asked[0][1]) == ["the draft model, K 5"]


def test_the_download_is_the_trace_that_was_shown(engine):
    for updates in handlers.run(asking()):
        if "download" in updates:
            offered = updates["download"]["value"]
            assert files.read(offered) == engine.lanes
            return
    pytest.fail("nothing was offered")


def test_run_and_stop_take_turns(engine):
    first, *others = play()
    assert (first["run"]["interactive"], first["stop"]["interactive"]) == (False, True)
    # The browser frees them once the event is over: until then it passes over whoever presses.
    assert not any("run" in update for update in others)
    free = handlers.run_buttons(idle=True)
    assert (free["run"]["interactive"], free["stop"]["interactive"]) == (True, False)
    for over in ("then", "failure"):
        wires, ended = MagicMock(), MagicMock()
        app._free(wires, ended, free)
        wires.change.assert_any_call(getattr(ended, over), free)


def test_every_answer_says_again_what_was_said_before_it():
    """The browser may draw the last of them alone."""

    def handler(asked):
        yield {"notice": "begun", "run": handlers.Change(interactive=False, value="Run")}
        yield {}
        yield {"stage": "a run", "notice": "under way"}
        yield {"run": handlers.Change(interactive=True)}

    parts = {name: object() for name in ("notice", "run", "stage")}
    answer = app.Wires(parts)._make_answer(handler)
    who: Any = SimpleNamespace(session_hash="a", client=None, headers={})
    told = [{name: a[part] for name, part in parts.items() if part in a} for a in answer({}, who)]
    assert told[0] == told[1]
    said = [t["notice"]["value"] for t in told]
    assert said == ["begun", "begun", "under way", "under way"]
    assert (told[3]["stage"]["value"], told[3]["run"]["interactive"]) == ("a run", True)
    assert told[3]["run"]["value"] == "Run"


def test_stop_ends_the_visitors_run_and_no_other(engine):
    engine.wait = 0.02
    updates = []
    for update in handlers.run(asking()):
        updates.append(update)
        handlers.stop("somebody else")
        if len(updates) == 3:
            handlers.stop(VISITOR)
    steps = [r for r in sent(last(updates, "stage")) if isinstance(r, list) and r[0] == 1]
    assert 0 < len(steps) < len(engine.lanes[1].steps)


def test_a_visitor_who_leaves_ends_the_run(engine):
    engine.wait = 0.01
    stream = handlers.run(asking())
    next(stream)
    next(stream)
    flag = handlers._running["a visitor"]
    stream.close()
    assert flag.is_set()
    assert not handlers._running


def test_one_run_a_visitor(engine):
    first = handlers.run(asking())
    next(first)
    (second,) = play()
    assert second == {"notice": notices.notice(notices.BUSY)}
    first.close()


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({"k": 0.0}, "K is 0"),
        ({"k": 99.0}, "K is 99"),
        ({"k": 2.5}, "K is 2.5"),
        ({"k": None}, "K is empty"),
        ({"length": 10**9}, "new tokens"),
        ({"backend": "magic"}, "magic"),
        ({"drafter": "crystal ball"}, "crystal ball"),
        ({"strict": True, "backend": "matrix"}, "no strict numerics"),
        ({"drafter-3": "model", "k-3": 0}, "K is 0"),
        ({"temperature": -1}, "temperature is -1"),
        ({"temperature": 1, "seed": 0.5}, "seed is 0.5"),
        ({"temperature": 1, "top_p": None}, "top-p is empty"),
    ],
)
def test_bad_settings_are_one_sentence_and_leave_the_result(engine, asked, word):
    updates = play(**asked)
    assert all("stage" not in u for u in updates)
    assert word in last(updates, "notice")["text"]
    assert not handlers._running


def test_every_widget_reaches_the_settings(engine):
    shared = {"length": 48.0, "chat": True, "strict-2": True, "backend-2": "single"}
    second = {"drafter-2": "lookup", "k-2": 3.0, "drafter-3": "hybrid", "auto-3": True}
    turn = {"system": "Be brief.", "options": "enable_thinking=false\n\ntone=dry"}
    play(drafter="hybrid", auto=True, **shared, **second, **turn)
    ((prompt, asked),) = engine.asked
    names = ["copying, else the draft model, K auto", "copying from the text, K 3"]
    names[1] += ", one pass, no cache, strict"
    assert (prompt, [*asked]) == ("Once upon a time", [*names, f"{names[0]} (2)"])
    first, second, _ = asked.values()
    assert (first.drafter, first.k, first.length) == ("hybrid", AUTO["k"], "cost")
    assert (second.drafter, second.k, second.length) == ("lookup", 3, "constant")
    for lane in (first, second, first.alone()):
        assert (lane.max_new_tokens, lane.chat) == (48, True)
        assert lane.system == "Be brief."
        assert lane.template == {"enable_thinking": False, "tone": "dry"}
    assert (second.backend, second.numerics) == ("single", "strict")


def test_without_chat_its_fields_are_not_asked_for(engine):
    play(system="Be brief.", options="enable_thinking=false")
    ((_, asked),) = engine.asked
    assert [(lane.system, lane.template) for lane in asked.values()] == [("", {})]


def test_who_guesses_is_read_off_the_registry():
    assert [name for _, name in form.DRAFTERS] == [n for n in methods.NAMES if n != "none"]
    labels = [method.label for method in methods.REGISTRY.values()]
    assert all(0 < len(label) < 32 for label in labels)
    assert len({*labels}) == len(labels)


def test_sampling_is_asked_for_and_said(engine):
    play(temperature=0.8, top_p=0.9, same=False)
    play(temperature=0, top_p=0.9, seed=1)
    play(temperature=0, repetition_penalty=1.5)
    made = [next(iter(asked.values())).sampling for _, asked in engine.asked]
    assert made == [
        Sampling(temperature=0.8, top_p=0.9, seed=7, rule="speculative"),
        None,
        Sampling(temperature=0, repetition_penalty=1.5, seed=7, rule="coupled"),
    ]
    said = [labels.sampled(sampling) for sampling in made]
    drawn = "sampled, temperature 0.8, top-p 0.9, seed 7"
    assert said == [drawn, "", "greedy, repetition-penalty 1.5"]
    own, same = (page_runs.sampled(page_runs.pair(), rule) for rule in ("speculative", "coupled"))
    assert f"{drawn}, distribution-exact" in summary.source(own, "live")
    assert f"{drawn}, same dice, token-exact" in summary.source(same, "live")
    assert "each lane drew its own" in summary.verdict(*own)["text"]
    assert summary.verdict(*same)["state"] == "yes"


def test_a_pasted_text_is_there_until_the_run_is_over(engine, monkeypatch):
    """Others who open runs meanwhile have folders made for the files, and the oldest swept away."""
    reads = replace(methods.REGISTRY["lookup"], references=True)
    monkeypatch.setitem(methods.REGISTRY, "lookup", reads)
    begin = live_race.race

    def late(*asked):
        made = [handlers._made.folder() for _ in range(40)]
        assert not made[0].exists()
        return begin(*asked)

    monkeypatch.setattr(live_race, "race", late)
    play(drafter="lookup", pasted="pasted words")
    assert engine.read == ["pasted words"]
    ((_, asked),) = engine.asked
    assert not any(Path(f).exists() for lane in asked.values() for f in lane.references)


def test_the_card_reads_no_long_text(monkeypatch, tmp_path):
    reads = replace(methods.REGISTRY["lookup"], references=True)
    monkeypatch.setitem(methods.REGISTRY, "lookup", reads)
    found, file = [], tmp_path / "a.txt"
    file.write_text("x" * 10**6)

    def card(settings, spec):
        found.append((settings.system, [Path(f).read_text() for f in settings.references]))
        raise InputError("No card.")

    monkeypatch.setattr(live_race, "preflight", card)
    long = {"chat": True, "system": "x" * 10**6}
    for given in ({"pasted": "x" * 10**6}, {"files": [str(file)]}, {"pasted": " "}):
        told = handlers.preflight(asking(drafter="lookup", **long, **given))
        assert told["preflight"]["headline"] == "No card."
    assert found == [("", ["text"]), ("", ["text"]), ("", [])]


def test_references_go_to_the_lanes_that_read_them(engine, monkeypatch, tmp_path):
    reads = replace(methods.REGISTRY["lookup"], references=True)
    monkeypatch.setitem(methods.REGISTRY, "lookup", reads)
    file = tmp_path / "notes.txt"
    file.write_text("a file")
    play(**{"drafter-2": "lookup", "pasted": "pasted words", "files": [str(file)]})
    ((_, asked),) = engine.asked
    assert [len(lane.references) for lane in asked.values()] == [0, 2]
    assert engine.read == ["a file", "pasted words"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InputError("The prompt is empty."), "The prompt is empty."),
        (KeyError("two"), "KeyError"),
    ],
)
def test_an_engine_that_breaks_is_one_sentence(monkeypatch, caplog, error, text):
    def broken(*_):
        raise error
        yield

    monkeypatch.setattr(live_race, "race", broken)
    updates = play()
    assert all("stage" not in u for u in updates)
    assert text in last(updates, "notice")["text"]
    assert "\n" not in last(updates, "notice")["text"]


def test_a_trace_can_be_opened(tmp_path):
    path = tmp_path / "mine.jsonl"
    files.write(path, page_runs.pair())
    shown = handlers.open_trace({"open": str(path)})
    assert shown["stage"]["trace"] == packed_trace.lines(page_runs.pair())
    assert shown["stage"]["source"]["kind"] == "file"
    assert "mine.jsonl" in shown["stage"]["source"]["text"]
    assert shown["notice"] == notices.notice()
    assert handlers.open_trace({"open": None}) == {}


def test_a_recorded_run_says_that_it_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr(handlers, "TRACES", tmp_path)
    assert handlers.recorded() == {}
    assert handlers.open_recorded({"recorded": None}) == {}
    files.write(tmp_path / "a-fox.jsonl", page_runs.pair())
    shown = handlers.open_recorded({"recorded": "a fox"})["stage"]
    assert shown["source"]["kind"] == "recorded"
    assert "no machine (made up)" in shown["source"]["text"]


def _newer(text):
    return text.replace('"schema": 1', '"schema": 9')


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda t: "", "empty"),
        (lambda t: "hello", "neither a Stairs trace"),
        (lambda t: "[" * 100_000, "neither a Stairs trace"),
        (lambda t: t[: len(t) // 2], "cut off"),
        (_newer, "newer"),
        (lambda t: t + "\n" * (50 * 2**20), "MB"),
    ],
)
def test_a_file_that_is_no_trace_is_one_sentence(tmp_path, change, word):
    path = tmp_path / "bad.jsonl"
    path.write_text(change(files.dumps(page_runs.pair())), encoding="utf-8")
    updates = handlers.open_trace({"open": str(path)})
    assert list(updates) == ["notice"]
    assert word in updates["notice"]["text"]


@pytest.mark.parametrize("what", ["value", "lines"])
def test_a_run_that_cannot_be_drawn_is_one_sentence(tmp_path, monkeypatch, what):
    path, run = tmp_path / "odd.jsonl", page_runs.pair(page_runs.words(page_runs.STORY)[:9])
    files.write(path, run)
    link = f"trace={permalinks.pack(run)}"
    kept = {"kind": "file", "name": "odd.jsonl", "trace": files.dumps(run)}
    kept = resume.KEPT + json.dumps({"held": {"prompt": "A key"}, "run": kept})

    def broken(*_):
        raise OverflowError("too\nlarge")

    monkeypatch.setattr(stage_value if what == "value" else packed_trace, what, broken)
    told = [handlers.open_trace({"open": str(path)}), handlers.open_link({"link": link})]
    for updates in [*told, handlers.open_link({"link": kept})]:
        assert "stage" not in updates
        assert f"{notices.NOT_SHOWN} (OverflowError: too large)." in updates["notice"]["text"]
    assert updates["prompt"]["value"] == "A key", "the form comes back all the same"
    monkeypatch.undo()
    monkeypatch.setattr(replay, "write", broken)
    shown = handlers.open_trace({"open": str(path)})
    assert shown["stage"]["trace"]
    assert notices.NOT_SAVED in shown["notice"]["text"]


@pytest.mark.parametrize("length", [None, "9", float("inf")])
def test_asking_for_less_than_what_is_no_number_is_one_sentence(length):
    told = handlers.ask_less(asking(length=length))
    assert notices.NO_LESS in told["notice"]["text"]


def test_the_numbers_are_the_metrics():
    recorded = page_runs.four()
    for lane, said in zip(recorded[1:], summary.facts(recorded)[1:], strict=True):
        both = metrics.compare(recorded[0], lane)
        alone, own = metrics.fold(recorded[0].steps), metrics.fold(lane.steps)
        assert [n["value"] for n in said["numbers"]] == [
            f"{both.speedup:.2f} ×",
            f"{alone.tokens_per_second:.1f}",
            f"{own.tokens_per_second:.1f}",
            f"{own.tokens_per_target_call:.2f}",
            f"{own.acceptance_rate:.2f}",
            f"{own.alpha:.2f}",
            str(both.calls_saved),
        ]


def test_the_table_has_every_lane():
    recorded = page_runs.four()
    recorded[1] = page_runs.lane(page_runs.words(page_runs.STORY)[:20])
    columns, rows = summary.table(recorded).values()
    assert [row[0] for row in rows] == [lane.run.name for lane in recorded]
    assert [row[-1] for row in rows] == ["–", "no, one is longer", "yes", "yes"]
    tree = summary.facts(recorded)[3]["numbers"]
    assert rows[3][1:5] == [tree[i]["value"] for i in (0, 2, 3, 5)]
    assert all(len(row) == len(columns) for row in rows)
    assert {row[-1] for row in summary.table(recorded, running=True)["rows"][1:]} == {"so far"}


def test_what_is_not_known_is_a_dash():
    def dashes(*lanes, **options):
        return [n["value"] == "–" for n in summary.numbers(*lanes, **options)]

    alone, stairs = page_runs.pair()
    empty = [replace(lane, steps=()) for lane in (alone, stairs)]
    assert dashes(*empty, running=True)[:3] == [True] * 3
    assert dashes(alone, None) == [True, False, *[True] * 5]
    assert dashes(None, stairs) == [True, True, *[False] * 4, True]
    assert dashes(alone, stairs, running=True) == [*[False] * 6, True]
    (nothing,) = summary.facts([])
    assert [n["value"] for n in nothing["numbers"]] == ["–"] * 7
    assert nothing["verdict"]["text"] == "Nothing has run yet."


def test_a_speedup_that_cannot_be_is_no_headline():
    alone, stairs = page_runs.pair()
    quick = [
        replace(s, elapsed=s.elapsed / 20, verify_seconds=s.verify_seconds / 20)
        for s in stairs.steps
    ]
    for lane, tone in ((stairs, "big"), (replace(stairs, steps=tuple(quick)), "big unsure")):
        first = summary.numbers(alone, lane)[0]
        assert first["tone"] == tone
        assert ("busy" in first["label"]) is ("too busy" in explain.why(alone, lane))
    assert summary.numbers(alone, lane, running=True)[0]["tone"] == "big"
    assert "as many tokens" in first["meaning"]


def test_one_token_is_one():
    alone, stairs = page_runs.pair([" one"])
    assert summary.verdict(alone, stairs)["text"] == "Same text: yes, the one token."
    assert summary.numbers(alone, stairs)[-1]["meaning"].endswith(": 1 for 1 token")


def test_the_verdict():
    texts = page_runs.words(page_runs.STORY)
    alone, stairs = page_runs.pair(texts)
    assert summary.verdict(alone, stairs)["text"] == f"Same text: yes, all {len(texts)} tokens."
    assert summary.verdict(alone, stairs, running=True)["state"] == "open"
    assert "not compared" in summary.verdict(alone, None)["text"]
    stopped = page_runs.lane(texts[:20], stopped=True)
    for first in (alone, stopped):
        assert summary.verdict(first, stopped) == {
            "state": "yes",
            "text": "Same text: yes, the 20 tokens that both had written when the run was stopped.",
        }
    assert summary.verdict(alone, page_runs.lane(texts[:20]))["state"] == "no"


def test_the_verdict_names_the_first_difference():
    alone, stairs = page_runs.pair()
    step = stairs.steps[2]
    own = replace(step.tokens[-1], id=9999, text=" cat")
    said = list(step.predictions)
    said[step.accepted] = replace(said[step.accepted], id=9999, text=" cat", margin=2e-5)
    changed = replace(step, tokens=(*step.tokens[:-1], own), predictions=tuple(said))
    other = replace(stairs, steps=(*stairs.steps[:2], changed, *stairs.steps[3:]))
    other = replace(other, stop=replace(other.stop, noise=1e-5))
    verdict = summary.verdict(alone, other)
    position = metrics.compare(alone, other).first_difference.position
    assert verdict["state"] == "no"
    assert f"new token {position + 1}" in verdict["text"]
    assert "rounding tie" in verdict["text"]


def test_batches_hand_on_everything_in_order():
    flag = live_race.Flag()
    records = [(0, i) for i in range(50)]
    got = [r for batch in live_race.batches(iter(records), flag, 0.001) for r in batch]
    assert got == records
    assert flag.is_set()


def test_nothing_is_made_while_the_page_has_a_batch_in_hand():
    made = []

    def race():
        for i in range(1000):
            made.append(i)
            yield 0, i
            time.sleep(0.001)

    batches = live_race.batches(race(), live_race.Flag(), 0.001)
    for _ in range(3):
        next(batches)
        time.sleep(0.02)  # what was under way when the batch was handed over is finished
        before = len(made)
        time.sleep(0.1)
        assert len(made) == before < 1000
    assert sum(map(len, batches)) > 500


def test_the_page_never_slows_the_engine(tiny_pair):
    def end(seconds: float) -> float:
        """The engine's clock after a race whose consumer computes ``seconds`` a batch."""
        settings = Settings(drafter="model", k=4, max_new_tokens=96)
        runners = [
            Runner(tiny_pair, "Once upon a time", s, name)
            for name, s in (("alone", settings.alone()), ("stairs", settings))
        ]
        flag = live_race.Flag()
        for _ in live_race.batches(race(runners, flag.is_set), flag, 0.02):
            until = time.thread_time() + seconds
            while time.thread_time() < until:
                pass
        return max(runner.steps[-1].elapsed for runner in runners)

    # By turns, and the least of each: other work on the machine only ever adds to a clock.
    idle, busy = zip(*((end(0.0), end(0.04)) for _ in range(3)), strict=True)
    # Where the engine did not stand still it would be nine times as much.
    assert min(busy) < 2 * min(idle)


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
    demo._queue = SimpleNamespace(push=None)
    monkeypatch.setattr(app, "build", lambda: demo)
    monkeypatch.setattr(live_race, "models", lambda: None)
    monkeypatch.setattr(app.address, "listen", lambda *_: None)  # another page may run there now
    app.main()
    assert (launched["server_name"], launched["server_port"]) == address


@pytest.mark.parametrize(
    ("name", "told"),
    [
        *(("PORT", told) for told in ("http", "0", "65536", "-1", "7860.0", "9" * 5000)),
        ("GRADIO_SERVER_PORT", "99999"),
    ],
    ids=lambda value: value[:9],
)
def test_a_port_that_is_none_ends_the_program_with_a_sentence(monkeypatch, name, told):
    monkeypatch.setattr(live_race, "models", lambda: pytest.fail("nothing is loaded for it"))
    monkeypatch.delenv("GRADIO_SERVER_PORT", raising=False)
    monkeypatch.setenv(name, told)
    with pytest.raises(SystemExit, match=f"{name} is '{told[:30]}") as ended:
        app.main()
    assert str(ended.value).endswith("it must be a number from 1 to 65535.")


@pytest.mark.parametrize(
    ("error", "ends", "words"),
    [
        (
            OSError("Cannot find empty port in range: 7861-7861."),
            SystemExit,
            "The page cannot listen on 127.0.0.1:7861: the port is taken, .*; set PORT or HOST.$",
        ),
        (FileNotFoundError(2, "No such file"), FileNotFoundError, "No such file"),
    ],
)
def test_a_port_that_is_taken_ends_the_program_with_a_sentence(monkeypatch, error, ends, words):
    """Another fault is not told as one of the port."""
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.setenv("GRADIO_SERVER_PORT", "7861")
    monkeypatch.setenv("GRADIO_SERVER_NAME", "127.0.0.1")
    demo = SimpleNamespace(queue=lambda **_: demo, launch=MagicMock(side_effect=error))
    demo._queue = SimpleNamespace(push=None)
    monkeypatch.setattr(app, "build", lambda: demo)
    monkeypatch.setattr(live_race, "models", lambda: None)
    monkeypatch.setattr(app.address, "listen", lambda *_: None)  # taken a moment later
    with pytest.raises(ends, match=words):
        app.main()


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1", "no such host", "x" * 300])
def test_where_the_page_cannot_listen_nothing_is_loaded(monkeypatch, host):
    monkeypatch.setattr(live_race, "models", lambda: pytest.fail("nothing is loaded for it"))
    monkeypatch.setattr(app, "build", lambda: pytest.fail("nothing is built for it"))
    monkeypatch.delenv("GRADIO_SERVER_PORT", raising=False)
    monkeypatch.setenv("GRADIO_SERVER_NAME", host)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("PORT", str(taken.getsockname()[1]))
        with pytest.raises(SystemExit, match="The page cannot listen on .* set PORT or HOST.$"):
            app.main()


@pytest.mark.parametrize("name", ["PORT", "GRADIO_SERVER_PORT"])
def test_a_port_that_gradio_cannot_read_is_no_traceback(name):
    told = subprocess.run(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env=os.environ | {"GRADIO_SERVER_PORT": "", name: "abc"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 1
    assert told.stderr == f"{name} is 'abc': it must be a number from 1 to 65535.\n"


def test_a_head_that_will_not_do_is_refused_on_the_page(tmp_path, monkeypatch):
    """With the reason, in the page's words; and nothing replaces what is on the stage."""
    target = make_model(layers=4)
    folder = save_pair(tmp_path / "pair", target, perturb(target))
    pair = load_pair(str(folder), "cpu", "float32", "off")
    shelf = SimpleNamespace(get=lambda spec, flag=None: pair)
    monkeypatch.setattr(live_race, "shelf", lambda: shelf)
    head = folder / "heads" / "medusa"
    weights, config = head / "model.safetensors", json.loads((head / "config.json").read_text())

    def refused() -> str:
        updates = list(handlers.run(asking(drafter="medusa")))
        assert all("stage" not in update for update in updates)
        text = last(updates, "notice")["text"]
        assert text in str(handlers.preflight(asking(drafter="medusa"))["preflight"])
        return text

    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    assert "is cut off or damaged" in refused()
    weights.rename(head / "pytorch_model.bin")
    assert "pickled weights can run code" in refused()
    weights.write_bytes(whole)
    (head / "config.json").write_text(json.dumps(config | {"target_layers": 9}))
    other = refused()
    assert "belongs to another target than target (layers 9, not 4)" in other
    assert "--" not in other
    assert "“copying from the text”" in other, other
    assert "medusa" in handlers.adapt(asking(kept={}, drafter="model"))["lacking"].split(",")


@pytest.mark.parametrize(("kind", "value"), [("Slider", 999), ("Dropdown", "x")])
def test_a_component_that_gradio_makes_anew_leaves_refusals_to_the_page(kind, value):
    """It does with every update, of which a link of settings sends many."""
    part = app._unchecked(getattr(app.gr, kind))()
    anew = type(part)(**part.constructor_args)
    assert anew.preprocess(value) == value
    assert anew.get_block_name() == kind.lower()


def test_examples_suit_the_pair_and_a_prompt_of_the_visitor_s_own_stays(monkeypatch):
    story, chat = (next(iter(prompts.values())) for prompts in (widgets.PROMPTS, widgets.CHATS))
    told = describing(monkeypatch, prompt=story, kept=form.UNTOUCHED)
    assert (told["prompt"]["value"], told["chat"]["value"]) == (chat, True)
    assert [told[f"example-{i}"]["value"] for i in range(3)] == [*widgets.CHATS]
    back = describing(monkeypatch, template=False, prompt=chat, chat=True, kept=dict(told["kept"]))
    assert (back["prompt"]["value"], back["chat"]["value"]) == (story, False)
    assert [back[f"example-{i}"]["value"] for i in range(3)] == [*widgets.PROMPTS]
    assert back["kept"] == form.UNTOUCHED
    off = describing(monkeypatch, prompt="My own", chat=False, kept={})  # the visitor's choice
    assert "prompt" not in off
    assert "value" not in off["chat"]


def test_who_guesses_in_another_s_place_does_so_as_often_as_it_pays(monkeypatch):
    told = describing(monkeypatch, DRAFTING)
    assert (told["drafter"]["value"], told["auto"]["value"]) == ("lookup", True)
    assert told["k"]["interactive"] is False
    held = {"drafter": "lookup", "auto": True, "kept": told["kept"]}
    back = describing(monkeypatch, **held)
    assert (back["drafter"]["value"], back["auto"]["value"]) == ("model", False)


def test_no_tree_guesses_in_another_s_place_in_strict_numerics(monkeypatch):
    usual = [describing(monkeypatch, ("model",), strict=s)["drafter"]["value"] for s in (0, 1)]
    assert usual == ["hybrid-eagle-tree", "hybrid-eagle"]


def test_a_link_that_says_how_it_was_asked_is_believed():
    packed = permalinks.pack_settings({"chat": False, "prompt": "Hello"})
    told = handlers.open_link({"link": f"settings={packed}"})
    assert (told["kept"], told["chat"]["value"]) == ({}, False)


def test_a_chat_model_is_offered_where_it_may_be_loaded(monkeypatch):
    for name in ("STAIRS_PAIR", "STAIRS_MODELS", "SPACE_ID"):
        monkeypatch.delenv(name, raising=False)
    assert widgets.trying("") == "Try a real chat model (SmolLM2 135 M, 93 MB)"
    assert widgets.trying("smollm2-135m") == ""
    asked = []
    monkeypatch.setattr(handlers, "load", lambda held: asked.append(held) or iter([{}]))
    assert [*handlers.try_chat({"visitor": VISITOR, "spec": ""})] == [{}]
    assert (asked[0]["preset"], asked[0]["own"]) == ("smollm2-135m", "")
    monkeypatch.setenv("STAIRS_MODELS", "bundled")
    assert widgets.trying("") == ""
    assert [*handlers.try_chat({"visitor": VISITOR, "spec": ""})] == []


def test_gradio_keeps_the_last_run_of_a_visitor_alone():
    """It makes what an answer leaves out anew, with ids of their own."""

    def run(asked):
        yield {"notice": "begun"}
        yield {"stage": {"trace": "a step"}}

    async def run_three_times():
        with app.gr.Blocks() as demo:
            parts = {name: app.gr.HTML() for name in ("stage", "notice")}
            wires = app.Wires(parts)
            wires.server(app.gr.Button().click, run, (), parts)
        (event,), visitor = demo.fns.values(), SessionState(demo)
        before = len(visitor.config_values)
        request = SimpleNamespace(session_hash="a visitor", client=None, headers={})
        for _ in range(3):
            for answer in wires._answer(run)({}, request):
                await demo.postprocess_data(event, answer, visitor)
        return visitor.config_values, parts["stage"]._id, before

    held, stage, before = alone(run_three_times)
    assert len(held) == before
    assert held[stage]["props"]["value"] == {"trace": "a step"}
