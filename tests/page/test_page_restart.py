"""A page that stays open while its server is gone, and one whose files were swept away."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import browsing
import pytest
from browsing import LIVE, ready, run
from playwright.sync_api import Browser, Page, expect

from stairs_core.traces import files
from stairs_core.web import notices

pytest_plugins = ["visits"]
LOST = "The connection to the server is lost. What you typed and the run on show stay here"
ANEW = "The server was started anew. What you typed and the run on show are kept."
TELLS = "**/component_server**"  # that it is open
IDS = """Stairs.stage.fold.lanes.map((lane) =>
    lane.steps.flatMap((step) => step.tokens.filter(Stairs.committed)).map((token) => token.id))"""


@pytest.fixture
def open_page(browser: Browser):
    """Opens a page at an address, one whose word that it is open is lost where it is not ``heard``;
    errors are to be expected on its console."""
    contexts = []

    def opened(address: str, heard: bool = True) -> Page:
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 900}))
        page = contexts[-1].new_page()
        if not heard:
            page.route(TELLS, lambda route: route.abort())
        page.goto(address)
        ready(page)
        return page

    yield opened
    for context in contexts:
        context.close()


def ran(page: Page, prompt: str) -> list[list[int]]:
    """The ids that the lanes of a run wrote."""
    run(page, prompt, 12)
    expect(page.locator("#trace-download")).to_be_enabled(timeout=LIVE)
    page.wait_for_function("!Stairs.stage.value.running")
    return page.evaluate(IDS)


def saved(page: Page) -> list[list[int]]:
    with page.expect_download() as download:
        page.locator("#trace-download").click()
    return [lane.new_ids for lane in files.read(download.value.path())]


def is_back(page: Page, typed: str, ids: list[list[int]]) -> None:
    """It holds what it held, and goes on."""
    page.wait_for_function("globalThis.Stairs?.stage?.value?.source.kind === 'live'", timeout=LIVE)
    expect(page.locator("#notice .st-notice")).to_have_text(notices.BACK, timeout=LIVE)
    expect(page.locator("#prompt textarea")).to_have_value(typed)
    expect(page.locator("#max-new-tokens input[type=number]")).to_have_value("12")
    expect(page.locator("#drafter-2 input")).to_have_value("the draft model, a tree")
    expect(page.locator(".st-connection")).not_to_be_visible()
    assert page.evaluate(IDS) == ids
    assert saved(page) == ids
    assert len(ran(page, typed)) == 3


def test_it_says_that_its_server_is_gone_and_goes_on_with_the_next(
    open_page, recorded, tiny_pair_dir, tmp_path
):
    served = (recorded, tmp_path / "log.txt", str(tiny_pair_dir))
    port, bar = browsing.free_port(), ".st-connection"
    with browsing.serving(*served, port=port) as address:
        page = open_page(address, heard=False)  # so it has never heard from this server
        page.locator("#add").click()
        ids = ran(page, "the fox")
        page.unroute(TELLS)
    page.evaluate("dispatchEvent(new Event('online'))")  # it would ask by itself, in a while
    expect(page.locator(bar)).to_contain_text(LOST)
    expect(page.locator(f"{bar} button")).not_to_be_visible()
    page.locator("#prompt textarea").fill("a key")
    with browsing.serving(*served, port=port):
        expect(page.locator(bar)).to_contain_text(ANEW, timeout=LIVE)
        assert page.evaluate(IDS) == ids
        page.locator(bar).get_by_role("button", name="Go on").click()
        is_back(page, "a key", ids)


@pytest.mark.slow
def test_gradio_reloads_a_page_whose_request_broke_off_and_it_keeps_what_it_held(
    open_page, recorded, tiny_pair_dir, tmp_path
):
    served = (recorded, tmp_path / "log.txt", str(tiny_pair_dir))
    port = browsing.free_port()
    with browsing.serving(*served, port=port) as address:
        page = open_page(address)
        page.locator("#add").click()
        ids = ran(page, "the fox")
    page.locator("#run").click()
    expect(page.locator(".toast-body.error")).to_contain_text("Connection to the server was lost")
    page.locator("#prompt textarea").fill("a key")
    with browsing.serving(*served, port=port):
        is_back(page, "a key", ids)


@pytest.mark.slow
def test_files_that_were_swept_away_are_made_again(open_page, address):
    page = open_page(address)
    ids = ran(page, "the fox")
    urls: list[str] = []
    page.on("request", lambda r: r.method == "HEAD" and urls.append(r.url))
    assert saved(page) == ids
    path = Path("/" + unquote(re.sub(r".*file=/?|\?.*", "", urls[0])))
    path.unlink()  # as gradio does after a day
    page.locator("#trace-download").click()
    bar = page.locator(".st-connection")
    expect(bar).to_contain_text("The files of this run were swept away, since they were older than")
    bar.get_by_role("button", name="Make them again").click()
    expect(page.locator("#notice .st-notice")).to_have_text(notices.BACK, timeout=LIVE)
    assert saved(page) == ids
