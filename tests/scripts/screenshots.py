"""Screenshots of the page to be looked at: python tests/scripts/screenshots.py [--help]

Every view at 390, 1280 and 2560 px, light and dark, and with large type: of recorded runs, opened
by links, and of made-up ones. No model is needed. ``ledger 390 dark`` makes one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

sys.path.append(str(Path(__file__).resolve().parents[1] / "helpers"))
import browsing
import page_runs
from paths import ROOT
from playwright.sync_api import Browser, Page, expect, sync_playwright

from stairs_core.traces import files

WIDTHS = (390, 1280, 2560)
THEMES = ("light", "dark", "large")
FOX, LANES = "a fox and a key", "four lanes"
LOG = "accepted {}/8 draft tokens, the last target token is: (99)\n"
expect.set_options(timeout=60_000)

# Each picture: the recorded run, its tab and step, what is done before, and a part of the page.
Picture = tuple[str, str, int, Callable[[Page, Path], None] | None, str | None]


def _file(name: str) -> Callable[[Page, Path], None]:
    return lambda page, made: browsing.opened(page, made / name, step=3)


def _click(*selectors: str) -> Callable[[Page, Path], None]:
    def act(page: Page, made: Path) -> None:
        for selector in selectors:
            page.locator(selector).first.click()

    return act


def _token(page: Page, made: Path) -> None:
    page.locator(".st-lane:not(.plain) .st-t.rejected").first.hover()


def _copier(page: Page, made: Path) -> None:
    _click(".st-provenance > button")(page, made)
    page.locator(".st-scrub").focus()
    page.keyboard.press("ArrowLeft")


def _stuck(page: Page, made: Path) -> None:
    page.locator(".st-views").evaluate("n => scrollTo(0, n.getBoundingClientRect().top + scrollY)")


PICTURES: dict[str, Picture] = {
    "race": (FOX, "stairs", 17, None, None),
    "lanes": (LANES, "stairs", 20, None, None),
    "same": (LANES, "same", 20, None, ".st-views"),
    "ledger": (LANES, "ledger", 20, None, ".st-views"),
    "provenance": (LANES, "provenance", 20, _copier, ".st-views"),
    "charts": (FOX, "stairs", 17, None, "#charts"),
    "keep": (FOX, "stairs", 17, _click(".st-keep summary"), ".st-keep"),
    "controls": (FOX, "stairs", 17, _click("#models button", "#sampling button"), "#controls"),
    "legend": (FOX, "stairs", 17, _click(".st-legend summary"), ".st-words-of"),
    "tour": (FOX, "stairs", 17, _click(".st-invite button"), "window"),
    "token": (FOX, "stairs", 17, _token, "window"),
    "glossary": (FOX, "stairs", 17, _click("#summary .st-term"), "window"),
    "stuck": (FOX, "stairs", 17, _stuck, "window"),
    "tree": ("", "", 0, _file("tree.jsonl"), None),
    "log": ("", "", 0, _file("llama.log"), None),
    "hostile": ("", "", 0, _file("hostile.jsonl"), None),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Screenshots of the page.")
    parser.add_argument("wanted", nargs="*", help=f"of {', '.join((*PICTURES, *THEMES))}, or px")
    parser.add_argument("--to", type=Path, default=Path("screenshots"), metavar="FOLDER")
    given = parser.parse_args()
    names = [name for name in PICTURES if name in given.wanted] or [*PICTURES]
    widths = [width for width in WIDTHS if str(width) in given.wanted] or WIDTHS
    themes = [theme for theme in THEMES if theme in given.wanted] or THEMES
    given.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, _browser(Path(folder)) as (browser, address):
        for theme in themes:
            for width in widths:
                with _page(browser, theme, width) as page:
                    for name in names:
                        path = given.to / f"{name}-{theme}-{width}.png"
                        _shoot(page, address, PICTURES[name], Path(folder), path)
                        print(path, flush=True)


@contextmanager
def _browser(made: Path) -> Iterator[tuple[Browser, str]]:
    files.write(made / "tree.jsonl", [page_runs.pair()[0], _tree()])
    words = page_runs.words(page_runs.STORY)
    hostile = [*words[:9], *page_runs.HOSTILE, *words[9:60]]
    files.write(made / "hostile.jsonl", page_runs.pair(hostile, k=12))
    (made / "llama.log").write_text("".join(LOG.format(i * 5 % 9) for i in range(40)))
    traces = ROOT / "assets" / "traces"
    with browsing.serving(traces, made / "log.txt") as address, sync_playwright() as playwright:
        path = browsing.find_browser()
        browser = playwright.chromium.launch(executable_path=path, args=list(browsing.ARGUMENTS))
        yield browser, address
        browser.close()


def _tree():
    return page_runs.tree(page_runs.words(page_runs.STORY), width=7, depth=5)


@contextmanager
def _page(browser: Browser, theme: str, width: int) -> Iterator[Page]:
    size = {"width": width, "height": 800 if width < 900 else 1000}
    scheme = "dark" if theme == "dark" else "light"
    page = browser.new_page(viewport=size, color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    if theme == "large":
        page.add_init_script("localStorage.setItem('stairs-type', 'large')")
    yield page
    page.close()


def _shoot(page: Page, address: str, picture: Picture, made: Path, path: Path) -> None:
    run, view, step, act, part = picture
    page.goto("about:blank")  # else the address alone would change, and nothing be loaded
    page.goto(f"{address}#run={quote(run)}&view={view}&step={step}" if run else address)
    expect(page.locator("#verdict")).to_contain_text("ext")
    if run:
        expect(page.locator(".st-cursor h2")).to_contain_text(f"Step {step} of")
    page.mouse.move(0, 0)
    if act:
        act(page, made)
    if not part or part == "#charts":
        browsing.draw_charts(page)
    page.wait_for_timeout(700)
    if part and part != "window":
        # Else the card of the cursor would cover the part.
        page.add_style_tag(content=".st-cursor { position: static !important }")
        page.locator(part).screenshot(path=path)
    else:
        page.screenshot(path=path, full_page=part is None)


if __name__ == "__main__":
    main()
