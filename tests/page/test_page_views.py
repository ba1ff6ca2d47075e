"""The views under the race in a real browser: the same text, the ledger, where copies come from."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import page_runs
import pytest
from browsing import LIVE, run, show
from playwright.sync_api import Page, expect

from stairs_core.traces import files
from stairs_core.traces.records import Recording

pytest_plugins = ["visits"]
VIEWS = ("same", "ledger", "provenance")


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    """By name: four lanes over hostile text, a log of counts, lanes that part, one that lags."""
    words = page_runs.words(page_runs.STORY)
    hostile = [*words[:9], *page_runs.HOSTILE, "x" * 10_000, *words[9:30]]
    alone, chain = page_runs.pair()
    short = Recording(alone.run, alone.steps[:30], replace(alone.stop, reason="stopped"))
    lanes = {
        "hostile": page_runs.four(hostile),
        "counts": [_counts(chain)],
        "parted": [alone, _other(page_runs.pair([*words[:40], " other", *words[41:]])[1])],
        "lagging": [short, chain],
        "only": [chain],
    }
    folder = tmp_path_factory.mktemp("views")
    for name, recordings in lanes.items():
        files.write(folder / f"{name}.jsonl", recordings)
    return {name: folder / f"{name}.jsonl" for name in lanes}


def _other(lane: Recording) -> Recording:
    """``lane``, the tokens " other" with an id of their own."""
    named = [
        tuple(replace(t, id=9999) if t.text == " other" else t for t in step.tokens)
        for step in lane.steps
    ]
    steps = [replace(s, tokens=tokens) for s, tokens in zip(lane.steps, named, strict=True)]
    return replace(lane, steps=tuple(steps))


def _counts(lane: Recording) -> Recording:
    """``lane`` as another engine's log would tell it: statuses, and nothing else."""
    blank = {"draft_seconds": 0.0, "verify_seconds": 0.0, "other_seconds": 0.0, "elapsed": 0.0}
    steps = [
        replace(
            step,
            tokens=tuple(replace(t, id=0, text="") for t in step.tokens),
            predictions=tuple(replace(p, id=0, text="", margin=0.0) for p in step.predictions),
            **blank,
        )
        for step in lane.steps
    ]
    return replace(lane, run=replace(lane.run, engine="vLLM"), steps=tuple(steps))


def _show(page: Page, view: str, path, step: int = 1) -> None:
    """Opens a trace at a step, and a view."""
    show(page, path)
    page.locator(f"#tab-{view}").click()
    page.locator(".st-scrub").focus()
    page.keyboard.press("Home")
    for _ in range(step - 1):
        page.keyboard.press("ArrowRight")
    _at(page, step)


def _at(page: Page, step: int) -> None:
    expect(page.locator(".st-cursor h2")).to_contain_text(f"Step {step} of")


def test_views_are_reached_by_keyboard(kept):
    page = kept()
    page.locator("#tab-stairs").focus()
    for view in VIEWS:
        page.keyboard.press("ArrowRight")
        expect(page.locator(f"#tab-{view}")).to_be_focused()
        expect(page.locator(f"#view-{view}")).to_be_visible()
        expect(page.get_by_role("tabpanel")).to_have_count(1)
    page.keyboard.press("ArrowRight")
    expect(page.locator("#view-stairs")).to_be_visible()


def _rows(page: Page):
    """The lanes of the same-text view."""
    return page.locator("#view-same .st-aligned:not(.st-heading)")


def test_the_same_text_shows_who_got_what_for_free(kept, made):
    page = kept()
    _show(page, "same", made["lanes"], 4)
    text = page.locator(".st-heading .st-col").all_text_contents()
    written = page_runs.words(page_runs.STORY)
    assert [t.replace("·", " ").replace("↵", "\n") for t in text] == written
    for row, lane in zip(_rows(page).all(), files.read(made["lanes"]), strict=True):
        blocks = row.locator(".st-block").evaluate_all(
            "nodes => nodes.map(b => [...b.children].map(c => c.textContent))"
        )
        assert blocks == [
            ["free" if t.status == "accepted" else "own" for t in step.committed]
            for step in lane.steps
        ]


