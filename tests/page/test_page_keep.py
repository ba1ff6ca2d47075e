"""What a visitor takes home of a run, in a real browser: links, pictures, code, a replay; and what
is brought along: other engines' logs, and texts that try to break out."""

from __future__ import annotations

import json
import struct
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import page_runs
import pytest
from browsing import LIVE, draw_charts, opened, run, show
from engine_log_samples import DETAILED, TRACED
from playwright.sync_api import Browser, Page, expect

from stairs_core.render import snippets
from stairs_core.traces import files
from stairs_core.traces.records import Recording

pytest_plugins = ["visits"]
SVG = "{http://www.w3.org/2000/svg}"
CLIPBOARD = ["clipboard-read", "clipboard-write"]
VIEWS = ("stairs", "same", "ledger", "provenance")
FAMILY = ("👩\u200d", "👩\u200d", "👧", "\ud83d")
IMAGE = "</script><img src=x onerror=alert(1)>"
BREAKING = (IMAGE, "${1+1}", "{{x}}", "\x00", "\u202egnp", "\ufffe")
OPEN_TABLES = "document.querySelectorAll('#charts details').forEach(d => { d.open = true })"
MOST_SECONDS = 2.0
"""For a step with hostile text to be drawn: hundreds of times what a usual one takes."""


def _facts(page: Page) -> list[str]:
    return page.locator("#summary, #verdict").all_inner_texts()


def _title(page: Page) -> str:
    return page.locator(".st-cursor h2").inner_text()


def _at(page: Page, step: int, view: str) -> None:
    expect(page.locator(".st-cursor h2")).to_contain_text(f"Step {step} of", timeout=LIVE)
    expect(page.locator(f"#tab-{view}")).to_have_attribute("aria-selected", "true")


def _copied(page: Page, button: str, told: str) -> str:
    page.get_by_role("button", name=button).click()
    expect(page.locator(".st-told")).to_have_text(told)
    return page.evaluate("navigator.clipboard.readText()")


def _saved(page: Page, button: str, folder: Path) -> Path:
    with page.expect_download() as download:
        page.locator(".st-keep").get_by_role("button", name=button, exact=True).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def _ran(page: Page, prompt: str, length: int) -> None:
    run(page, prompt, length)
    expect(page.locator("#run")).to_be_enabled(timeout=LIVE)


def test_a_recorded_run_has_an_address_that_follows_the_cursor(visit, made):
    page = visit(at="#run=hostile&step=4&view=ledger")
    expect(page.locator(".st-source")).to_contain_text("hostile", timeout=LIVE)
    _at(page, 4, "ledger")
    expect(page.locator("#recorded input")).to_have_value("hostile")
    page.locator(".st-scrub").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**#run=hostile&step=5&view=ledger")
    page.locator("#tab-same").click()
    page.wait_for_url("**#run=hostile&step=5&view=same")
    page = visit(at=page.url[page.url.index("#") :])
    expect(page.locator(".st-source")).to_contain_text("hostile", timeout=LIVE)
    _at(page, 5, "same")
    opened(page, made["lanes"])
    assert page.evaluate("location.hash") == "", "it would name a run that is not on show"
    page = visit(at="#run=nobody")
    expect(page.locator(".st-notice.error").last).to_contain_text("no recorded run", timeout=LIVE)


def test_a_link_holds_a_run_and_its_step(visit):
    page = visit(permissions=CLIPBOARD)
    _ran(page, "the fox", 24)
    page.locator("#tab-same").click()
    page.locator(".st-scrub").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    title, facts = _title(page), _facts(page)
    link = _copied(page, "Copy link to this step", "Link copied")
    assert "#trace=" in link
    assert page.evaluate("location.hash") == "", "the address bar is left alone"
    other = visit(at=link[link.index("#") :])
    expect(other.locator(".st-source")).to_have_class("st-source link", timeout=LIVE)
    _at(other, 2, "same")
    assert _title(other) == title
    assert _facts(other) == facts
    first = page.locator(".st-text").all_inner_texts()
    assert other.locator(".st-text").all_inner_texts() == first
    for damaged in (link.replace("#trace=", "#trace=*"), link.split("&")[0][:-40]):
        notice = visit(at=damaged[damaged.index("#") :]).locator("#notice .st-notice")
        expect(notice).to_have_class("st-notice error", timeout=LIVE)
        expect(notice).to_contain_text("The trace in the link is")
        assert notice.inner_text().count(".") == 1


