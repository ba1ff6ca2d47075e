"""Whoever reads it, on whatever screen: axe-core, the keyboard, widths, large type, both themes."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import page_runs
import pytest
from browsing import LIVE, arriving, draw_charts, open_trace, reload, run, show
from playwright.sync_api import Page, expect

from stairs_core.traces import files as traces

pytest_plugins = ["visits"]
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
WIDTHS = (390, 768, 1280, 1920, 2560)
FAULTS = """where => axe.run(where, {resultTypes: ["violations"]}).then(r =>
    r.violations.filter(v => ["serious", "critical"].includes(v.impact)).flatMap(v =>
        v.nodes.map(n => `${v.id}: ${n.target.join(" ")}: ${n.html.slice(0, 160)}`)))"""

FADED = """() => new Promise(requestAnimationFrame).then(() => Promise.all(
    document.getAnimations()
        .filter(a => a.playState === "running" && a.effect.getComputedTiming().endTime < Infinity)
        .map(a => a.finished.catch(() => {}))))"""


def faults(page: Page, where: str = "html") -> list[str]:
    """Serious and critical findings of axe-core on the page as it is, or on a part of it."""
    page.evaluate(FADED)  # its colours are its own then
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    return page.evaluate(FAULTS, where)


@pytest.mark.parametrize(
    ("width", "theme"), [pytest.param(1280, "light", marks=pytest.mark.slow), (390, "dark")]
)
def test_axe_finds_no_serious_fault(visit, recorded, width, theme):
    page = visit(width, color_scheme=theme)
    expect(page.locator(".st-chip").first).to_contain_text("target", timeout=LIVE)
    draw_charts(page)
    assert faults(page) == []
    for tab in page.get_by_role("tab").all():
        tab.click()
        assert faults(page, "#stage") == [], tab.inner_text()
    page.locator(".st-legend summary").click()
    page.locator("#type-size").click()
    assert faults(page) == []
    open_trace(page, recorded / "hostile.jsonl")
    expect(page.locator(".st-source")).to_contain_text("hostile.jsonl")
    page.locator("#tour").click()
    page.locator("#tour-text").get_by_role("button").first.click()
    assert faults(page) == []


def test_axe_finds_a_fault_that_is_there(visit):
    page = visit()
    page.locator(".st-scrub").evaluate("n => n.removeAttribute('aria-label')")
    page.locator("#verdict").evaluate("n => { n.style.color = '#bbb'; }")
    found = " ".join(faults(page))
    assert "label: .st-scrub" in found
    assert "color-contrast: #verdict" in found


def test_axe_finds_no_serious_fault_while_a_run_goes_on(visit):
    page = visit()
    page.locator("#add").click()
    page.get_by_role("button", name="Sampling").click()
    run(page, "Once upon a time", 512)
    arriving(page)
    assert faults(page) == []
    page.locator("#stop").evaluate("button => button.click()")  # nothing, where the run is over
    expect(page.locator("#run")).to_be_enabled(timeout=LIVE)


CONTROLS = """() => {
    const kinds = ["a[href]", "button", "input", "select", "textarea", "summary", "[tabindex]"];
    const all = [...document.querySelector(".gradio-container").querySelectorAll(kinds.join())];
    const open = all.filter(n => n.checkVisibility() && !n.disabled && n.tabIndex >= 0);
    return open.map((n, i) => n.dataset.walk = String(i + 1));
}"""
HERE = """() => {
    const n = document.activeElement;
    const labels = [...(n.labels || [])].map(l => l.textContent).join("");
    const ids = (n.getAttribute("aria-labelledby") || "").split(" ").filter(Boolean);
    const by = ids.map(i => document.getElementById(i)?.textContent || "").join("");
    const name = n.getAttribute("aria-label") || by || labels || n.textContent || n.title;
    const s = getComputedStyle(n), w = n.parentElement && getComputedStyle(n.parentElement);
    const ring = s.outlineStyle !== "none" || s.boxShadow !== "none" || w?.boxShadow !== "none";
    const html = n.outerHTML.slice(0, 120);
    return [n.dataset.walk || "", name.trim(), ring, html, n === document.body];
}"""


MISSED = """keys => [...document.querySelectorAll("[data-walk]")].filter(n =>
    keys.includes(n.dataset.walk) && n.checkVisibility() && n.tabIndex >= 0 && n.type !== "radio")
    .map(n => n.outerHTML.slice(0, 160))"""


def test_every_control_is_reached_by_tab_and_has_a_name(visit):
    page = visit()
    expect(page.locator(".st-chip").first).to_contain_text("target", timeout=LIVE)
    page.get_by_role("button", name="Sampling").click()
    page.locator("#add").click()
    left = set(page.evaluate(CONTROLS))
    assert len(left) > 30
    for _ in range(3 * len(left)):
        page.keyboard.press("Tab")
        key, name, ring, html, out = page.evaluate(HERE)
        if out and len(left) == 0:
            break
        assert out or name, html
        assert out or ring, html
        left.discard(key)
    # Of several radio buttons, and of views and steps, Tab reaches the one that is chosen.
    found = page.evaluate(MISSED, list(left))
    assert found == []


# A slider's thumb is 20 px high, on a bar of 8.
CLIPPED = """() => [...document.querySelectorAll("#controls input[type=range]")].filter(n => {
    const end = n.getBoundingClientRect().bottom + 6;
    const clips = box => getComputedStyle(box).overflow !== "visible";
    for (let box = n.parentElement; box.id !== "controls"; box = box.parentElement)
        if (clips(box) && box.getBoundingClientRect().bottom < end) return n.checkVisibility();
}).map(n => n.closest("[id]").id)"""
WIDE = "[document.documentElement.scrollWidth, document.body.getBoundingClientRect().width]"


@pytest.mark.parametrize(
    ("large", "theme"), [pytest.param(False, "light", marks=pytest.mark.slow), (True, "dark")]
)
def test_nothing_is_wider_than_the_window(visit, made, theme, large):
    page = visit(color_scheme=theme)
    if large:
        page.locator("#type-size").click()
        expect(page.locator("#type-size")).to_have_text("Normal type")
    open_trace(page, made["lanes"])
    expect(page.locator(".st-source")).to_contain_text("lanes.jsonl")
    for width in WIDTHS[::2] if large else WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate(CLIPPED) == [], width
        for tab in page.get_by_role("tab").all():
            tab.click()
            page.wait_for_timeout(100)
            assert page.evaluate(WIDE)[0] == width, (width, tab.inner_text())
        page.locator("#tour").click()
        card = page.locator("#tour-card").bounding_box()
        assert card is not None
        assert card["x"] >= 0
        assert card["x"] + card["width"] <= width
        assert page.evaluate(WIDE)[0] == width
        page.keyboard.press("Escape")
    used = page.locator(".gradio-container").bounding_box()
    assert used is not None
    assert used["width"] > 2000


def test_large_type_on_a_phone_cuts_nothing_of_a_run_with_heads(visit, tmp_path):
    page = visit(width=320)
    page.locator("#type-size").click()
    alone, chain = page_runs.pair()
    guessing = replace(chain.run, drafter="eagle", draft=None)
    traces.write(tmp_path / "heads.jsonl", [alone, replace(chain, run=guessing)])
    show(page, tmp_path / "heads.jsonl")
    expect(page.locator(".st-heads")).to_be_visible()
    wider = "[...document.querySelector('.st-heads').children].map(n => n.clientWidth)"
    for width in (320, 390, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(100)
        assert page.evaluate(WIDE)[0] == width
        assert min(page.evaluate(wider)) > 100


def test_a_number_of_wrong_guesses_reads_alike_beside_any_script(kept, tmp_path):
    page = kept()
    lane = page_runs.tree(["שלום", "עולם"] * 8)
    traces.write(tmp_path / "hebrew.jsonl", [lane])
    show(page, tmp_path / "hebrew.jsonl")
    at = """(node, i) => {
        const range = document.createRange();
        range.setStart(node.firstChild, i);
        range.setEnd(node.firstChild, i + 1);
        return range.getBoundingClientRect().left;
    }"""
    many = page.locator(".st-others").first
    expect(many).to_contain_text("×")
    assert many.evaluate(at, 0) < many.evaluate(at, 1)


def test_large_type_is_larger_and_remembered_as_is_the_theme(visit):
    page = visit(color_scheme="light")
    tall = "document.querySelector('#prompt textarea').getBoundingClientRect().height"
    before = page.evaluate(tall)
    page.locator("#type-size").click()
    page.locator("#theme").click()
    for _ in range(2):
        expect(page.locator("#type-size")).to_have_text("Normal type")
        expect(page.locator("#theme")).to_have_text("Light theme")
        assert page.evaluate(tall) > 1.25 * before
        reload(page)
        expect(page.locator("#verdict")).to_contain_text("Same text", timeout=LIVE)
    page.locator("#type-size").click()
    assert page.evaluate(tall) == pytest.approx(before, abs=1)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_tour_and_the_words_can_be_read(visit, theme):
    page = visit(color_scheme=theme)
    page.locator(".st-legend summary").click()
    page.locator("#tour").click()
    page.locator("#tour-text").get_by_role("button").first.click()
    contrast = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
    wider = contrast.replace(
        '".gradio-container *"', '".gradio-container *, .st-tour *, .st-entry *"'
    )
    assert wider != contrast
    assert page.evaluate(wider, 4.5) == []


def test_nothing_moves_for_who_wants_no_motion(visit):
    page = visit(reduced_motion="reduce")
    page.locator("#tour").click()
    page.locator(".st-rings i").first.wait_for()
    page.get_by_role("button", name="Next").click()
    moving = "document.getAnimations().filter(a => a.playState === 'running').length"
    assert page.evaluate(moving) == 0