_SEEN = """line => {
    const view = line.getBoundingClientRect();
    const now = line.querySelector(".now").getBoundingClientRect();
    const name = line.querySelector(".st-name").getBoundingClientRect();
    return now.left >= name.right - 2 && now.right <= view.right;
}"""
"""Whether the block of the step under the cursor is seen, right of the names of the lanes."""


def test_the_same_text_follows_the_cursor(kept, made):
    page = kept()
    _show(page, "same", made["lanes"], 4)
    steps = files.read(made["lanes"])[1].steps
    now = page.locator("#view-same .st-block.now")
    count = _rows(page).nth(1).locator(".st-name span")
    last = len(steps)
    for key, at in [("End", last), ("ArrowLeft", last - 1), ("Home", 1), ("ArrowRight", 2)]:
        page.keyboard.press(key)
        expect(now).to_have_attribute("data-step", str(at - 1))
        free = sum(s.accepted for s in steps[:at])
        expect(count).to_have_text(f"{at} step{'s' * (at > 1)} · {free} free")
        assert page.locator("#view-same .st-scroll").evaluate(_SEEN)


def test_the_same_text_shows_other_lanes_as_they_were_then_and_lets_them_lead(kept, made):
    page = kept()
    _show(page, "same", made["lanes"], 2)
    lanes = files.read(made["lanes"])
    moment = lanes[1].steps[1].elapsed
    before = sum(step.elapsed <= moment for step in lanes[3].steps)
    lane = _rows(page).nth(3)
    assert lane.locator(".st-block:not(.later)").count() == before
    lane.locator(".st-block").nth(1).click()
    expect(page.locator(".st-leading")).to_contain_text("a tree, K 5")
    _at(page, 2)


def test_the_same_text_is_seen_whole_and_a_token_told(kept, made):
    page = kept()
    _show(page, "same", made["lanes"])
    line = page.locator("#view-same .st-scroll")
    assert line.evaluate("n => n.scrollWidth > n.clientWidth")
    page.locator("#view-same").get_by_label("whole text at once").check()
    assert line.evaluate("n => n.scrollWidth <= n.clientWidth + 1")
    page.locator("#view-same .st-aligned.leads .st-cell.free").first.hover()
    expect(page.locator("#token-card")).to_contain_text("accepted")
    page.locator("#view-same").get_by_label("whole text at once").uncheck()


def test_tokens_that_differ_are_marked(kept, traces):
    page = kept()
    _show(page, "same", traces["parted"])
    assert page.locator("#view-same .differs[data-token]").all_text_contents() == ["·other"]
    assert page.locator(".st-heading .st-col").nth(40).inner_text() != "·other"
    page.locator("#tab-ledger").click()
    page.locator(".st-scrub").focus()
    note = page.locator("#view-ledger .st-explain")
    expect(note).not_to_contain_text("differ")
    page.keyboard.press("End")
    expect(note).to_contain_text("From new token 41 on the two texts differ")


def test_the_ledger_adds_up_to_the_difference_of_the_clocks(kept, made, tmp_path):
    page = kept()
    _show(page, "ledger", made["lanes"], 3)
    alone, lane = files.read(made["lanes"])[:2]
    page.locator("#view-ledger details").evaluate("details => { details.open = true }")
    expect(page.locator("#view-ledger tbody tr")).to_have_count(len(lane.steps))
    rows = page.locator("#view-ledger tbody tr").evaluate_all(
        "rows => rows.map(r => [...r.cells].map(c => c.textContent))"
    )
    assert len(rows) == len(lane.steps)
    written, before = 0, 0.0
    for row, step in zip(rows, lane.steps, strict=True):
        first = alone.steps[written - 1].elapsed if written else 0.0
        written += len(step.committed)
        plain = alone.steps[written - 1].elapsed
        wasted = sum(t.status != "accepted" for t in step.drafted)
        assert row[1:4] == [str(len(step.committed)), str(len(step.drafted)), str(wasted)]
        found = [float(cell) for cell in row[7:]]
        took = step.elapsed - before
        expected = [plain - first, plain - first - took, plain - step.elapsed]
        assert found == pytest.approx([1000 * s for s in expected], abs=0.006)
        before = step.elapsed
    gained = alone.steps[-1].elapsed - lane.steps[-1].elapsed
    expect(page.locator("#view-ledger .st-tile.big b")).to_have_text(f"= {gained * 1000:.0f} ms")
    assert float(rows[-1][-1]) == pytest.approx(1000 * gained, abs=0.006)
    signs = page.locator(".st-profit").evaluate_all("n => n.map(p => p.lastChild.textContent[0])")
    assert signs == ["+" if float(row[8]) >= 0 else "−" for row in rows]


