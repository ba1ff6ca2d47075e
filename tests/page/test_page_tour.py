"""The tour of the page in a real browser: its six stops, by mouse and by keys, over any run."""

from __future__ import annotations

from dataclasses import replace

import page_runs
import pytest
from browsing import open_trace, ready, reload, show
from playwright.sync_api import Page, expect

from stairs_core.traces import files
from stairs_core.traces.records import Recording, Step

pytest_plugins = ["visits"]
STOPS = 6
CUT = "[...document.querySelectorAll('.st-rings i')].map(n => n.getBoundingClientRect().toJSON())"


def _title(page: Page, step: Step) -> None:
    expect(page.locator(".st-cursor h2")).to_contain_text(f"Step {step.index + 1} of")


def _mismatch(lane: Recording) -> Step:
    """The first step, but for the opening ones, that shows the most."""
    return next(
        s
        for s in lane.steps
        if s.index > 1
        and s.accepted > 1
        and {"rejected", "unchecked"} <= {t.status for t in s.tokens}
    )


def _full(lane: Recording) -> Step:
    return next(
        s
        for s in lane.steps
        if s.index > 1 and s.tokens[-1].status == "bonus" and len(s.tokens) > 2
    )


def _quote(text: str) -> str:
    return f"“{text.strip()}”"


@pytest.mark.parametrize(("width", "way"), [(1280, "mouse"), (390, "keys")])
def test_six_stops_tell_of_the_steps_they_show(visit, width, way):
    page = visit(width, reduced_motion="reduce")
    lane = page_runs.pair()[1]
    wrong, full = _mismatch(lane), _full(lane)
    ready(page)
    where = page.evaluate("document.documentElement.scrollHeight")
    tour, card, text = page.locator("#tour"), page.locator("#tour-card"), page.locator("#tour-text")
    if way == "mouse":
        tour.click()
    else:
        tour.focus()
        page.keyboard.press("Enter")
    expect(card).to_be_focused()
    guesses = wrong.tokens[:-1]
    bad = guesses[wrong.accepted]
    left = sum(t.status == "unchecked" for t in guesses)
    said = [
        [_quote(t.text) for t in guesses],
        ["checks all six rows at once", "Checking took", f"{wrong.verify_seconds * 1000:.1f} ms"],
        [f"The guess was {_quote(bad.text)}, the target says {_quote(wrong.tokens[-1].text)}"],
        [f"comes after: {_quote(full.tokens[-1].text)}", "One pass, six new tokens"],
        ["Same text: yes, all 85 tokens."],
        ["four tokens" if wrong.accepted == 3 else "tokens", "1.99 ×", "guessing", "checking"],
    ]
    assert left
    for i, words in enumerate(said):
        expect(card).to_contain_text(f"{i + 1} of {STOPS}")
        for word in words:
            expect(text).to_contain_text(word)
        _title(page, full if i == 3 else wrong)
        page.wait_for_function(f"{CUT}.length > 0")
        seen = page.evaluate(CUT)[0]
        assert seen["top"] >= 0
        assert seen["left"] >= 0
        assert seen["right"] <= width
        box = card.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["y"] + box["height"] <= 900
        apart = seen["bottom"] <= box["y"] + 1 or seen["right"] <= box["x"] + 1
        assert apart or seen["top"] + 1 >= box["y"] + box["height"] or seen["height"] > 400
        _forth(page, way)
    expect(card).to_have_count(0)
    expect(tour).to_be_focused()
    assert page.locator(".st-rings").count() == 0
    page.locator("#tab-stairs").click()  # the last stop is the ledger
    assert page.evaluate("document.documentElement.scrollHeight") == where
    _title(page, wrong)


def _forth(page: Page, way: str) -> None:
    last = page.get_by_role("button", name="Done").count()
    if way == "mouse":
        page.get_by_role("button", name="Done" if last else "Next").click()
    elif last:
        page.get_by_role("button", name="Done").focus()
        page.keyboard.press("Enter")
    else:
        page.keyboard.press("ArrowRight")


def test_it_is_offered_once_and_never_forced(visit):
    page = visit()
    card = page.locator("#tour-card")
    invite = page.locator(".st-invite")
    expect(invite).to_be_visible()
    expect(card).to_have_count(0)
    reload(page)
    expect(invite).to_be_visible()
    page.get_by_role("button", name="Take the tour").click()
    expect(invite).to_have_count(0)
    page.keyboard.press("ArrowRight")
    expect(card).to_contain_text("2 of 6")
    page.keyboard.press("ArrowLeft")
    expect(card).to_contain_text("1 of 6")
    page.keyboard.press("Escape")
    expect(card).to_have_count(0)
    expect(page.locator("#tour")).to_be_focused()
    reload(page)
    expect(page.locator("#tour")).to_be_visible()
    expect(invite).to_have_count(0)
    page.locator("#tour").click()
    page.get_by_role("button", name="Skip").click()
    expect(card).to_have_count(0)


