"""The page's handlers and what they send, on made-up recordings: no model, no browser."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import page_runs
import pytest

import app
from stairs_core import drafters, live, metrics, tracefile
from stairs_core.errors import InputError
from stairs_core.race import Runner, race
from stairs_core.render import facts, lanes, page, wire, words
from stairs_core.sampling import Sampling
from stairs_core.settings import AUTO, Settings

VISITOR = SimpleNamespace(session_hash="a visitor")


def asking(**changes) -> dict:
    """What the widgets hold when the page has just been opened."""
    held = {name: usual for name, (_, _, usual, *_) in lanes.SAMPLING.items()}
    for guesser in lanes.GUESSERS:
        name = "" if guesser else "model"
        held |= {f"drafter{guesser}": name, f"k{guesser}": 5.0, f"auto{guesser}": False}
        held |= {f"backend{guesser}": "single_kv", f"strict{guesser}": False}
    held |= {"prompt": "Once upon a time", "length": 96.0, "seed": 7, "spec": ""}
    held |= {"chat": False, "system": "", "options": "", "same": True, "pasted": "", "files": None}
    return held | changes


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

    monkeypatch.setattr(live, "race", race)
    return made


def describing(monkeypatch, lacks=(), template=True, **changes):
    """What changes on the page where a pair is in use that cannot do ``lacks``."""
    pair = SimpleNamespace(
        lacks=lambda: {name: drafters.Lack("it has none") for name in lacks},
        has_chat_template=template,
    )
    monkeypatch.setattr(live, "shelf", lambda: SimpleNamespace(get=lambda spec: pair))
    return app.adapt(asking(**{"kept": {}, **changes}), VISITOR)


DRAFTING = ("model", "tree", "hybrid", "reencode", "shared")


def test_who_cannot_guess_is_replaced_and_comes_back(monkeypatch):
    told = describing(monkeypatch, DRAFTING, **{"drafter-2": "lookup", "drafter-3": "hybrid"})
    assert [told[name]["value"] for name in lanes.DRAFTING] == ["suffix", "lookup", "recycle"]
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
    assert [back[name]["value"] for name in lanes.DRAFTING] == ["model", "lookup", "jacobi"]
    assert back["notice"]["text"] == "“the draft model” guesses again."
    assert back["kept"] == {}
    again = describing(monkeypatch, ("model",), **held, kept=back["kept"])
    assert "value" not in again["drafter"], "nothing of it is left"
    assert "notice" not in again


def test_a_pair_that_can_do_all_changes_nothing(monkeypatch):
    told = describing(monkeypatch)
    assert "notice" not in told
    assert not [name for name in lanes.HELD if "value" in told.get(name, {})]


def test_a_chat_template_that_is_missing_is_switched_off_and_comes_back(monkeypatch):
    values, kept, said = lanes.fit(asking(chat=True), {}, {}, chat=False)
    assert values["chat"] is False
    assert "chat template is off" in said[0]
    values, kept, said = lanes.fit(asking(), kept, {}, chat=True)
    assert values["chat"] is True
    assert kept == {}
    assert not describing(monkeypatch, template=False)["chat"]["interactive"]
    told = describing(monkeypatch, template=False, chat=True)["chat"]
    assert (told["value"], told["interactive"]) == (False, False)


def test_a_tree_stays_where_every_row_is_computed(monkeypatch):
    lack = drafters.Lack("not in one pass", ("matrix", "matrix_kv"))
    for backend, who in (("matrix", "tree"), ("single_kv", "lookup")):
        values, _, said = lanes.fit(
            asking(drafter="tree", backend=backend), {}, {"tree": lack}, chat=False
        )
        assert values["drafter"] == who
        assert bool(said) == (who == "lookup")


def play(**changes):
    return list(app.run(asking(**changes), VISITOR))


def last(updates, name):
    return [u[name] for u in updates if name in u][-1]


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
    assert sorted(texts[-1].splitlines()) == sorted(wire.lines(engine.lanes).splitlines())
    assert values[-1]["facts"] == facts.facts(engine.lanes)
    assert list(engine.asked[0][1]) == ["the draft model, K 5"]


def test_the_download_is_the_trace_that_was_shown(engine):
    for updates in app.run(asking(), VISITOR):
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
    for update in app.run(asking(), VISITOR):
        updates.append(update)
        app.stop(SimpleNamespace(session_hash="somebody else"))
        if len(updates) == 3:
            app.stop(VISITOR)
    steps = [r for r in sent(last(updates, "stage")) if isinstance(r, list) and r[0] == 1]
    assert 0 < len(steps) < len(engine.lanes[1].steps)


def test_a_visitor_who_leaves_ends_the_run(engine):
    engine.wait = 0.01
    stream = app.run(asking(), VISITOR)
    next(stream)
    next(stream)
    flag = app._running["a visitor"]
    stream.close()
    assert flag.is_set()
    assert not app._running


def test_one_run_a_visitor(engine):
    first = app.run(asking(), VISITOR)
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
        ({"drafter-3": "model", "k-3": 0}, "K is 0"),
        ({"temperature": -1}, "temperature is -1"),
        ({"temperature": 1, "seed": 0.5}, "seed is 0.5"),
        ({"temperature": 1, "top_p": None}, "top-p is None"),
    ],
)
def test_bad_settings_are_one_sentence_and_leave_the_result(engine, asked, word):
    updates = play(**asked)
    assert all("stage" not in u for u in updates)
    assert word in last(updates, "notice")["text"]
    assert last(updates, "run")["interactive"]


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
    assert [name for _, name in lanes.DRAFTERS] == [n for n in drafters.NAMES if n != "none"]
    labels = [method.label for method in drafters.REGISTRY.values()]
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
    said = [words.sampled(sampling) for sampling in made]
    drawn = "sampled, temperature 0.8, top-p 0.9, seed 7"
    assert said == [drawn, "", "greedy, repetition-penalty 1.5"]
    own, same = (page_runs.sampled(page_runs.pair(), rule) for rule in ("speculative", "coupled"))
    assert f"{drawn}, distribution-exact" in facts.source(own, "live")
    assert f"{drawn}, same dice, token-exact" in facts.source(same, "live")
    assert "each lane drew its own" in facts.verdict(*own)["text"]
    assert facts.verdict(*same)["state"] == "yes"


def test_references_go_to_the_lanes_that_read_them(engine, monkeypatch, tmp_path):
    reads = replace(drafters.REGISTRY["lookup"], references=True)
    monkeypatch.setitem(drafters.REGISTRY, "lookup", reads)
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
    assert shown["stage"]["trace"] == wire.lines(page_runs.pair())
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
        (lambda t: "hello", "neither a Stairs trace"),
        (lambda t: "[" * 100_000, "neither a Stairs trace"),
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
    recorded = page_runs.four()
    for lane, said in zip(recorded[1:], facts.facts(recorded)[1:], strict=True):
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
    columns, rows = facts.table(recorded).values()
    assert [row[0] for row in rows] == [lane.run.name for lane in recorded]
    assert [row[-1] for row in rows] == ["–", "no, one is longer", "yes", "yes"]
    tree = facts.facts(recorded)[3]["numbers"]
    assert rows[3][1:5] == [tree[i]["value"] for i in (0, 2, 3, 5)]
    assert all(len(row) == len(columns) for row in rows)
    assert {row[-1] for row in facts.table(recorded, running=True)["rows"][1:]} == {"so far"}


def test_what_is_not_known_is_a_dash():
    def dashes(*lanes, **options):
        return [n["value"] == "–" for n in facts.numbers(*lanes, **options)]

    alone, stairs = page_runs.pair()
    empty = [replace(lane, steps=()) for lane in (alone, stairs)]
    assert dashes(*empty, running=True)[:3] == [True] * 3
    assert dashes(alone, None) == [True, False, *[True] * 5]
    assert dashes(None, stairs) == [True, True, *[False] * 4, True]
    assert dashes(alone, stairs, running=True) == [*[False] * 6, True]
    (nothing,) = facts.facts([])
    assert [n["value"] for n in nothing["numbers"]] == ["–"] * 7
    assert nothing["verdict"]["text"] == "Nothing has run yet."


def test_the_verdict():
    texts = page_runs.words(page_runs.STORY)
    alone, stairs = page_runs.pair(texts)
    assert facts.verdict(alone, stairs)["text"] == f"Same text: yes, all {len(texts)} tokens."
    assert facts.verdict(alone, stairs, running=True)["state"] == "open"
    assert "not compared" in facts.verdict(alone, None)["text"]
    assert facts.verdict(alone, page_runs.lane(texts[:20], stopped=True)) == {
        "state": "yes",
        "text": "Same text: yes, the 20 tokens that both had written when the run was stopped.",
    }
    assert facts.verdict(alone, page_runs.lane(texts[:20]))["state"] == "no"


def test_the_verdict_names_the_first_difference():
    alone, stairs = page_runs.pair()
    step = stairs.steps[2]
    own = replace(step.tokens[-1], id=9999, text=" cat")
    said = list(step.predictions)
    said[step.accepted] = replace(said[step.accepted], id=9999, text=" cat", margin=2e-5)
    changed = replace(step, tokens=(*step.tokens[:-1], own), predictions=tuple(said))
    other = replace(stairs, steps=(*stairs.steps[:2], changed, *stairs.steps[3:]))
    other = replace(other, stop=replace(other.stop, noise=1e-5))
    verdict = facts.verdict(alone, other)
    position = metrics.compare(alone, other).first_difference.position
    assert verdict["state"] == "no"
    assert f"new token {position + 1}" in verdict["text"]
    assert "rounding tie" in verdict["text"]


def test_batches_hand_on_everything_in_order():
    flag = live.Flag()
    records = [(0, i) for i in range(50)]
    got = [r for batch in live.batches(iter(records), flag, 0.001) for r in batch]
    assert got == records
    assert flag.is_set()


def test_nothing_is_made_while_the_page_has_a_batch_in_hand():
    made = []

    def race():
        for i in range(1000):
            made.append(i)
            yield 0, i
            time.sleep(0.001)

    batches = live.batches(race(), live.Flag(), 0.001)
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
        flag = live.Flag()
        for _ in live.batches(race(runners, flag.is_set), flag, 0.02):
            until = time.thread_time() + seconds
            while time.thread_time() < until:
                pass
        return max(runner.steps[-1].elapsed for runner in runners)

    # By turns, and the least of each: other work on the machine only ever adds to a clock.
    idle, busy = zip(*((end(0.0), end(0.04)) for _ in range(3)), strict=True)
    # Where the engine did not stand still it would be nine times as much.
    assert min(busy) < 2 * min(idle)


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


@pytest.mark.parametrize(("kind", "value"), [("Slider", 999), ("Dropdown", "x")])
def test_a_component_that_gradio_makes_anew_leaves_refusals_to_the_page(kind, value):
    """It does with every update, of which a link of settings sends many."""
    part = app._unchecked(getattr(app.gr, kind))()
    anew = type(part)(**part.constructor_args)
    assert anew.preprocess(value) == value
    assert anew.get_block_name() == kind.lower()