def test_the_ledger_follows_the_cursor_and_says_it(kept, made):
    page = kept()
    _show(page, "ledger", made["lanes"])
    lane = files.read(made["lanes"])[1]
    note, on = page.locator("#view-ledger .st-explain"), page.locator(".st-account.on")
    for key, at in [("ArrowRight", 2), ("End", len(lane.steps)), ("ArrowLeft", len(lane.steps) - 1),
                    ("Home", 1)]:  # fmt: skip
        page.keyboard.press(key)
        expect(on).to_have_attribute("data-step", str(at - 1))
        step = lane.steps[at - 1]
        took = step.elapsed - (lane.steps[at - 2].elapsed if at > 1 else 0)
        expect(note).to_contain_text(
            f"Step {at} took {took * 1000:.1f} ms for {len(step.committed)} token"
        )
        wasted = len(step.drafted) - step.accepted
        expect(note).to_contain_text(f"{wasted or 'none'} of {len(step.drafted)} guess")
    page.locator(".st-account").nth(6).hover()
    expect(note).to_contain_text("Step 7 took")
    page.mouse.move(0, 0)
    expect(note).to_contain_text("Step 1 took")
    page.locator(".st-account").nth(6).click()
    _at(page, 7)


def test_the_ledger_estimates_nothing(kept, traces):
    page = kept()
    _show(page, "ledger", traces["lagging"])
    lane = files.read(traces["lagging"])[1]
    written = [sum(len(s.committed) for s in lane.steps[: i + 1]) for i in range(len(lane.steps))]
    known = sum(n <= 30 for n in written)
    expect(page.locator(".st-profit:not(.unknown)")).to_have_count(known)
    expect(page.locator("#view-ledger .st-tile").last).to_contain_text(f"first {known} steps of")
    page.keyboard.press("End")
    note = page.locator("#view-ledger .st-explain")
    expect(note).to_contain_text("The target alone ended before it wrote as many")
    for name, words in [("only", "did not run in this race"), ("counts", "tells no times")]:
        _show(page, "ledger", traces[name])
        expect(page.locator("#view-ledger > div > .st-note").first).to_contain_text(words)
        expect(page.locator(".st-book")).to_be_hidden()


def test_copies_are_tied_to_what_they_were_copied_from(kept, made):
    page = kept()
    _show(page, "provenance", made["lanes"], 3)
    view = page.locator("#view-provenance")
    expect(view).to_contain_text("“the draft model, K 5” copied none of its guesses.")
    view.get_by_role("button", name="Let “copying from the text, K 5” lead").click()
    expect(page.locator(".st-leading")).to_contain_text("copying from the text, K 5")
    lane = page_runs.four()[2]
    held = sum(step.accepted > 0 for step in lane.steps)
    vain = sum(step.accepted < len(step.drafted) for step in lane.steps)
    expect(view.locator("path.held")).to_have_count(held)
    expect(view.locator("path.vain")).to_have_count(vain)
    note, text = view.locator(".st-explain"), [*lane.run.prompt_tokens]
    text += [t.text for step in lane.steps for t in step.committed]
    page.locator(".st-scrub").focus()
    page.keyboard.press("Home")
    for i, step in enumerate(lane.steps[:4]):
        at = step.drafted[0].origin.at
        found = view.locator(".st-col.from").all_text_contents()
        assert found == [t.replace(" ", "·") for t in text[at : at + len(step.drafted)]]
        places = f"tokens {at + 1} to {at + len(step.drafted)}"
        expect(note).to_contain_text(f"Step {i + 1} copied “")
        expect(note).to_contain_text(
            f"from the text, {places}: {step.accepted or 'none'} of {len(step.drafted)} held."
        )
        assert view.locator("path.on").count() == (step.accepted > 0) + (
            step.accepted < len(step.drafted)
        )
        page.keyboard.press("ArrowRight")
    view.locator(".st-scroll").focus()
    for key, step in [("ArrowUp", 5), ("ArrowUp", 4), ("ArrowDown", 5), ("ArrowDown", 6)]:
        page.keyboard.press(key)
        expect(note).to_contain_text(f"Step {step} copied")
    _at(page, 5)
    page.keyboard.press("Enter")
    _at(page, 6)
    view.locator(".st-col.accepted").nth(1).click()
    _at(page, 1)