def test_a_link_holds_the_settings_of_a_run(visit):
    page = visit(permissions=CLIPBOARD)
    page.locator("#add").click()
    expect(page.locator("#guesser-2")).to_be_visible()
    page.locator("#k input[type=number]").fill("3")
    page.locator("#checked .label-wrap").click()
    page.locator("#backend input").click()
    page.get_by_role("option", name="every row over the cache").click()
    prompt = "Once </script> ${1+1}\nupon, été"
    _ran(page, prompt, 12)
    link = _copied(page, "Copy link to the settings", "Link copied")
    assert "#settings=" in link
    assert "step=" not in link
    other = visit(at=link[link.index("#") :])
    expect(other.locator("#prompt textarea")).to_have_value(prompt, timeout=LIVE)
    expect(other.locator("#k input[type=number]")).to_have_value("3")
    expect(other.locator("#max-new-tokens input[type=number]")).to_have_value("12")
    expect(other.locator("#guesser-2")).to_be_visible()
    expect(other.locator("#drafter-2 input")).to_have_value("the draft model, a tree")
    other.locator("#checked .label-wrap").click()
    expect(other.locator("#backend input")).to_have_value("every row over the cache")
    expect(other.locator("#guesser-3")).to_be_hidden()
    _ran(other, prompt, 12)
    expect(other.locator(".st-table")).to_contain_text(
        "the draft model, K 3, every row over the cache"
    )


def _texts(root: ElementTree.Element) -> list[str]:
    return [node.text or "" for node in root.iter(f"{SVG}text")]


@pytest.mark.parametrize("kind", ["chain", "tree"])
def test_pictures_hold_what_is_drawn(kept, hostile, made, tmp_path, kind):
    page = kept()
    opened(page, hostile["chain"] if kind == "chain" else made["wide"], 2)
    cells = page.locator(".st-stairs .st-c")
    drawn = cells.all_text_contents()
    file = _saved(page, "SVG", tmp_path)
    assert file.name == "stairs-step-2.svg"
    root = ElementTree.parse(file).getroot()
    lights = page.locator(".st-stairs .st-light").count()
    assert len([*root.iter(f"{SVG}rect")]) == 1 + len(drawn) + lights
    title, *texts, foot = _texts(root)
    assert title == _title(page)
    assert "made-up target with made-up draft" in foot
    pairs = [*zip(texts, drawn, strict=True)]
    assert all(d.startswith(t.removesuffix("…")) for t, d in pairs)
    assert sum(t == d for t, d in pairs) > len(drawn) / 2
    if kind == "chain":
        assert {"${1+1}", "{{x}}", "‹U+0000›", "‹U+202E›gnp"} <= {*texts}
        assert any(t.startswith("</script>") for t in texts)
    assert not {n.tag for n in root.iter()} & {f"{SVG}script", f"{SVG}image", f"{SVG}foreignObject"}
    size = [round(float(root.get(name) or 0)) for name in ("width", "height")]
    picture = _saved(page, "PNG", tmp_path).read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert [*struct.unpack(">II", picture[16:24])] == [2 * side for side in size]


PICTURE = """text => {
    const drawn = Stairs.picture.svg(document.querySelector(".st-stairs"), text, text);
    const root = document.body.appendChild(drawn), { width, height } = root.viewBox.baseVal;
    const words = [...root.querySelectorAll("text[font-family^=system-ui]")];
    const boxes = words.map((node) => node.getBBox());
    root.remove();
    return [words.map((node) => node.textContent), boxes.map((b) => width - b.x - b.width),
        boxes.map((b) => height - b.y - b.height)];
}"""


def test_a_picture_has_room_for_what_is_written_on_it(kept, made):
    page = kept()
    opened(page, made["lanes"], 2)
    text = f"Step 2 of 30: {'five guessed, three kept, ' * 6}{'long' * 60} and its end"
    words, right, below = page.evaluate(PICTURE, text)
    assert "".join(words).replace(" ", "") == 2 * text.replace(" ", "")
    assert len(words) > 4
    assert min(right) >= 0
    assert min(below) >= 0


