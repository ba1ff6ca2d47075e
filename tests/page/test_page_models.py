"""The choice of models in a real browser, and the card that says before a run what to expect."""

from __future__ import annotations

import json
import re

import browsing
import pytest
from browsing import LIVE, ready, run
from playwright.sync_api import Page, Route, expect
from tiny_models import make_model, make_tokenizer, perturb, save_pair

from stairs_core.web import notices, permalinks

pytest_plugins = ["visits"]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder with a pair of its own, larger than the page's, so that loading takes a moment."""
    target = make_model(layers=48, seed=5)
    return save_pair(tmp_path_factory.mktemp("own") / "cedar", target, perturb(target))


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """So many layers that loading them, and timing passes, takes seconds."""
    target = make_model(layers=96, seed=6)
    return save_pair(tmp_path_factory.mktemp("slow") / "sequoia", target, target)


def _watch(page: Page) -> None:
    """The page itself takes note of all that is said: it may be over between two looks."""
    page.evaluate(
        """() => {
            window.told = [];
            const node = document.querySelector("#model-notice");
            const note = () => {
                const text = node.querySelector(".st-notice")?.textContent;
                if (text && window.told.at(-1) !== text) window.told.push(text);
            };
            const all = { subtree: true, childList: true, characterData: true };
            new MutationObserver(note).observe(node, all);
        }"""
    )


def _ask(page: Page, spec: str) -> None:
    """By keyboard alone: the accordion, the field, the button."""
    title = page.locator("#models > .label-wrap")
    title.focus()
    if not page.locator("#model-own").is_visible():
        page.keyboard.press("Enter")
    field = page.locator("#model-own textarea")
    expect(field).to_be_visible()
    _watch(page)
    field.focus()
    field.fill(spec)
    page.keyboard.press("Tab")
    expect(page.locator("#model-load")).to_be_focused()
    page.keyboard.press("Enter")


def test_an_own_pair_is_loaded_by_keyboard_and_runs(visit, own):
    page = visit()
    ready(page)
    chips = page.locator(".st-chips").inner_text()
    before = page.locator("#preflight").inner_text()
    _ask(page, str(own))
    title = page.locator("#models > .label-wrap")
    expect(title).to_contain_text("Models: cedar", timeout=LIVE)
    said = page.evaluate("window.told")
    assert len(said) > 1, said
    assert "Looking for the models …" in said or "Measuring passes …" in said
    expect(page.locator("#model-notice .st-notice")).to_have_text("")
    expect(page.locator("#model-load")).to_be_enabled()
    expect(page.locator("#model-stop")).to_be_disabled()
    assert page.locator(".st-chips").inner_text() != chips
    expect(page.locator("#preflight")).not_to_have_text(before)
    run(page, "the fox", 8)
    expect(page.locator("#run")).to_be_enabled(timeout=LIVE)
    expect(page.locator("#verdict")).to_contain_text("all 8 tokens")
    code = page.locator(".st-code").text_content() or ""
    assert "cedar" in code


