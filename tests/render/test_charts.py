"""The charts: their numbers are those of the recordings, and few enough to be sent."""

from __future__ import annotations

import json
from dataclasses import replace

import page_runs
import plotly.graph_objects as go
import pytest
from chart_data import charts_of, numbers, points, rounded
from gradio.utils import diff

from stairs_core.render.charts import race, series
from stairs_core.traces import metrics
from stairs_core.traces.records import Prices, Recording
from stairs_core.traces.what_if import what_if
from stairs_core.web import stage_value

IDS = ("tokens-over-time", "speedup-so-far", "acceptance-by-position", "draft-lengths")
PRICES = Prices("single_kv", 64, (1, 2, 4, 8), (0.0184, 0.019, 0.02, 0.022), 0.0018)


def priced(lanes: list[Recording], prices: Prices = PRICES) -> list[Recording]:
    return [replace(r, run=replace(r.run, prices=(prices,))) for r in lanes]


def test_every_chart_is_a_figure_of_plotly_with_no_colour_of_its_own():
    for running in (False, True):
        for chart in charts_of(priced(page_runs.four()), running).values():
            data = [t | {axis: numbers(t[axis]) for axis in "xy"} for t in chart["data"]]
            data = [t | {"customdata": None} for t in data]
            text = json.dumps([data, chart["layout"], chart["keys"]])
            assert "#" not in text
            assert text.count("rgb") == text.count("rgba(0,0,0,0)")
            for t in data:
                _in_theme(t)
            _in_theme(chart["layout"])
            go.Figure(data, chart["layout"])