def test_the_code_is_shown_and_copied(kept, hostile):
    page = kept()
    opened(page, hostile["chain"])
    lane = files.read(hostile["chain"])[1]
    page.locator(".st-keep summary").focus()
    page.keyboard.press("Enter")
    for name, code in snippets.snippets(lane.run).items():
        page.keyboard.press("Tab")
        tab = page.locator(".st-keep .st-tab", has_text=name)
        expect(tab).to_be_focused()
        page.keyboard.press("Enter")
        expect(tab).to_have_attribute("aria-pressed", "true")
        expect(page.locator(".st-code code")).to_have_text(code, use_inner_text=True)
        copied = _copied(page, "Copy the code", "Code copied")
        assert copied == code
        tab.focus()
    assert page.locator(".st-code :not(code)").count() == 0


def _tables(page: Page) -> list[list[str]]:
    return page.evaluate(
        "[...document.querySelectorAll('#charts table')].map("
        "t => [...t.rows].map(r => [...r.cells].map(c => c.textContent).join('|')))"
    )


def test_a_replay_shows_offline_what_the_page_shows(visit, browser: Browser, tmp_path):
    words = page_runs.words(page_runs.STORY)
    race = page_runs.pair([words[i % len(words)] for i in range(200)])
    files.write(tmp_path / "long.jsonl", race)
    page = visit()
    opened(page, tmp_path / "long.jsonl")
    with page.expect_download() as download:
        page.locator("#replay").click()
    file = tmp_path / "saved.html"
    download.value.save_as(file)
    assert file.stat().st_size < 1_000_000
    troubles: list[str] = []
    with browser.new_context(offline=True, viewport={"width": 1280, "height": 900}) as context:
        other = context.new_page()
        other.on("console", lambda m: m.type in ("error", "warning") and troubles.append(m.text))
        other.on("pageerror", lambda e: troubles.append(str(e)))
        other.on("request", lambda r: r.url == file.as_uri() or troubles.append(r.url))
        other.goto(file.as_uri())
        expect(other.locator(".st-source")).to_contain_text("long.jsonl")
        last = len(race[1].steps) - 1
        for which in (page, other):
            expect(which.locator(".st-scrub")).to_have_attribute("max", str(last))
        for at in (0, 1, 7, last):
            for which in (page, other):
                which.evaluate(
                    "at => { const s = document.querySelector('.st-scrub'); s.value = at;"
                    " s.dispatchEvent(new Event('input')); }", at
                )  # fmt: skip
                expect(which.locator(".st-cursor h2")).to_contain_text(f"Step {at + 1} of")
            assert _title(other) == _title(page)
            assert other.locator(".st-text").all_inner_texts() == (
                page.locator(".st-text").all_inner_texts()
            )
        assert _facts(other) == _facts(page)
        expect(page.get_by_role("button", name="Copy link to the settings")).to_be_visible()
        expect(other.locator(".st-keep")).to_be_visible()
        expect(other.get_by_role("button", name="Copy link")).to_have_count(0)
        page.evaluate(OPEN_TABLES)
        assert _tables(other) == _tables(page)
        assert len(_tables(other)) > 3
        expect(other.locator("#charts table").first).to_be_visible()
    assert troubles == []


