"""The page in a real browser: several lanes, trees, where copies stood, sampling."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import page_runs
import pytest
import steps
from browsing import COUNTS, LIVE, arriving, draw_charts, opened, run, shape
from playwright.sync_api import expect

from stairs_core.traces import files

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


def test_another_lane_is_chosen_by_key_and_by_click(kept, made):
    page = kept()
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


def test_the_page_reads_steps_as_the_trace_does(kept):
    known = json.loads(steps.FILE.read_text(encoding="utf-8"))
    fold = "text => { const fold = new Stairs.Fold(); fold.push(text); return fold.lanes.map("
    read = f"""{fold} lane => lane.steps.map(step => ({{
        kept: step.kept,
        rows: step.rows,
        depths: step.depths,
        path: Stairs.path(step),
        committed: step.tokens.filter(Stairs.committed).map(token => token.id),
    }}))) }}"""
    page = kept()
    for lines in (known["trace"], known["sent"]):
        assert page.evaluate(read, "".join(f"{line}\n" for line in lines)) == known["steps"]


@pytest.mark.parametrize("width", [1280, 390])
def test_a_tree_is_drawn_as_a_tree(kept, made, width):
    page = kept(width)
    opened(page, made["wide"], 3)
    step = files.read(made["wide"])[1].steps[2]
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


def test_where_a_copy_stood_is_marked(kept, made):
    page = kept()
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


def test_a_reference_is_named_and_its_name_is_text(kept, made):
    page = kept()
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


def test_what_was_drawn_is_not_what_the_target_says(kept, made):
    page = kept()
    opened(page, made["sampled"], 2)
    own = files.read(made["sampled"])[1].steps[1].tokens[-1].text.strip()
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


def test_a_lossy_lane_is_not_shown_as_the_targets_text(kept, tmp_path):
    alone, chain = page_runs.pair()
    last = alone.steps[0].tokens[-1]
    steps_ = [replace(s, tokens=(replace(s.tokens[-1], source="slm-alone"),)) for s in alone.steps]
    odd = (replace(last, id=last.id + 1, text=" zebra", source="slm-alone"),)
    steps_[0] = replace(steps_[0], tokens=odd)
    run_ = replace(alone.run, name="a small model", drafter="slm-alone", exactness="lossy")
    path = tmp_path / "lossy.jsonl"
    files.write(path, [alone, replace(alone, run=run_, steps=tuple(steps_)), chain])
    page = kept()
    opened(page, path)
    expect(page.locator("#verdict")).to_contain_text("another text, by design (lossy)")
    expect(page.locator(".st-explain")).to_contain_text("The small model writes “zebra” alone")
    expect(page.locator(".st-table tr.on td:last-child")).to_have_text("lossy")
    page.locator("#tab-same").click()
    row = page.locator("#view-same .st-aligned").nth(2)
    expect(row).to_contain_text("another text, by design (lossy)")
    expect(row.locator(".differs")).to_have_count(0)
    expect(page.locator("#view-same .st-heading")).not_to_contain_text("zebra")


def test_the_masks_of_space_stand_behind_the_rows_of_the_stairs(kept, tmp_path):
    alone, lane = page_runs.pair()
    step = replace(lane.steps[0], probe=2 * len(lane.steps[0].predictions))
    run_ = replace(lane.run, name="SPACE", drafter="space", draft=None)
    path = tmp_path / "space.jsonl"
    more = replace(lane.steps[2], probe=step.probe)
    several = (step, lane.steps[1], more, *lane.steps[3:])
    files.write(path, [alone, replace(lane, run=run_, steps=several)])
    page = kept()
    opened(page, path)
    groups = page.locator(".st-stairs .st-masks")
    expect(groups).to_have_count(len(step.predictions))
    assert {*groups.all_inner_texts()} == {"▢▢"}
    kept = page.locator(".st-row.keep .st-masks")
    expect(kept).to_have_count(1)
    expect(page.locator(".st-explain")).to_contain_text("Two masks stood after each row")
    counted = f"{step.probe} read ahead"
    expect(page.locator(".st-way.own")).to_contain_text(counted)
    expect(page.locator(".st-ways")).to_contain_text("Read ahead: tokens that are no guesses")
    page.keyboard.press("ArrowRight")
    expect(groups).to_have_count(0)
    page.get_by_role("tab", name="Ledger").click()
    expect(page.locator(".st-ahead")).to_contain_text(f"{step.probe} of them only for the next")


@pytest.mark.parametrize("width", [1280, 390])
def test_a_newcomer_reads_where_a_head_s_guesses_come_from(kept, tmp_path, width):
    alone, lane = page_runs.pair()
    run_ = replace(lane.run, name="Medusa", drafter="medusa", draft=None)
    path = tmp_path / "heads.jsonl"
    files.write(path, [alone, replace(lane, run=run_)])
    page = kept(width)
    opened(page, path)
    line, drafted = page.locator(".st-heads"), lane.steps[0].drafted
    expect(line).to_contain_text("the target's last pass→its state")
    expect(line.locator(".st-c")).to_have_count(len(drafted))
    expect(line).to_contain_text(f"head {len(drafted)}")
    high = page.locator("#view-stairs .st-now").evaluate("n => n.offsetHeight")
    page.keyboard.press("End")
    expect(page.locator(".st-cursor h2")).to_contain_text(f"Step {len(lane.steps)} of")
    assert page.locator("#view-stairs .st-now").evaluate("n => n.offsetHeight") == high
    words = page.locator(".st-of-heads")
    expect(words).to_contain_text("small networks that were trained on the target")
    words.get_by_role("button", name="heads").click()
    expect(page.locator(".st-entry")).to_contain_text("A small network that was trained on")
    page.keyboard.press("Escape")
    page.locator("#tour").click()
    expect(page.locator("#tour-title")).to_have_text("First there is a guess")
    tour = page.locator("#tour-text")
    expect(tour).to_contain_text("Here no second model guesses the next tokens. Instead: small")
    expect(tour).to_contain_text(
        "A head is a small network that reads what the target has worked out."
    )
    assert page.evaluate("document.documentElement.scrollWidth") == width