def _in_theme(value) -> None:
    """Puts in any colour for the names of variables, which the browser looks up."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in [*items]:
        if isinstance(inner, str) and inner.startswith("var(--st-"):
            value[key] = "red"
        elif isinstance(inner, dict | list):
            _in_theme(inner)


def test_the_curves_are_those_of_the_recordings():
    lanes = page_runs.four()
    found = charts_of(lanes)
    for i, lane in enumerate(lanes):
        seconds, tokens = metrics.progress(lane.steps)
        assert points(found[IDS[0]], i, lane.run.name) == (rounded(seconds), tokens)
        if i:
            x, y = points(found[IDS[1]], i, lane.run.name)
            speedup = metrics.compare(lanes[0], lane).speedup
            assert y[-1] == pytest.approx(speedup, rel=1e-3)
            assert x[-1] == metrics.fold(lane.steps).new_tokens
            steps = range(1, len(lane.steps) + 1)
            assert points(found[IDS[3]], i, "drafted") == (
                [*steps],
                [len(s.drafted) for s in lane.steps],
            )
            assert points(found[IDS[3]], i, "accepted")[1] == [s.accepted for s in lane.steps]
    half, _ = series.speedup_so_far(lanes[0].steps[:20], lanes[1].steps)
    assert half[-1] <= 20


def test_acceptance_by_position_adds_up_to_all_that_was_checked():
    lanes = page_runs.four()
    for lane in lanes[1:]:
        found, summary = series.by_position(lane.steps), metrics.fold(lane.steps)
        assert sum(accepted for accepted, _ in found) == summary.accepted
        assert sum(checked for _, checked in found) == summary.checked
    chart, (_, chain, *_) = charts_of(lanes)[IDS[2]], lanes
    first = [s.drafted[0].status for s in chain.steps if s.drafted]
    share = first.count("accepted") / len(first)
    assert points(chart, 1, chain.run.name)[1][0] == pytest.approx(share, rel=1e-3)
    assert len(points(chart, 3, lanes[3].run.name)[0]) == 4  # as deep as the tree
    assert "a depth" in chart["captions"][0]
    assert "a depth" not in charts_of(lanes[:2])[IDS[2]]["captions"][0]


def test_the_ideal_is_that_of_the_runs_own_passes_or_is_not_drawn():
    wrong = replace(PRICES, seconds=tuple(3 * s for s in PRICES.seconds))
    for lanes in (priced(page_runs.four()), priced(page_runs.four(), wrong), page_runs.four()):
        chart = charts_of(lanes)[IDS[1]]
        _, ideal = points(chart, 1, "Ideal")
        assert ideal == rounded(metrics.ideal_speedups(lanes[1], lanes[0]))
        _, measured = points(chart, 1, lanes[1].run.name)
        assert all(a <= b for a, b in zip(measured, ideal, strict=True))
        assert ideal[-1] <= metrics.fold(lanes[1].steps).tokens_per_target_call
        assert "Shaded" in chart["captions"][1]
        assert not any(t["name"] == "Ideal" and t["meta"]["lane"] == 3 for t in chart["data"])
        assert "more than passes" in chart["captions"][3]
    alone, lane, *_ = page_runs.four()
    masks = replace(lane, run=replace(lane.run, drafter="space", draft=None))
    _, told = charts_of([alone, masks])[IDS[1]]["captions"]
    assert "No ideal is known: its passes read more than guesses" in told


def _every_k(lanes: list[Recording]) -> dict:
    return charts_of(lanes)["speedup-by-k"]


def test_every_k_is_drawn_as_reckoned_and_the_better_one_offered():
    alone, chain = page_runs.pair()
    right = "".join("01"[at % 7 != 4 and at % 11 != 9] for at in range(85))
    chain = replace(chain, stop=replace(chain.stop, draft_matches=right))
    for lanes in (priced([alone, chain]), [alone, chain]):
        chart, found = _every_k(lanes), what_if(lanes[1], lanes[0])
        timed = bool(lanes[0].run.prices)
        gains = [w.speedup if timed else w.tokens_per_target_call for w in found]
        assert points(chart, 1, "Stairs") == ([w.k for w in found], rounded(gains))
        assert [row[0] for row in chart["tables"][1]["rows"]] == [w.k for w in found]
        assert [row[-1] for row in chart["tables"][1]["rows"]][4] == (
            pytest.approx(found[4].speedup, rel=1e-3) if timed else None
        )
        assert points(chart, 1, "K in use")[0] == [5]
        best = max(found, key=lambda w: w.speedup or 0)
        assert chart["use"] == [None, {"guesser": 0, "k": best.k} if timed else None]
        assert ("passes were not measured" in chart["captions"][1]) is not timed
    assert found[4].steps == len(chain.steps)
    auto = replace(chain, run=replace(chain.run, length="cost"))
    assert not any(t["name"] == "K in use" for t in _every_k(priced([alone, auto]))["data"])


def test_why_nothing_is_known_of_another_k():
    said = _every_k(page_runs.four())["captions"]
    assert "guesses nothing" in said[0]
    assert "does not tell" in said[1]
    assert "other guesses" in said[2]
    assert "by chance" in _every_k(page_runs.sampled(page_runs.pair(), "coupled"))["captions"][1]
    assert "when the run is over" in race.charts(page_runs.pair(), True)[-1]["captions"][1]


def test_a_table_holds_the_numbers_of_its_figure():
    lanes = priced(page_runs.four())
    found = charts_of(lanes)
    for chart in (found[id] for id in IDS[:3]):
        (table,) = chart["tables"]
        names = {lane.run.name for lane in lanes}
        curves_of = [t for t in chart["data"] if t["name"] in names]
        seen = [
            (t["name"], x, y)
            for t in curves_of
            for x, y in zip(numbers(t["x"]), numbers(t["y"]), strict=True)
        ]
        y = {"speedup-so-far": 2}.get(chart["id"], -1)
        assert [(row[0], row[1], row[y]) for row in table["rows"]] == seen
        assert all(len(row) == len(table["columns"]) for row in table["rows"])
    for i, table in enumerate(found[IDS[3]]["tables"][1:], 1):
        columns = [*zip(*table["rows"], strict=True)]
        assert points(found[IDS[3]], i, "drafted") == (list(columns[0]), list(columns[1]))
        assert points(found[IDS[3]], i, "accepted")[1] == list(columns[2])


def test_the_main_finding_is_said_in_words():
    lanes = priced(page_runs.pair())
    said = {id: chart["said"][-1] for id, chart in charts_of(lanes).items()}
    speedup = metrics.compare(*lanes).speedup
    assert "Stairs: 85 tokens in 0.828 s" in said[IDS[0]]
    assert f"{speedup:.2f} times the target alone, of an ideal" in said[IDS[1]]
    assert "% of first guesses are kept" in said[IDS[2]]
    assert "tokens drafted a step" in said[IDS[3]]


def test_the_names_of_lanes_stay_text():
    lanes = page_runs.pair()
    name = "<b>&\x00${1}"
    lanes[1] = replace(lanes[1], run=replace(lanes[1].run, name=name))
    for chart in charts_of(lanes).values():
        for trace in chart["data"]:
            text = trace["name"] + "".join(trace.get("text", ""))
            assert "<" not in text
            assert "\x00" not in text
    found = charts_of(lanes)[IDS[0]]
    assert found["data"][1]["name"] == "&lt;b&gt;&amp;\ufffd${1}"
    assert found["keys"][0][1]["text"] == name  # for the page, which has only text


def test_what_is_known_of_nothing_and_of_one_lane():
    assert [chart["data"] for chart in race.charts([])] == [[]] * 5
    json.dumps(stage_value.value("", [], "live"))
    alone = charts_of(page_runs.pair()[:1])
    assert [bool(chart["data"]) for chart in alone.values()] == [True, *[False] * 4]
    guessing = charts_of(page_runs.pair()[1:])
    assert guessing[IDS[1]]["data"] == []
    assert "not among" in guessing[IDS[1]]["captions"][0]


def test_a_long_run_is_drawn_coarser_and_its_bars_are_means():
    lanes = page_runs.pair((page_runs.words(page_runs.STORY) * 40)[:3000])
    found = charts_of(lanes)
    for chart in found.values():
        for trace in chart["data"]:
            assert len(numbers(trace["x"])) <= series.WHOLE
    x, y = points(found[IDS[0]], 1, "Stairs")
    assert y[-1] == 3000
    assert x[-1] == pytest.approx(lanes[1].steps[-1].elapsed, rel=1e-3)
    _, accepted = points(found[IDS[3]], 1, "accepted")
    pairs = [s.accepted for s in lanes[1].steps[:2]]
    assert accepted[0] == sum(pairs) / 2
    assert "mean of 2 steps" in found[IDS[3]]["captions"][1]


def test_what_is_sent_while_a_race_goes_on_is_little():
    lanes = priced(page_runs.pair((page_runs.words(page_runs.STORY) * 6)[:500]))
    end = max(lane.steps[-1].elapsed for lane in lanes)
    sent, last = 0, None
    for i in range(1, 81):
        now = [
            replace(r, steps=tuple(s for s in r.steps if s.elapsed <= end * i / 80)) for r in lanes
        ]
        value = json.loads(json.dumps(stage_value.around("run", now, "live", running=True)))
        for chart in value["charts"]:
            assert chart["tables"] == chart["said"] == []
            for trace in chart["data"]:
                assert len(numbers(trace["x"])) <= series.RUNNING
        sent += len(json.dumps(value if last is None else diff(last, value)))
        last = value
    whole = json.loads(json.dumps(stage_value.around("run", lanes, "live")))
    assert sent < 100_000
    assert len(json.dumps(diff(last, whole))) < 60_000


def test_no_k_is_offered_for_a_lane_that_says_of_itself_that_it_does_not_guess():
    alone, lane = priced(page_runs.pair())
    matches = "1" * metrics.fold(lane.steps).new_tokens
    stop = replace(lane.stop, draft_matches=matches)
    odd = replace(lane, run=replace(lane.run, drafter="none"), stop=stop)
    assert charts_of([alone, odd])["speedup-by-k"]["use"] == [None, None]
