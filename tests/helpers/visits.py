"""Fixtures of the browser tests of the page: the page itself, and traces to open in it."""

from __future__ import annotations

import json

import browsing
import page_runs
import pytest
from browsing import LIVE
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tiny_models import make_model, perturb, save_pair

from stairs_core.traces import files

DOCUMENT = "<img src=x onerror=alert(1)> ${1+1}\u202e.txt"


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traces")
    files.write(folder / "a-fox-and-a-key.jsonl", page_runs.pair())
    words = page_runs.words(page_runs.STORY)
    hostile = [*words[:9], *page_runs.HOSTILE, *words[9:60]]
    files.write(folder / "hostile.jsonl", page_runs.pair(hostile, k=12))
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Traces to be opened: by name, their paths."""
    alone, chain = page_runs.pair()
    lanes = {
        "lanes": page_runs.four(),
        "wide": [alone, page_runs.tree(page_runs.words(page_runs.STORY), width=7, depth=5)],
        "notes": [alone, page_runs.copied(chain, "copies", DOCUMENT, 40)],
        "odds": page_runs.odds([alone, chain]),
        "sampled": page_runs.sampled([alone, chain], "speculative"),
    }
    folder = tmp_path_factory.mktemp("made")
    for name, recordings in lanes.items():
        files.write(folder / f"{name}.jsonl", recordings)
    return {name: folder / f"{name}.jsonl" for name in lanes}


@pytest.fixture(scope="session")
def log(tmp_path_factory):
    """What the page's server prints."""
    return tmp_path_factory.mktemp("log") / "log.txt"


@pytest.fixture(scope="session")
def address(recorded, log, tmp_path_factory):
    """Models that are random, and deep enough for a run to be stopped midway."""
    folder = tmp_path_factory.mktemp("live")
    target = make_model(layers=12)
    pair = save_pair(folder / "pair", target, perturb(target, 0.03))
    for config in pair.glob("*/config.json"):
        changed = json.loads(config.read_text()) | {"max_position_embeddings": 2048}
        config.write_text(json.dumps(changed))
    with browsing.serving(recorded, log, str(pair), STAIRS_MAX_TOKENS=str(browsing.LONG)) as url:
        yield url
    assert "Warning" not in log.read_text()


@pytest.fixture(scope="session")
def browser():
    path = browsing.find_browser()
    if path is None:
        pytest.fail(browsing.NO_BROWSER)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(browsing.ARGUMENTS))
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Browser, address: str):
    """Opens the page; ``at``: what stands behind its address; ``script``: runs before all of the
    page's own. Afterwards: no console error, no dialog, no request to another host."""
    troubles: list[str] = []
    contexts = []

    def open_page(width: int = 1280, at: str = "", script: str = "", **options) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        context.add_init_script(script)
        contexts.append(context)
        return _opened(context.new_page(), address, at, troubles)

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


@pytest.fixture(scope="module")
def kept_page(browser: Browser, address: str):
    troubles: list[str] = []
    permissions = ["clipboard-read", "clipboard-write"]
    with browser.new_context(permissions=permissions) as context:
        yield _opened(context.new_page(), address, "", troubles), troubles


@pytest.fixture
def kept(kept_page):
    """Gives the page of this width, opened once for all tests of a file that open a trace and
    look at it, and leave it as they found it. ``media``: as for ``emulate_media``."""
    page, troubles = kept_page

    def give(width: int = 1280, **media) -> Page:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(**{"color_scheme": "light", "reduced_motion": "no-preference"} | media)
        page.mouse.move(0, 0)
        page.keyboard.press("Escape")
        page.locator("#tab-stairs").click()
        return page

    yield give
    found = [*troubles]
    troubles.clear()
    assert found == []


def _opened(page: Page, address: str, at: str, troubles: list[str]) -> Page:
    """The page, once it shows its first run; what it does wrong is added to ``troubles``."""
    page.set_default_timeout(LIVE)
    browsing.watch(page)
    page.on("console", lambda m: m.type == "error" and troubles.append(m.text))
    page.on("pageerror", lambda e: troubles.append(str(e)))
    page.on("dialog", lambda d: (troubles.append(f"dialog: {d.message}"), d.dismiss()))
    page.on("request", lambda r: _own(r.url, address) or troubles.append(r.url))
    page.goto(address + at)
    expect(page.locator("#verdict")).to_contain_text("Same text", timeout=LIVE)
    return page


def _own(url: str, address: str) -> bool:
    return url.startswith((address, "data:", "blob:"))
