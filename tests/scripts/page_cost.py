"""What the page costs: python tests/scripts/page_cost.py [--runs 3]

A race of 500 tokens of the bundled pair, two lanes, watched in headless Chromium: bytes sent while
it runs, the share of that time for which the browser's main thread is busy, frames that came more
than 50 ms after the one before, and the engine clock with the page open against the same race with
nobody watching (in the page's own process, a browser elsewhere).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "helpers"))
import browsing
from paths import ROOT
from playwright.sync_api import Page, expect, sync_playwright

PROMPT = "The cat ran after the mouse. The dog ran after the cat. " * 4 + "The cat ran after"
TOKENS = 500
_FRAMES = """() => {
    window.frames_ = [];
    const frame = (now) => {
        window.frames_.push(now);
        window.framing = requestAnimationFrame(frame);
    };
    window.framing = requestAnimationFrame(frame);
}"""
_LATE = """() => {
    cancelAnimationFrame(window.framing);
    return window.frames_.filter((t, i, all) => i && t - all[i - 1] > 50).length;
}"""
_CLOCKS = """() => Stairs.stage.fold.lanes.map(lane => lane.steps.at(-1).elapsed)"""


def measure(page: Page, prompt: str = PROMPT, tokens: int = TOKENS) -> dict[str, Any]:
    """Runs one race on an open page: seconds it took, bytes, busy share, late frames, clocks."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    session.send("Network.enable")
    sent = [0]
    session.on("Network.dataReceived", lambda e: sent.__setitem__(0, sent[0] + e["dataLength"]))

    def counters() -> tuple[float, float]:
        found = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
        return found["Timestamp"], found["TaskDuration"]

    page.evaluate(_FRAMES)
    began, busy, before = *counters(), sent[0]
    browsing.run(page, prompt, tokens)
    page.wait_for_function("!document.querySelector('#run').disabled", timeout=120_000)
    ended, busy_at_end = counters()
    late = page.evaluate(_LATE)
    page.wait_for_timeout(500)
    session.detach()
    return {
        "seconds": ended - began,
        "bytes": sent[0] - before,
        "busy": (busy_at_end - busy) / (ended - began),
        "late": late,
        "clocks": page.evaluate(_CLOCKS),
    }


def alone(prompt: str = PROMPT, tokens: int = TOKENS) -> list[float]:
    """The engine clocks of the same race with no page."""
    from stairs_core import Runner, Settings, load_pair
    from stairs_core.measuring.race import race

    pair, settings = load_pair(), Settings(k=5, max_new_tokens=tokens)
    runners = [Runner(pair, prompt, s) for s in (settings.alone(), settings)]
    for _ in race(runners):
        pass
    return [runner.clock.elapsed for runner in runners]


def main(runs: int) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        browsing.serving(
            ROOT / "assets" / "traces", Path(folder, "log.txt"), threads=None
        ) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=browsing.find_browser(), args=list(browsing.ARGUMENTS)
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(address)
        expect(page.locator(".st-chip").first).to_contain_text("target", timeout=60_000)
        page.wait_for_timeout(3000)
        found = [measure(page) for _ in range(runs)]
        browser.close()
    unwatched = [alone() for _ in range(runs)]
    for name, form in (
        ("seconds", "{:.1f}"),
        ("bytes", "{:,.0f}"),
        ("busy", "{:.0%}"),
        ("late", "{:.0f}"),
    ):
        print(name, *(form.format(f[name]) for f in found))
    for lane, name in enumerate(("target alone", "stairs")):
        with_page = [f["clocks"][lane] for f in found]
        without = [clocks[lane] for clocks in unwatched]
        ratio = statistics.median(with_page) / statistics.median(without)
        print(f"engine clock, {name}: {ratio:.2f} of what it is unwatched", with_page, without)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=3)
    main(parser.parse_args().runs)
