"""Screenshots of the page to be looked at: python tests/screenshots.py [FOLDER]

1280 and 390 px wide, light and dark: as the page opens, at the end of a run, with thirteen stairs
of text that tries to break out, with four lanes, with copies, and with a wide tree. No model is
needed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import browsing
import page_runs
from playwright.sync_api import Browser, expect, sync_playwright

from stairs_core import tracefile

WIDTHS = (1280, 390)
THEMES = ("light", "dark")
expect.set_options(timeout=60_000)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        runs = _recordings(Path(made))
        recorded = browsing.ROOT / "assets" / "traces"
        traces = recorded if any(recorded.glob("*.jsonl")) else runs
        with (
            browsing.serving(traces, Path(made, "log.txt")) as address,
            sync_playwright() as playwright,
        ):
            browser = playwright.chromium.launch(
                executable_path=browsing.find_browser(), args=list(browsing.ARGUMENTS)
            )
            for theme in THEMES:
                for width in WIDTHS:
                    _shoot(browser, address, theme, width, runs, folder)
            browser.close()


def _recordings(folder: Path) -> Path:
    tracefile.write(folder / "made-up.jsonl", page_runs.pair())
    tracefile.write(folder / "lanes.jsonl", page_runs.four())
    wide = page_runs.tree(page_runs.words(page_runs.STORY), width=7, depth=5)
    tracefile.write(folder / "tree.jsonl", [page_runs.pair()[0], wide])
    words = page_runs.words(page_runs.STORY)
    hostile = [*words[:9], *page_runs.HOSTILE, *words[9:60]]
    tracefile.write(folder / "hostile.jsonl", page_runs.pair(hostile, k=12))
    return folder


def _shoot(
    browser: Browser, address: str, theme: str, width: int, runs: Path, folder: Path
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)  # type: ignore[arg-type]
    page.goto(address)

    def shoot(name: str) -> None:
        page.mouse.move(0, 0)
        page.wait_for_selector("#charts .main-svg")
        page.wait_for_timeout(800)
        path = folder / f"{name}-{theme}-{width}.png"
        page.screenshot(path=path, full_page=True)
        print(path)

    def open_trace(name: str) -> None:
        with page.expect_file_chooser() as chooser:
            page.locator("#trace-open").click()
        chooser.value.set_files(runs / f"{name}.jsonl")
        expect(page.locator(".st-source")).to_contain_text(f"{name}.jsonl")

    expect(page.locator("#verdict")).to_contain_text("Same text")
    shoot("open")
    page.locator(".st-scrub").focus()
    page.keyboard.press("End")
    shoot("end")
    open_trace("hostile")
    page.locator(".st-legend summary").click()
    shoot("hostile")
    open_trace("lanes")
    shoot("lanes")
    page.locator(".st-table input").nth(1).check()
    page.locator(".st-scrub").focus()
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    shoot("copied")
    page.locator("#add").click()
    page.locator("#sampling button").first.click()
    open_trace("tree")
    shoot("tree")
    page.close()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "screenshots"))
