"""The page in a real browser: several lanes, trees, where copies stood, sampling."""

from __future__ import annotations

import re
from dataclasses import replace

import page_runs
import pytest
from browsing import COUNTS, LIVE, arriving, draw_charts, opened, run, shape
from playwright.sync_api import expect

from stairs_core import tracefile

pytest_plugins = ["visits"]


def test_guessers_are_added_raced_and_taken_away(visit):
    page = visit()
    add, second, third = (page.locator(f"#{name}") for name in ("add", "guesser-2", "guesser-3"))
    add.click()
    expect(second).to_be_visible()
    expect(third).to_be_hidden()
    add.click()
    expect(add).to_be_hidden()
    page.locator("#k-2 input[type=number]").fill("2")
    run(page, "Once upon a time", 512)
    arriving(page)
    before = shape(page)
    page.locator("#stop").click()
    expect(page.locator("#run")).to_be_enabled(timeout=LIVE)
    assert shape(page) == before
    run(page, "Once upon a time", 24)
    expect(page.locator("#run")).to_be_enabled(timeout=LIVE)
    assert page.evaluate(COUNTS) == [24] * 4
    rows = page.locator(".st-table tbody tr")
    expect(rows).to_have_count(4)
    names = ["Target alone", "the draft model, K 5", "the draft model, a tree, K 2"]
    assert rows.locator("th").all_inner_texts()[:3] == names
    assert rows.locator("td:last-child").all_inner_texts() == ["–", "yes", "yes", "yes"]
    page.locator("#remove-2").click()
    expect(second).to_be_hidden()
    expect(add).to_be_visible()
    run(page, "Once upon a time", 12)
    expect(page.locator("#run")).to_be_enabled(timeout=LIVE)
    expect(rows).to_have_count(3)


def test_another_lane_is_chosen_by_key_and_by_click(visit, made):
    page = visit()
    opened(page, made["lanes"], 3)
    leading, leads = page.locator(".st-leading"), page.locator(".st-lane.leads h2")
    expect(leading).to_contain_text("the draft model, K 5")
    page.locator(".st-table input:checked").focus()
    page.keyboard.press("ArrowDown")
    for text in (leading, leads, page.locator(".st-table tr.on th")):
        expect(text).to_contain_text("copying from the text, K 5")
    assert page.evaluate("document.activeElement.type") == "radio"
    draw_charts(page)
    page.locator(".st-lane").nth(3).locator(".st-step").nth(4).locator(".st-t").first.click()
    expect(leading).to_contain_text("a tree, K 5")
    expect(page.locator(".st-cursor h2")).to_contain_text("Step 5 of 28: 18 guessed in a tree")
    tiles = page.locator(".st-tile b").all_inner_texts()
    assert tiles[5] == page.locator(".st-table tr.on td").nth(3).inner_text()


def test_the_page_reads_steps_as_the_trace_does(visit):
    lanes = [*page_runs.four(), *page_runs.pair(page_runs.words(page_runs.STORY), k=3)]
    cut = lanes[3].steps[2]
    ended = [replace(t, status="dropped") if t.id == cut.tokens[-1].id else t for t in cut.tokens]
    lanes[3] = replace(lanes[3], steps=(*lanes[3].steps[:2], replace(cut, tokens=tuple(ended))))
    fold = "text => { const fold = new Stairs.Fold(); fold.push(text); return fold.lanes.map("
    read = f"{fold} lane => lane.steps.map(s => [s.kept, s.rows])) }}"
    said = visit().evaluate(read, tracefile.dumps(lanes))
    assert said == [[[s.kept, list(s.rows)] for s in lane.steps] for lane in lanes]


@pytest.mark.parametrize("width", [1280, 390])
def test_a_tree_is_drawn_as_a_tree(visit, made, width):
    page = visit(width)
    opened(page, made["wide"], 3)
    step = tracefile.read(made["wide"])[1].steps[2]
    tree = page.get_by_role("tree")
    nodes = tree.get_by_role("treeitem")
    assert nodes.count() == len(step.tokens) + 1 == 61
    assert page.locator(".st-stairs .accepted.st-c").count() == step.accepted
    assert page.locator(".st-stage img, .st-stage script").count() == 0
    tree.evaluate("n => n.scrollTo(0, 0)")
    boxes = tree.evaluate(_PLACES)
    for i, row in enumerate(step.rows):
        child, parent = boxes[i], boxes[row - 1] if row else boxes[-1]
        assert child["left"] > parent["left"]
        assert child["top"] >= parent["top"]
    own = boxes[len(step.tokens) - 1]
    assert {boxes[row - 1]["top"] for row in (step.kept,)} == {own["top"]}
    assert tree.evaluate("n => n.scrollHeight > n.clientHeight")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    nodes.locator("xpath=self::*[@tabindex='0']").focus()
    detail = page.locator(".st-detail")
    expect(detail).to_contain_text("bonus")
    for _ in range(20):
        page.keyboard.press("ArrowDown")
    expect(detail).to_contain_text(re.compile("guessed after .*: never checked|rejected"))
    inside = "n => { const a = n.getBoundingClientRect(), b = document.activeElement"
    inside += ".getBoundingClientRect(); return b.top >= a.top - 1 && b.bottom <= a.bottom + 1 }"
    assert tree.evaluate(inside)
    nodes.nth(2).hover()
    expect(detail).to_contain_text("accepted")


