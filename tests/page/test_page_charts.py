"""The charts in a real browser: drawn, read as tables, saved, and a better K taken over."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import page_runs
import pytest
from browsing import LIVE, RUNNING, arriving, draw_charts, run, show
from playwright.sync_api import Page, expect

from stairs_core.traces import files, metrics
from stairs_core.traces.records import Prices, Recording
from stairs_core.traces.what_if import what_if
from stairs_core.web.stage_value import value

pytest_plugins = ["visits"]
IDS = ("tokens-over-time", "speedup-so-far", "acceptance-by-position", "draft-lengths")
NAME = "=<b>${1}, \u202e"
PRICES = Prices("single_kv", 64, (1, 2, 4, 8, 16), (0.019, 0.019, 0.02, 0.022, 0.026), 0.0001)


def _lanes() -> list[Recording]:
    """Two chains over one text, whose draft would have been right as page_runs has it; the second
    has a name that tries to break out."""
    alone, chain = page_runs.pair()
    right = (at % 7 != 4 and at % 11 != 9 for at in range(85))
    stop = replace(chain.stop, draft_matches="".join("01"[r] for r in right))
    lanes = [alone, replace(chain, stop=stop), page_runs.lane(page_runs.words(page_runs.STORY))]
    lanes[2] = replace(lanes[2], run=replace(lanes[2].run, name=NAME))
    return [replace(r, run=replace(r.run, prices=(PRICES,))) for r in lanes]


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    path = tmp_path_factory.mktemp("charts") / "charts.jsonl"
    files.write(path, _lanes())
    return path


def _opened(page: Page, path: Path) -> None:
    show(page, path)
    draw_charts(page)


def _places(page: Page) -> list:
    """Where every chart and its plot stand, from where the first one begins."""
    return page.evaluate(
        """() => {
            const top = document.querySelector("#charts").getBoundingClientRect().top;
            return [...document.querySelectorAll(".st-chart, .st-plot")].map(n => {
                const r = n.getBoundingClientRect();
                return [r.left, r.top - top, r.width, r.height].map(Math.round);
            });
        }"""
    )


def _drawn(page: Page, id: str):
    return page.locator(f"#chart-{id} .main-svg").first


def test_five_charts_are_drawn_and_said(kept, trace):
    page = kept()
    _opened(page, trace)
    for id in (*IDS, "speedup-by-k"):
        expect(_drawn(page, id)).to_be_visible()
        assert len(page.locator(f"#chart-{id} .st-plot").get_attribute("aria-label") or "") > 30
    assert page.locator("#charts .js-fill").count() == 1  # the band, of the lane that leads
    expect(page.locator("#chart-draft-lengths")).to_contain_text("Stairs, step by step")
    page.locator(".st-table input").nth(1).check()
    expect(page.locator("#chart-draft-lengths")).to_contain_text("=<b>${1}, ‹U+202E›, step by step")
    expect(page.locator("#chart-speedup-by-k")).to_contain_text("does not tell")
    expect(page.locator("#charts .js-fill")).to_have_count(1)
    assert page.locator("#charts b").count() == 0


def test_a_table_opens_by_keyboard(kept, trace):
    page = kept(390)
    _opened(page, trace)
    card = page.locator("#chart-acceptance-by-position")
    card.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(card.locator("tr").first).to_be_visible()
    found = [row.split("\t") for row in card.locator("tr").all_inner_texts()]
    assert found[0] == ["Lane", "Position", "Accepted", "Checked", "Share"]
    assert [row[0] for row in found[1:]] == ["Stairs"] * 5 + ["=<b>${1}, ‹U+202E›"] * 5
    page.keyboard.press("Tab")
    expect(card.locator(".st-chart-table")).to_be_focused()


def test_charts_are_saved(kept, trace):
    page = kept()
    _opened(page, trace)
    card = page.locator("#chart-speedup-so-far")
    with page.expect_download() as download:
        card.get_by_role("button", name="CSV").click()
    assert download.value.suggested_filename == "stairs-speedup-so-far.csv"
    text = Path(download.value.path()).read_text(encoding="utf-8")
    rows = [*csv.DictReader(io.StringIO(text))]
    assert {row["Lane"] for row in rows} == {"Stairs", f"'{NAME}"}
    speedup = metrics.compare(*_lanes()[:2]).speedup
    assert float(rows[-1]["Speedup so far"]) == pytest.approx(speedup, rel=1e-3)
    assert float(rows[-1]["Ideal"]) >= float(rows[-1]["Speedup so far"])
    expect(_drawn(page, "speedup-so-far")).to_be_visible()
    with page.expect_download() as download:
        card.get_by_role("button", name="SVG").click()
    assert download.value.suggested_filename == "stairs-speedup-so-far.svg"
    drawn = Path(download.value.path()).read_text(encoding="utf-8")
    assert drawn.startswith("<svg")
    assert "Speedup so far" in drawn
    assert "var(--" not in drawn


def test_the_best_k_is_taken_over(visit, trace):
    page = visit()
    _opened(page, trace)
    alone, chain, _ = _lanes()
    best = max(what_if(chain, alone), key=lambda w: w.speedup or 0)
    assert best.k != chain.run.k
    page.locator("#auto input").check()
    expect(page.locator("#k input[type=range]")).to_be_disabled()
    page.get_by_role("button", name=f"Use K = {best.k}").click()
    for kind in ("number", "range"):
        expect(page.locator(f"#k input[type={kind}]")).to_have_value(str(best.k))
        expect(page.locator(f"#k input[type={kind}]")).to_be_enabled()
    run(page, "the fox", 8)
    expect(page.locator("#run")).to_be_enabled(timeout=LIVE)
    expect(page.locator(".st-source")).to_contain_text(f"K {best.k},")


def test_nothing_moves_while_charts_are_drawn(visit):
    page = visit()
    draw_charts(page)
    page.locator("#chart-tokens-over-time summary").click()
    run(page, "Once upon a time", 250)
    arriving(page)
    page.evaluate("document.querySelector('#charts').scrollIntoView()")
    expect(page.locator("#chart-tokens-over-time details")).not_to_have_attribute("open", "")
    expect(page.locator("#chart-tokens-over-time .js-line").first).to_be_visible()
    seen = {str(_places(page))}
    while page.evaluate(RUNNING):
        seen.add(str(_places(page)))
        page.wait_for_timeout(150)
    assert len(seen) == 1, seen
    expect(page.locator("#chart-tokens-over-time summary")).to_be_visible()
    page.locator("#chart-tokens-over-time summary").click()
    expect(page.locator("#chart-tokens-over-time tbody tr").last).to_contain_text("250")


def test_without_plotly_the_tables_are_open(visit, trace):
    page = visit()
    page.evaluate(
        """() => {
            const node = document.createElement("div");
            document.querySelector("#stage .st-stage").replaceWith(node);
            window.second = new Stairs.Stage(node, undefined);
        }"""
    )
    page.evaluate("value => second.update(value)", _value())
    assert page.locator("#charts .main-svg").count() == 0
    expect(page.locator("#chart-tokens-over-time tbody tr").last).to_be_visible()
    expect(page.locator("#charts").get_by_role("button", name="SVG")).to_have_count(0)
    with page.expect_download() as download:
        page.locator("#chart-draft-lengths").get_by_role("button", name="CSV").click()
    assert Path(download.value.path()).read_text().startswith("Step,Drafted,Accepted")


def _value():
    return json.loads(json.dumps(value("other", _lanes(), "file", "a file")))