def test_no_thanks_is_remembered(visit):
    page = visit()
    page.get_by_role("button", name="No, thanks").click()
    reload(page)
    expect(page.locator("#tour")).to_be_visible()
    expect(page.locator(".st-invite")).to_have_count(0)


def test_a_term_opens_its_entry_in_place(kept):
    page = kept()
    page.locator("#tour").click()
    term = page.locator("#tour-text").get_by_role("button", name="draft")
    entry = page.locator("#glossary-entry")
    for key in ("Enter", "Space"):
        term.focus()
        page.keyboard.press(key)
        expect(entry).to_contain_text("The small model that guesses")
        expect(term).to_have_attribute("aria-expanded", "true")
        page.keyboard.press("Escape")
        expect(entry).to_be_hidden()
        expect(page.locator("#tour-card")).to_be_visible()
    page.keyboard.press("Escape")
    tile = page.locator("#summary").get_by_role("button", name="alpha")
    tile.click()
    expect(entry).to_contain_text("Accepted tokens over those that were checked")
    tile.click()
    expect(entry).to_be_hidden()


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Runs that lack what the tour would show, and one whose tokens try to break out."""
    alone, chain = page_runs.pair()
    right = [s for s in page_runs.pair()[1].steps if s.tokens[-1].status == "bonus"][:1]
    never = [s for s in chain.steps if s.tokens[-1].status == "correction"]
    hostile = [*page_runs.HOSTILE] * 4
    runs = {
        "right": [_renumbered(chain, right)],
        "wrong": [_renumbered(chain, never)],
        "alone": [alone],
        "hostile": page_runs.pair(hostile, k=12),
        "tree": [alone, tree := page_runs.tree(page_runs.words(page_runs.STORY))],
    }
    # At a leaf: each has wrong branches, and none a mismatch.
    leaves = [s for s in tree.steps if s.tokens[-1].status == "bonus" and len(s.tokens) > 2]
    runs["leaves"] = [_renumbered(tree, leaves)]
    # What the target says at a leaf, before what it says of wrong guesses.
    others = [s for s in tree.steps if s.tokens[-1].status == "correction"]
    runs["both"] = [_renumbered(tree, [*leaves, *leaves, others[-1]])]
    folder = tmp_path_factory.mktemp("odd")
    for name, lanes in runs.items():
        files.write(folder / f"{name}.jsonl", lanes)
    return folder


def _renumbered(lane: Recording, steps: list[Step]) -> Recording:
    """A lane of some of its steps, which are made to follow one another in text and time."""
    start, made = lane.steps[0].start, []
    for i, step in enumerate(steps):
        made.append(replace(step, index=i, start=start, elapsed=i + 1.0))
        start += len(step.committed)
    return replace(lane, steps=tuple(made))


def _words(page: Page, path) -> list[str]:
    show(page, path)
    page.locator("#tour").click()
    found = []
    for _ in range(STOPS):
        found.append(page.locator("#tour-text").inner_text())
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    return found


def test_the_page_s_own_run_that_arrives_late_leaves_the_tour_open(visit):
    """On a slow machine the first click comes before it."""
    page = visit()
    page.locator("#tour").click()
    page.keyboard.press("ArrowRight")
    page.evaluate("Stairs.stage.update({ ...Stairs.stage.value, run: 'late' })")
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))")
    expect(page.locator("#tour-card")).to_contain_text("2 of 6")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tour-card")).to_contain_text("3 of 6")


def test_what_a_run_does_not_hold_is_said_to_be_missing(kept, odd):
    page = kept()
    words = _words(page, odd / "right.jsonl")
    assert "This run has no mismatch" in words[2]
    assert "All five guesses are kept" in words[3]
    words = _words(page, odd / "wrong.jsonl")
    assert "In this run no step kept every guess" in words[3]
    words = _words(page, odd / "tree.jsonl")
    assert "reads the whole tree of" in words[1]
    words = _words(page, odd / "leaves.jsonl")
    assert "No step of this run ends with a mismatch" in words[2]
    assert "has wrong branches" in words[2]
    words = _words(page, odd / "both.jsonl")
    assert "The guesses were" in words[2]
    assert "stands in their place: the correction" in words[2]
    show(page, odd / "alone.jsonl")
    page.locator("#tour").click()
    expect(page.locator("#tour-card")).to_contain_text("Nobody guesses in this run")
    page.get_by_role("button", name="Done").click()
    expect(page.locator("#tour-card")).to_have_count(0)


def test_tokens_in_the_card_are_text(kept, odd):
    page = kept()
    words = _words(page, odd / "hostile.jsonl")
    assert "‹U+202E›gnp" in " ".join(words)
    assert "</script><b>" in " ".join(words)
    page.locator("#tour").click()
    for _ in range(STOPS):
        assert page.locator("#tour-card :is(img, script, a)").count() == 0
        page.keyboard.press("ArrowRight")


def test_a_new_run_ends_the_tour(kept, odd):
    page = kept()
    page.locator("#tour").click()
    open_trace(page, odd / "tree.jsonl")
    expect(page.locator("#tour-card")).to_have_count(0)
    assert page.locator(".st-rings").count() == 0
