"""The page served, a real browser, and ways to use the page in it: for tests and pictures."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from weakref import WeakKeyDictionary

from paths import ROOT
from playwright.sync_api import Page, Request, expect

BROWSERS = (
    "chromium-headless-shell",  # Chromium without windows, which starts and draws faster
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)
ARGUMENTS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
)
NO_BROWSER = (
    "The tests of the page need Chromium: install it (Debian: apt-get install chromium) or put the "
    "path of one into STAIRS_CHROMIUM."
)
# The machine that tests is busy by itself, which the page would say in place of its numbers; and it
# has no time to find out exactly what passes cost.
_SERVE = """
import pathlib, sys
from stairs_core.traces import pass_costs
pass_costs.BUSY = float("inf")
from stairs_core.measuring import pass_timing
pass_timing._SECONDS, pass_timing._LEAST = 0.05, 1
import app
app.handlers.TRACES = pathlib.Path(sys.argv[1])
app.main()
"""
COUNTS = "[...document.querySelectorAll('.st-lane .st-clock')].map(n => parseInt(n.textContent))"
LIVE = 60_000
_STREAMS: WeakKeyDictionary[Page, set[Request]] = WeakKeyDictionary()
LONG = 1500  # tokens of a run that is to be stopped: none is over before
expect.set_options(timeout=20_000)  # a busy machine is slow; a broken page is broken after it too


def find_browser() -> str | None:
    paths = (os.environ.get("STAIRS_CHROMIUM"), *map(shutil.which, BROWSERS))
    return next((p for p in paths if p), None)


@contextlib.contextmanager
def serving(
    traces: Path,
    log: Path,
    pair: str = "bundled",
    limit: float = 240,
    threads: int | None = 1,
    port: int = 0,
    before: str = "",
    **more: str,
) -> Iterator[str]:
    """The page's address, while it is served with the recorded runs of ``traces``. ``threads``:
    None for as many as torch takes; tiny models gain nothing from more than one. ``port``: 0 for
    one that is free. ``before``: code that the server runs first; ``more``: in its environment."""
    port = port or free_port()
    environment = os.environ | {
        "PORT": str(port),
        "STAIRS_PAIR": pair,
        "HF_HUB_OFFLINE": "1",
        "PYTHONWARNINGS": "default",  # those that Python hides too
    }
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    for name in ("HOST", "GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "SPACE_ID", "STAIRS_DEBUG"):
        environment.pop(name, None)
    environment |= more
    command = [sys.executable, "-c", before + _SERVE, str(traces)]
    with (
        log.open("w") as output,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        ) as server,
    ):
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(address, server, log, limit)
            yield address
        finally:
            server.terminate()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _wait(address: str, server: subprocess.Popen, log: Path, limit: float) -> None:
    end = time.monotonic() + limit
    while time.monotonic() < end:
        assert server.poll() is None, f"app.py ended: {log.read_text()}"
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5):
            return
        time.sleep(0.2)
    raise AssertionError(f"app.py does not answer after {limit:.0f} s: {log.read_text()}")


# A short run may be over between two looks at the button, so the page itself takes note.
def run(page: Page, prompt: str, length: int) -> None:
    """Starts a run, and waits until its first steps are on show; a short one may be over then."""
    expect(page.locator(".st-chip").first).to_contain_text("target", timeout=LIVE)
    page.locator("#prompt textarea").fill(prompt)
    page.locator("#max-new-tokens input[type=number]").fill(str(length))
    before = page.evaluate("Stairs.stage.run")
    expect(page.locator("#run")).to_be_enabled(timeout=LIVE)
    page.locator("#prompt textarea").press("Control+Enter")
    page.wait_for_function("before => Stairs.stage.run !== before", arg=before, timeout=LIVE)


def arriving(page: Page) -> list[int]:
    """Waits until both lanes have tokens while the run goes on; the counts."""
    return counted(page, "n > 0", RUNNING)


def counted(page: Page, each: str, also: str = "true") -> list[int]:
    """Waits until the count ``n`` of ``each`` lane is as asked for; the counts of that moment."""
    asked = f"() => {{ const all = {COUNTS}; return {also} && all.every(n => {each}) && all; }}"
    return page.wait_for_function(asked, timeout=LIVE).json_value()


RUNNING = "document.querySelector('.st-stage.running') !== null"


def open_trace(page: Page, path) -> None:
    with page.expect_file_chooser() as chooser:
        page.locator("#trace-open").click()
    chooser.value.set_files(path)


def show(page: Page, path) -> None:
    """Opens a trace that is one, whether or not it was opened before."""
    before = page.evaluate("Stairs.stage.run")
    open_trace(page, path)
    page.wait_for_function("before => Stairs.stage.run !== before", arg=before, timeout=LIVE)
    expect(page.locator(".st-source")).to_contain_text(path.name)


def opened(page: Page, path, step: int = 1) -> None:
    """Opens a trace that is one, and goes to a step."""
    show(page, path)
    page.locator(".st-scrub").focus()
    page.keyboard.press("Home")
    for _ in range(step - 1):
        page.keyboard.press("ArrowRight")
    expect(page.locator(".st-cursor h2")).to_contain_text(f"Step {step} of")


def draw_charts(page: Page) -> None:
    """A chart is drawn when it comes near the window: goes through all of them, then to the top."""
    for card in page.locator(".st-chart").all():
        card.scroll_into_view_if_needed()
        card.locator(".main-svg").first.wait_for(state="attached")
    page.evaluate("scrollTo(0, 0)")


def shape(page: Page) -> list:
    """Where every card stands: what must not move while a run goes on or is stepped through."""
    return page.evaluate(
        "[...document.querySelectorAll('.st-card, #controls')].map(n => {"
        "const r = n.getBoundingClientRect(); return [r.left, r.top + scrollY, r.width, r.height]})"
    )


def ready(page: Page) -> None:
    """Waits for the models, and for the card that says what their passes cost."""
    expect(page.locator(".st-chip").first).to_contain_text("target", timeout=LIVE)
    expect(page.locator("#preflight summary")).not_to_contain_text("Measuring", timeout=LIVE)


def watch(page: Page) -> None:
    """Takes note of the streams in which the page hears of its events, for ``reload``."""
    streams = _STREAMS[page] = set()
    page.on("request", lambda r: "/queue/data" in r.url and streams.add(r))
    for over in ("requestfinished", "requestfailed"):
        page.on(over, lambda r: streams.discard(r))


def reload(page: Page) -> None:
    """Once no event is under way: what Gradio still waits for, it reports as broken off."""
    ready(page)
    quiet, end = 0, time.monotonic() + LIVE / 1000
    while quiet < 5 and time.monotonic() < end:  # one event may be followed by the next
        page.wait_for_timeout(100)
        quiet = 0 if _STREAMS[page] else quiet + 1
    page.reload()
