"""The page in a real browser: typed into, watched, dragged, stopped and fed bad files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import page_runs
import pytest
from browsing import (
    COUNTS,
    LIVE,
    LONG,
    RUNNING,
    counted,
    draw_charts,
    open_trace,
    opened,
    reload,
    run,
    shape,
    show,
)
from playwright.sync_api import Locator, Page, expect

from stairs_core.traces import files
from stairs_core.web import packed_trace

pytest_plugins = ["visits"]
FOX = "a-fox-and-a-key.jsonl"  # the run that the page opens on
HOSTILE_PROMPT = "Once <img src=x onerror=alert(1)> ${1+1} {{value}} </script>"


def _facts(page: Page) -> list[str]:
    return page.locator("#summary, #verdict").all_inner_texts()


def test_it_opens_on_a_recorded_run(visit):
    page = visit()
    expect(page.locator(".st-source")).to_contain_text("no machine (made up)")
    expect(page.locator(".st-source")).to_have_class("st-source recorded")
    expect(page.locator("#summary")).to_contain_text("1.99 ×")
    expect(page.locator("#verdict")).to_have_text("Same text: yes, all 85 tokens.")
    draw_charts(page)
    expect(page.locator("#charts .main-svg").first).to_be_visible()
    for name in (
        "prompt",
        "drafter",
        "k",
        "auto",
        "max-new-tokens",
        "run",
        "stop",
        "stage",
        "trace-open",
    ):
        expect(page.locator(f"#{name}")).to_have_count(1)
    expect(page.locator("#trace-download")).to_be_enabled()
    assert page.evaluate("document.fonts.size") == 0


def test_a_prompt_is_typed_and_the_race_is_run(visit):
    page = visit()
    run(page, HOSTILE_PROMPT, 24)
    expect(page.locator("#run")).to_be_enabled(timeout=LIVE)
    expect(page.locator("#verdict")).to_contain_text("all 24 tokens")
    expect(page.locator("#summary")).not_to_contain_text("so far")
    expect(page.locator(".st-source")).to_have_class("st-source live")
    assert page.evaluate(COUNTS) == [24, 24]
    lanes = page.locator(".st-text")
    for i in range(2):
        assert HOSTILE_PROMPT in lanes.nth(i).text_content()
    assert page.locator(".st-stage img, .st-stage script").count() == 0
    written = page.locator(".st-lane:not(.plain) :is(.accepted, .correction, .bonus)")
    alone = page.locator(".st-lane.plain .st-t")
    assert "".join(written.all_text_contents()) == "".join(alone.all_text_contents())


def test_a_run_that_copies_with_automatic_length_and_strict_numerics(visit):
    page = visit()
    page.locator("#drafter input").click()
    page.get_by_role("option", name="copying from the text", exact=True).click()
    page.locator("#auto input").check()
    page.locator("#checked button").first.click()
    page.locator("#strict input").check()
    expect(page.locator("#k input[type=range]")).to_be_disabled()
    run(page, "fox key fox key fox key fox", 24)
    expect(page.locator("#run")).to_be_enabled(timeout=LIVE)
    expect(page.locator("#verdict")).to_contain_text("all 24 tokens")
    expect(page.locator(".st-source")).to_contain_text("copying from the text, K auto, 16 at most")
    expect(page.locator(".st-source")).to_contain_text("strict")


def test_the_scrubber_is_dragged(kept, recorded):
    page = kept()
    opened(page, recorded / FOX, 5)
    draw_charts(page)
    title, stairs = page.locator(".st-cursor h2"), page.locator(".st-stairs")
    before, where, facts = stairs.inner_text(), shape(page), _facts(page)
    box = _box(page.locator(".st-scrub"))
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 8, box["y"] + box["height"] / 2, steps=12)
    page.mouse.up()
    expect(title).to_contain_text("Step 1 of 24")
    assert stairs.inner_text() != before
    assert shape(page) == where
    assert _facts(page) == facts
    assert page.locator(".st-lane:not(.plain) .st-step:not(.later)").count() == 1


def _box(locator: Locator) -> dict:
    locator.scroll_into_view_if_needed()
    box = locator.bounding_box()
    assert box is not None
    return box


def test_the_keyboard_moves_through_the_steps(kept, recorded):
    page = kept()
    opened(page, recorded / FOX)
    title = page.locator(".st-cursor h2")
    page.locator(".st-scrub").focus()
    seen = {}
    for key, step in [("Home", 1), ("ArrowRight", 2), ("ArrowRight", 3), ("ArrowLeft", 2)]:
        page.keyboard.press(key)
        expect(title).to_contain_text(f"Step {step} of 24")
        seen.setdefault(step, page.locator(".st-stairs").inner_text())
    assert len(set(seen.values())) == 3
    page.keyboard.press("End")
    expect(title).to_contain_text("Step 24 of 24")
    expect(page.locator(".st-scrub")).to_have_attribute("aria-valuetext", re.compile("Step 24"))
    assert page.locator(".st-step.later").count() == 0
    page.keyboard.press("Home")
    page.locator(".st-stairs .says[tabindex='0']").focus()
    detail = page.locator(".st-detail")
    expect(detail).to_contain_text("This row is kept")
    page.keyboard.press("ArrowUp")
    expect(detail).to_contain_text("agreed")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_click_on_a_token_or_a_bar_goes_to_its_step(kept, recorded):
    page = kept()
    opened(page, recorded / FOX)
    page.locator(".st-lane:not(.plain) .st-step").nth(3).locator(".st-t").first.click()
    expect(page.locator(".st-cursor h2")).to_contain_text("Step 4 of 24")
    token = page.locator(".st-lane:not(.plain) .st-step").nth(3).locator(".st-t").first
    token.hover()
    expect(page.locator("#token-card")).to_contain_text(re.compile(r"token \d+.*accepted.*margin"))
    page.locator(".st-s").nth(9).click()
    expect(page.locator(".st-cursor h2")).to_contain_text("Step 10 of 24")
    page.get_by_role("button", name="Play", exact=True).click()
    expect(page.locator(".st-cursor h2")).to_contain_text(re.compile("Step 1[1-9]"))
    page.get_by_role("button", name="Pause").click()


def test_all_that_is_known_of_a_token_is_told(kept, made):
    page = kept()
    opened(page, made["odds"], 2)
    page.locator(".st-text").nth(1).focus()
    card = page.locator("#token-card")
    expect(card).to_be_hidden()
    page.keyboard.press("ArrowDown")
    expect(card).to_contain_text("target's probabilityunder 0.1 %, its third choice")
    expect(card).to_contain_text("draft's probability25 %")
    page.keyboard.press("ArrowDown")
    expect(card).to_contain_text("step3, place 1 of 6")
    page.keyboard.press("ArrowDown")
    expect(card).to_contain_text("target's probability12 %, its 21st choice")
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()


def test_spaces_and_wrong_guesses_are_shown_on_demand(kept, made):
    page = kept()
    opened(page, made["lanes"])
    words, ghosts = page.locator(".st-words").nth(1), page.locator(".st-lane .rejected")
    before = words.inner_text()
    page.get_by_label("spaces as ·").check()
    assert "·wood" in words.inner_text()
    assert "↵\n" in words.inner_text()
    page.get_by_label("spaces as ·").uncheck()
    assert words.inner_text() == before
    expect(ghosts.first).to_be_visible()
    page.get_by_label("wrong guesses").uncheck()
    expect(ghosts.first).to_be_hidden()
    page.get_by_label("wrong guesses").check()


def test_what_is_sent_is_the_trace(kept):
    lanes = [*page_runs.four(), *page_runs.pair([*page_runs.HOSTILE, "\ud83d"])]
    lanes += page_runs.special(page_runs.pair())
    fold = "text => { const fold = new Stairs.Fold(); fold.push(text); return fold.lanes.flatMap("
    read = f"{fold} lane => [lane.run, ...lane.steps, lane.stop]) }}"
    read = kept().evaluate(read, packed_trace.lines(lanes))
    for got, event in zip(read, files.events(lanes), strict=True):
        event = json.loads(json.dumps(event))
        got = {key: got[key] for key in event}
        for token in got.get("tokens", []):
            for key in [k for k, v in token.items() if v is None]:
                del token[key]
        assert got == {k: round(v, 6) if type(v) is float else v for k, v in event.items()}


def test_playing_at_the_engines_speed_moves_every_lane(kept, recorded):
    page = kept()
    opened(page, recorded / FOX)
    page.locator(".st-scrub").focus()
    page.keyboard.press("Home")
    page.get_by_label("How fast to play").select_option("0.25")
    page.locator(".st-scrub").focus()
    page.keyboard.press("Space")
    alone, stairs = counted(page, "n > 2 && n < 80")
    assert alone < stairs
    expect(page.locator(".st-flag").nth(1)).to_have_text("⚑ first")
    page.wait_for_function(f"{COUNTS}.every(n => n === {COUNTS}[1])")
    expect(page.locator(".st-flag")).to_have_text(["⚑ second", "⚑ first"])
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()
    page.get_by_label("How fast to play").select_option("0")


def test_a_key_that_goes_leaves_its_line(kept, recorded):
    """A busy machine ends a run without an ideal; the charts below must stay where they are."""
    page = kept(360)
    opened(page, recorded / FOX)
    draw_charts(page)
    height, again = page.evaluate(
        """() => {
            const { charts } = Stairs.stage.value, run = Stairs.stage.run;
            const card = Stairs.stage.charts.charts[1], keys = card.keys;
            const many = [...charts[1].keys[0], ...charts[1].keys[0], ...charts[1].keys[0]];
            card.show({ ...charts[1], keys: [many] }, 0, run);
            const height = keys.offsetHeight;
            card.show({ ...charts[1], keys: [many.slice(0, 1)] }, 0, run);
            return [height, keys.offsetHeight];
        }"""
    )
    assert again == height > 20


def test_a_run_is_watched_stopped_saved_and_opened_again(visit, tmp_path):
    page = visit()
    draw_charts(page)
    run(page, "Once upon a time", LONG)
    so_far = "document.querySelector('#summary').textContent.includes('so far')"
    first, before = counted(page, "n > 0", f"{RUNNING} && {so_far}"), shape(page)
    page.wait_for_function(f"{COUNTS}.every((n, i) => n > {first}[i])", timeout=LIVE)
    assert page.evaluate(RUNNING)
    page.locator("#stop").click()
    expect(page.locator("#run")).to_be_enabled(timeout=LIVE)
    expect(page.locator("#stop")).to_be_disabled()
    expect(page.locator("#verdict")).to_contain_text("when the run was stopped")
    assert shape(page) == before
    stopped = _facts(page)
    with page.expect_download() as download:
        page.locator("#trace-download").click()
    path = tmp_path / "saved.jsonl"
    download.value.save_as(path)
    lanes = files.read(path)
    assert [lane.stop.reason for lane in lanes] == ["stopped", "stopped"]
    reload(page)
    expect(page.locator("#summary")).to_contain_text("1.99 ×")
    open_trace(page, path)
    expect(page.locator(".st-source")).to_have_class("st-source file")
    expect(page.locator(".st-source")).to_contain_text("saved.jsonl")
    assert _facts(page) == stopped


def test_hostile_text_is_text(kept, recorded):
    page = kept()
    show(page, recorded / "hostile.jsonl")
    expect(page.locator("#verdict")).to_contain_text("all 69 tokens")
    alone = page.locator(".st-lane.plain .st-text").text_content()
    for text in ("<img src=x onerror=alert(1)>", "${1+1}", "{{value}}", "</script><b>", "שלום"):
        assert text in alone
    assert "‹U+0000›‹U+202E›gnp" in alone
    page.locator(".st-scrub").focus()
    page.keyboard.press("Home")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
        assert page.locator(".st-stage img, .st-stage script, .st-stage b b").count() == 0


@pytest.mark.parametrize(
    ("prompt", "words"), [("   ", "prompt"), ("key " * 9000, "prompt")], ids=["blank", "too long"]
)
def test_a_bad_prompt_is_one_sentence(visit, prompt, words):
    page = visit()
    facts, title = _facts(page), page.locator(".st-cursor h2").inner_text()
    expect(page.locator(".st-chip").first).to_contain_text("target", timeout=LIVE)
    page.locator("#prompt textarea").fill(prompt)
    page.locator("#run").click()
    notice = page.locator(".st-notice")
    expect(notice).to_have_class("st-notice error", timeout=LIVE)
    expect(notice).to_contain_text(words)
    expect(page.locator("#run")).to_be_enabled()
    assert _facts(page) == facts
    assert page.locator(".st-cursor h2").inner_text() == title
    assert page.locator(".toast-body").count() == 0


def test_a_bad_file_is_one_sentence(kept, tmp_path):
    page = kept()
    facts = _facts(page)
    for name, text, words in [
        ("notes.txt", "hello", "neither a Stairs trace"),
        ("cut.jsonl", files.dumps(page_runs.pair())[:-2000], "cut off"),
        ("large.jsonl", " " * (50 * 2**20), "MB"),
    ]:
        path = tmp_path / name
        path.write_text(text)
        open_trace(page, path)
        expect(page.locator(".st-notice")).to_contain_text(words, timeout=LIVE)
        assert _facts(page) == facts
    assert page.locator(".toast-body").count() == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_has_all_of_it(kept, recorded, theme):
    page = kept(390, color_scheme=theme, reduced_motion="reduce")
    show(page, recorded / "hostile.jsonl")
    expect(page.locator("#verdict")).to_contain_text("all 69 tokens")
    page.locator(".st-scrub").focus()
    page.keyboard.press("Home")
    draw_charts(page)
    assert page.locator(".st-row").count() == 13
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    stairs = page.locator(".st-stairs")
    assert stairs.evaluate("n => n.scrollWidth > n.clientWidth && n.scrollHeight <= n.clientHeight")
    assert page.locator(".st-bar i").first.evaluate(
        "n => getComputedStyle(n).transitionDuration"
    ) in ("0s", "")


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_every_text_can_be_read(visit, made, theme):
    page = visit(color_scheme=theme)
    expect(page.locator(".st-chip").first).to_contain_text("target", timeout=LIVE)
    page.locator(".st-legend summary").click()
    opened(page, made["lanes"], 5)
    page.locator(".st-table input").nth(2).check()
    page.locator("#add").click()
    page.get_by_role("button", name="Sampling").click()
    contrast = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
    assert page.evaluate(contrast, 4.5) == []


def test_the_theme_is_switched_and_the_chart_with_it(visit):
    page = visit(color_scheme="light")
    draw_charts(page)
    line = page.locator("#charts .scatterlayer .trace .js-line").first
    light = line.evaluate("n => getComputedStyle(n).stroke")
    page.get_by_role("button", name="Dark theme").click()
    page.evaluate("document.querySelector('#charts').scrollIntoView()")
    page.wait_for_function(
        "c => getComputedStyle(document.querySelector('#charts .js-line')).stroke != c",
        arg=light,
    )
    page.get_by_role("button", name="Light theme").click()