def test_another_document_has_a_box(kept, made):
    page = kept()
    _show(page, "provenance", made["notes"], 2)
    box = page.locator("#view-provenance .st-document")
    name = "“<img src=x onerror=alert(1)> ${1+1}‹U+202E›.txt”"
    expect(box).to_have_text(f"{name}, tokens 41 to 45")
    assert page.locator("#view-provenance .st-col.from, #view-provenance img").count() == 0


@pytest.mark.parametrize("name", ["hostile", "counts"])
def test_texts_that_break_out_or_are_missing(kept, traces, name):
    page = kept(390)
    _show(page, "same", traces[name])
    for view in VIEWS:
        page.locator(f"#tab-{view}").click()
        if view == "provenance" and name == "hostile":
            page.get_by_role("button", name=re.compile("^Let .* lead$")).click()
        page.locator(".st-scrub").focus()
        for _ in range(5):
            page.keyboard.press("ArrowRight")
        assert page.locator(".st-stage img, .st-stage script, .st-views b b").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.locator("#tab-same").click()
    texts = "".join(page.locator(".st-heading .st-col").all_text_contents())
    if name == "counts":
        assert texts == ""
    else:
        for text in ("<img·src=x·onerror=alert(1)>", "${1+1}", "{{value}}", "‹U+202E›gnp"):
            assert text in texts


@pytest.mark.parametrize(
    ("view", "cells"),
    [
        ("same", ".st-aligned.leads .st-block"),
        pytest.param("ledger", ".st-account", marks=pytest.mark.slow),
    ],
)
def test_a_view_grows_while_a_run_goes_on(kept, view, cells):
    page = kept()
    page.locator(f"#tab-{view}").click()
    cells = f"#view-{view} {cells}"
    page.evaluate(
        "cells => { window.seen = new Set(); window.first = document.querySelector(cells);"
        "setInterval(() => seen.add(document.querySelectorAll(cells).length), 50) }",
        cells,
    )
    run(page, "Once upon a time", 256)
    expect(page.locator("#run")).to_be_enabled(timeout=LIVE)
    steps = page.locator(".st-lane:not(.plain) .st-step").count()
    expect(page.locator(cells)).to_have_count(steps)
    assert len(page.evaluate("[...seen]")) > 2  # of the run before, on the way, and at the end
    assert not page.evaluate("first.isConnected")  # of the run before


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_every_text_of_a_view_can_be_read(kept, made, theme):
    page = kept(color_scheme=theme)
    contrast = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
    _show(page, "same", made["notes"], 3)
    for view in VIEWS:
        page.locator(f"#tab-{view}").click()
        assert page.evaluate(contrast, 4.5) == []


def test_a_special_token_is_shown_as_what_it_is(kept, tmp_path):
    lanes = page_runs.special(page_runs.pair(page_runs.words(page_runs.STORY)[:12]))
    files.write(tmp_path / "special.jsonl", lanes)
    page = kept()
    show(page, tmp_path / "special.jsonl")
    marks = page.locator(".st-lane .st-special")
    expect(marks).to_have_text(["⟦<|end|>⟧"] * 4)  # before the prompt and at the end, twice
    edge = marks.first.evaluate("n => getComputedStyle(n).boxShadow")
    assert "inset" in edge
    page.get_by_label("spaces as ·").check()
    expect(marks).to_have_text(["⟦<|end|>⟧"] * 4)
    page.locator(".st-scrub").focus()
    page.keyboard.press("End")
    assert "⟦<|end|>⟧" in page.locator(".st-stairs").inner_text()
    expect(page.locator(".st-views .st-explain").first).to_contain_text(
        "the special token ⟦<|end|>⟧"
    )
    marks.last.hover()
    expect(page.locator("#token-card")).to_contain_text("special token: no part of the text")
    page.get_by_role("tab", name="Same text").click()
    expect(page.locator(".st-aligned").first).to_contain_text("⟦<|end|>⟧")
    page.get_by_label("spaces as ·").uncheck()