def test_a_folder_that_is_none_is_one_sentence(visit):
    page = visit()
    ready(page)
    chips, title = page.locator(".st-chips"), page.locator("#models > .label-wrap")
    before = chips.inner_text(), title.inner_text()
    notice = page.locator("#model-notice .st-notice")
    for spec in ("/no/such/folder", "<img src=x onerror=alert(1)> ${1+1}\u202e", "x" * 10_000):
        _ask(page, spec)
        expect(notice).to_have_class("st-notice error", timeout=LIVE)
        expect(notice).to_contain_text(spec[:10])
        assert len(notice.inner_text()) < 300
        expect(page.locator("#model-load")).to_be_enabled()
        page.locator("#model-own textarea").fill("")
    assert page.locator("#columns :is(img, script)").count() == 0
    assert (chips.inner_text(), title.inner_text()) == before
    run(page, "the fox", 8)
    expect(page.locator("#run")).to_be_enabled(timeout=LIVE)
    expect(page.locator("#verdict")).to_contain_text("all 8 tokens")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The folder of a target without a draft."""
    folder = tmp_path_factory.mktemp("alone") / "maple"
    make_model(layers=6, seed=7).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def test_a_target_alone_has_another_guess_and_says_so(visit, alone, own):
    page = visit()
    ready(page)
    who, menu = page.locator("#drafter input"), page.locator("#model-preset input")
    expect(who).to_have_value("the draft model")
    _ask(page, str(alone))
    expect(page.locator("#models > .label-wrap")).to_contain_text("Models: maple", timeout=LIVE)
    expect(menu).to_have_value("maple")
    expect(who).to_have_value("copying from the text")
    expect(page.locator("#notice")).to_contain_text(
        "“copying from the text” guesses in place of “the draft model”: no draft model is loaded."
    )
    expect(page.locator(".st-chip")).to_have_count(3)
    expect(page.locator("#preflight summary")).not_to_contain_text("no draft", timeout=LIVE)
    page.locator("#add").click()
    expect(page.locator("#drafter-2 input")).to_have_value("recycled tokens")
    run(page, "the fox", 8)
    expect(page.locator("#run")).to_be_enabled(timeout=LIVE)
    expect(page.locator("#verdict")).to_contain_text("all 8 tokens")
    who.click()
    name = "the draft model (not available: no draft model is loaded)"
    page.get_by_role("option", name=name, exact=True).click()
    page.locator("#run").click()
    notice = page.locator("#notice .st-notice.error")
    expect(notice).to_contain_text("maple has no draft model: load a pair with one under “Models”")
    assert "copying from the text" in notice.inner_text()
    assert "--" not in notice.inner_text()
    _ask(page, str(own))
    expect(page.locator("#models > .label-wrap")).to_contain_text("Models: cedar", timeout=LIVE)
    expect(menu).to_have_value("cedar")
    expect(who).to_have_value("the draft model")


@pytest.mark.parametrize("width", [390, pytest.param(1280, marks=pytest.mark.slow)])
def test_a_page_that_starts_with_a_target_alone(browser, recorded, alone, tmp_path, width):
    asked = {"drafter": "tree", "drafter-2": "lookup", "prompt": "the fox", "length": 8}
    with browsing.serving(recorded, tmp_path / "log.txt", str(alone)) as address:
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto(f"{address}#settings={permalinks.pack_settings(asked)}")
        ready(page)
        expect(page.locator("#notice")).to_contain_text("in place of “the draft model, a tree”")
        expect(page.locator("#drafter input")).to_have_value("copying the longest match")
        expect(page.locator("#drafter-2 input")).to_have_value("copying from the text")
        expect(page.locator("#prompt textarea")).to_have_value("the fox")
        expect(page.locator("#preflight summary")).to_contain_text("K auto")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        run(page, "the fox", 8)
        expect(page.locator("#run")).to_be_enabled(timeout=LIVE)
        expect(page.locator("#verdict")).to_contain_text("all 8 tokens")
        page.close()
    assert "Traceback" not in (tmp_path / "log.txt").read_text()


def test_guessers_that_are_added_while_models_load_stay(visit):
    page = visit()
    page.locator("#add").click()  # at once, before the models are there
    page.locator("#add").click()
    ready(page)
    page.wait_for_timeout(500)
    expect(page.locator("#guesser-2")).to_be_visible()
    expect(page.locator("#guesser-3")).to_be_visible()


def test_counts_in_no_known_order_do_not_play(visit, tmp_path):
    page = visit()
    file = tmp_path / "sglang.json"
    told = {"spec_verify_ct": 9, "spec_num_proposed_drafts": 18, "spec_accept_histogram": [4, 2, 3]}
    file.write_text(json.dumps({"meta_info": told}))
    browsing.opened(page, file, step=3)
    expect(page.locator(".st-source")).to_contain_text("their order is not known")
    expect(page.locator(".st-cursor h2")).to_contain_text("Step 3 of 9, in no known order")
    expect(page.locator(".st-moves button").nth(1)).to_be_disabled()
    expect(page.locator(".st-lane .st-clock").first).to_contain_text("17 tokens")
    assert page.locator(".st-step.later").count() == 0
    page.keyboard.press("Space")
    assert page.locator(".st-stage.playing").count() == 0
    file = tmp_path / "llama.log"
    file.write_text("".join(f"accepted {i}/4 draft tokens, the last target x\n" for i in range(4)))
    browsing.opened(page, file, step=2)
    expect(page.locator(".st-moves button").nth(1)).to_be_enabled()
    expect(page.locator(".st-cursor h2")).to_contain_text("Step 2 of 4: ")


def test_loading_is_stopped(visit, slow):
    page = visit()
    ready(page)
    chips, title = page.locator(".st-chips"), page.locator("#models > .label-wrap")
    before = chips.inner_text(), title.inner_text()
    _ask(page, str(slow))
    expect(page.locator("#model-stop")).to_be_enabled()
    page.locator("#model-stop").focus()
    page.keyboard.press("Enter")
    notice = page.locator("#model-notice .st-notice")
    expect(notice).to_contain_text("Loading was stopped", timeout=LIVE)
    expect(page.locator("#model-load")).to_be_enabled()
    expect(page.locator("#model-stop")).to_be_disabled()
    assert (chips.inner_text(), title.inner_text()) == before
    run(page, "the fox", 8)
    expect(page.locator("#run")).to_be_enabled(timeout=LIVE)
    expect(page.locator("#verdict")).to_contain_text("all 8 tokens")
    assert (chips.inner_text(), title.inner_text()) == before


def test_the_card_says_that_another_choice_is_being_measured(visit):
    page = visit()
    ready(page)
    card, summary = page.locator("#preflight"), page.locator("#preflight summary")
    summary.click()
    rows = card.locator("dt").count()
    held: list[Route] = []
    page.route("**/queue/join*", lambda route: held.append(route))
    page.locator("#k input[type=number]").fill("3")
    expect(summary).to_have_text(notices.MEASURING)
    assert card.locator("dt").count() == rows > 5
    for request in held:
        request.continue_()
    page.unroute("**/queue/join*")
    expect(summary).to_contain_text("K = 3:")
    expect(card.locator(".waits")).to_have_count(0)


def test_the_card_before_a_run(visit):
    page = visit()
    ready(page)
    summary, card = page.locator("#preflight summary"), page.locator("#preflight details")
    expect(summary).to_contain_text("K = 5:")
    summary.focus()
    page.keyboard.press("Enter")
    expect(card).to_have_attribute("open", "")
    expect(card.locator("dt", has_text="one-token pass")).to_be_visible()
    assert " ms" in card.locator("dd", has_text="ms").first.inner_text()
    page.locator("#k input[type=number]").fill("2")
    expect(summary).to_contain_text("K = 2:", timeout=LIVE)
    expect(card).to_have_attribute("open", "")
    page.locator("#auto input").check()
    expect(summary).to_contain_text("K auto:", timeout=LIVE)
    page.locator("#auto input").uncheck()
    page.locator("#k input[type=number]").fill("99")
    expect(summary).to_contain_text("99", timeout=LIVE)
    expect(card.locator("dt")).to_have_count(0)
    page.locator("#k input[type=number]").fill("4")
    expect(summary).to_contain_text("K = 4:", timeout=LIVE)
    page.locator("#drafter input").click()
    page.get_by_role("option", name="copying from references").click()
    expect(summary).to_contain_text("reference", timeout=LIVE)
    expect(card.locator("dt")).to_have_count(0)
    assert summary.inner_text().endswith(".")


@pytest.fixture(scope="module")
def chatty(tmp_path_factory):
    """A pair with a chat template that has a system prompt, an option and marks of its own."""
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|eot|>"]})
    turns = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|eot|>\n{% endfor %}"
    tokenizer.chat_template = turns + "assistant ({{ tone }}): "
    target = make_model(layers=4, vocab_size=len(tokenizer))
    folder = tmp_path_factory.mktemp("chat") / "birch"
    return save_pair(folder, target, perturb(target), tokenizer)


def test_a_chat_takes_a_system_prompt_and_options_and_shows_its_marks(visit, chatty):
    page = visit()
    ready(page)
    expect(page.locator("#chat input")).to_be_disabled()
    assert not page.locator("#turn").is_visible()
    _ask(page, str(chatty))
    expect(page.locator("#chat input")).to_be_enabled(timeout=LIVE)
    page.locator("#chat input").check()
    page.locator("#system textarea, #system input").fill("Be brief.")
    page.locator("#options textarea, #options input").fill("tone=dry")
    run(page, "hi fox", 8)
    lane = page.locator(".st-lane").first
    expect(lane).to_contain_text("system: Be brief.", timeout=LIVE)
    expect(lane).to_contain_text("assistant (dry):")
    marks = lane.locator(".st-prompt.st-special")
    expect(marks).to_have_text(["⟦<|eot|>⟧"] * 2)
    expect(marks.first).to_have_attribute("title", re.compile("special token"))
    page.locator("#options textarea, #options input").fill("tone")
    page.locator("#run").click()
    expect(page.locator("#notice .st-notice")).to_contain_text("write NAME=VALUE", timeout=LIVE)
    page.locator("#chat input").uncheck()
    expect(page.locator("#turn")).to_be_hidden()