@pytest.mark.parametrize("engine", ["vLLM", "llama.cpp"])
def test_a_log_of_another_engine_is_drawn_without_what_it_does_not_tell(kept, tmp_path, engine):
    path = tmp_path / "server.log"
    named = "\n".join(json.dumps(DETAILED | {"id": name}) for name in (IMAGE, "b"))
    path.write_text(named if engine == "vLLM" else TRACED)
    page = kept()
    show(page, path)
    expect(page.locator(".st-source")).to_contain_text(f"log of {engine}")
    name = IMAGE if engine == "vLLM" else "task 0"
    expect(page.locator(".st-lane h2").first).to_contain_text(name)
    said = []
    for view in VIEWS:
        page.locator(f"#tab-{view}").click()
        expect(page.locator(f"#view-{view}")).to_be_visible()
        page.locator(".st-scrub").focus()
        for key in ("Home", "ArrowRight", "End"):
            page.keyboard.press(key)
            said.append(page.locator(".st-stage").inner_text())
    page.locator(".st-text").first.focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#token-card")).to_be_visible()
    said.append(page.locator("#token-card").inner_text())
    labels = (
        "[...document.querySelectorAll('.st-stage [aria-label]')].map(n => n.ariaLabel).join('\\n')"
    )
    said.append(page.evaluate(labels))
    told = "\n".join(said)
    for made_up in (
        "0.00 s",
        "0.0 ms",
        "0 ms",
        "margin",
        "ahead by",
        "token 0",
        "“∅”",
        "NaN",
        "undefined",
    ):
        assert made_up not in told, told[max(0, told.find(made_up) - 300) :][:400]
    assert page.locator(".st-stage :is(img, script)").count() == 0
    draw_charts(page)
    expect(page.locator("#chart-acceptance-by-position .main-svg").first).to_be_visible()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> dict[str, Path]:
    """By name: lanes whose texts and names try to break out, as chains and as four lanes."""
    words = page_runs.words(page_runs.STORY)
    texts = [
        *words[:6],
        *BREAKING,
        *FAMILY,
        *page_runs.HOSTILE,
        "x" * 10_000,
        "שלום" * 9,
        "e" + "\u0301" * 300,
    ]
    texts += words[6:20]
    attack = "".join(BREAKING)

    def named(lane: Recording) -> Recording:
        run = lane.run
        name = f"{run.name} {attack}" if run.drafter == "none" else f"{attack} {run.drafter} \u202e"
        return replace(lane, run=replace(run, name=name, prompt=attack + run.prompt))

    folder = tmp_path_factory.mktemp("hostile")
    chain = page_runs.pair([*BREAKING[1:], *texts], k=12)
    files.write(folder / "chain.jsonl", [chain[0], named(chain[1])])
    files.write(folder / "four.jsonl", [named(lane) for lane in page_runs.four(texts)])
    return {name: folder / f"{name}.jsonl" for name in ("chain", "four")}


def test_hostile_text_is_text_everywhere(visit, hostile):
    page = visit()
    opened(page, hostile["four"])
    draw_charts(page)
    said, slowest = [], 0.0
    for view in VIEWS:
        page.locator(f"#tab-{view}").click()
        page.locator(".st-scrub").focus()
        page.keyboard.press("Home")
        for _ in range(6):
            slowest = max(slowest, page.evaluate(
                "() => { const start = performance.now(); Stairs.stage.step(1);"
                " document.body.offsetHeight; return (performance.now() - start) / 1000 }"
            ))  # fmt: skip
        said.append(page.locator(f"#view-{view}").inner_text())
    assert slowest < MOST_SECONDS
    page.mouse.move(0, 0)
    page.locator(".st-text").nth(1).focus()
    for _ in range(8):
        page.keyboard.press("ArrowDown")
        expect(page.locator("#token-card")).to_be_visible()
        said.append(page.locator("#token-card").inner_text())
    page.keyboard.press("Escape")
    page.evaluate(OPEN_TABLES)
    page.locator(".st-keep summary").click()
    said.append(page.locator("#charts").inner_text())
    said.append(page.locator(".st-keep").inner_text())
    race = page.locator(".st-text").nth(1).text_content() or ""
    for text in (*BREAKING[:3], "‹U+0000›", "‹U+202E›gnp", "x" * 10_000, "👧"):
        assert text in race
    assert not {"\x00", "\u202e"} & {*"".join(said), *race}
    page.locator("#tour").click()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
        assert page.locator("#tour-card :is(img, script)").count() == 0
    page.keyboard.press("Escape")
    assert page.locator("#columns :is(img, script, iframe)").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") == 1280
    prompt = f"{''.join(BREAKING[:3])} {'x' * 300} שלום e\u0301"
    _ran(page, prompt, 12)
    expect(page.locator(".st-text").first).to_contain_text(prompt.split("{{")[0])
    assert page.locator("#columns :is(img, script, iframe)").count() == 0