_PLACES = """tree => {
    const nodes = [...tree.querySelectorAll("[data-row]")];
    const found = [];
    for (const n of nodes) found[n.dataset.row] = n.getBoundingClientRect();
    const root = [...tree.children].find(n => n.textContent.startsWith("…"));
    return [...found, root.getBoundingClientRect()].map(r => ({left: r.left, top: r.top}));
}"""


def test_where_a_copy_stood_is_marked(visit, made):
    page = visit()
    lane = page_runs.four()[2]
    opened(page, made["lanes"])
    n = next(i for i, step in enumerate(lane.steps) if i > 2 and step.accepted > 1)
    page.locator(".st-lane").nth(2).locator(".st-step").nth(n).locator(".st-t").first.click()
    expect(page.locator(".st-cursor h2")).to_contain_text(f"Step {n + 1} of")
    text = [*lane.run.prompt_tokens, *(t.text for s in lane.steps for t in s.committed)]
    places = [t.origin.at for t in lane.steps[n].drafted]
    marked = page.locator(".st-words .from")
    assert marked.all_text_contents() == [text[at] for at in places]
    said = f"Copied from the text, tokens {places[0] + 1} to {places[-1] + 1}."
    expect(page.locator(".st-detail")).to_contain_text(said)
    page.mouse.move(0, 0)
    page.locator(".st-stairs [tabindex='0']").focus()
    page.keyboard.press("ArrowUp")
    at = lane.steps[n].accepted - 1
    assert marked.all_text_contents() == [text[places[at]]]
    expect(page.locator(".st-detail")).to_contain_text(f"token {places[at] + 1}.")
    token = page.locator(".st-lane").nth(2).locator(".st-step").nth(n - 1).locator(".copied").nth(1)
    token.hover()
    assert marked.all_text_contents() == [text[lane.steps[n - 1].drafted[1].origin.at]]
    page.mouse.move(0, 0)
    assert marked.all_text_contents() == [text[places[at]]]
    page.locator(".st-scrub").focus()
    assert marked.count() == len(places)


def test_a_reference_is_named_and_its_name_is_text(visit, made):
    page = visit()
    opened(page, made["notes"], 2)
    expect(page.locator(".st-detail")).to_contain_text(
        "Copied from “<img src=x onerror=alert(1)> ${1+1}‹U+202E›.txt”, tokens 41 to 45."
    )
    assert page.locator(".st-words .from, .st-stage img").count() == 0


def test_sampling_is_asked_for_and_its_dice_are_shown(visit):
    page = visit()
    expect(page.locator("#temperature")).to_be_hidden()
    page.get_by_role("button", name="Sampling").click()
    heat, seed = page.locator("#temperature input[type=number]"), page.locator("#seed input")
    expect(heat).to_be_visible()
    page.locator("#new-seed").click()
    expect(seed).not_to_have_value("7")
    heat.fill("0.8")
    run(page, "Once upon a time", 24)
    expect(page.locator("#run")).to_be_enabled(timeout=LIVE)
    drawn = f"sampled, temperature 0.8, seed {seed.input_value()}"
    expect(page.locator(".st-source")).to_contain_text(f"{drawn}, same dice, token-exact")
    expect(page.locator("#verdict")).to_contain_text("Same text: yes")
    page.locator("#same input").uncheck()
    run(page, "Once upon a time", 24)
    expect(page.locator("#run")).to_be_enabled(timeout=LIVE)
    expect(page.locator(".st-source")).to_contain_text(f"{drawn}, distribution-exact")
    expect(page.locator("#verdict")).to_contain_text("not compared")


def test_what_was_drawn_is_not_what_the_target_says(visit, made):
    page = visit()
    opened(page, made["sampled"], 2)
    own = tracefile.read(made["sampled"])[1].steps[1].tokens[-1].text.strip()
    expect(page.locator(".st-explain")).to_contain_text(f"the target draws “{own}”")
    kept = page.locator(".st-stairs [tabindex='0']")
    assert kept.inner_text() == f"·{own}"
    kept.focus()
    detail = page.locator(".st-detail")
    expect(detail).to_contain_text("finds “likely” most likely")
    expect(detail).to_contain_text(f"it draws “{own}”")


def test_reference_texts_are_asked_for_where_they_are_read(visit):
    page = visit()
    pasted = page.locator("#pasted textarea")
    expect(pasted).to_be_hidden()
    page.locator("#drafter input").click()
    page.get_by_role("option", name="copying from references", exact=True).click()
    expect(pasted).to_be_visible()
    pasted.fill("a small fox who had a key " * 4)
    run(page, "a small fox who had", 24)
    expect(page.locator("#run")).to_be_enabled(timeout=LIVE)
    expect(page.locator(".st-source")).to_contain_text("copying from references, K 5")
    page.locator(".st-scrub").focus()
    page.keyboard.press("Home")
    expect(page.locator(".st-detail")).to_contain_text("Copied from “pasted text”, tokens")
    page.locator("#drafter input").click()
    page.get_by_role("option", name="the draft model", exact=True).click()
    expect(pasted).to_be_hidden()
