"""What a visitor sees where the host's limits are met, in a real browser."""

from __future__ import annotations

import browsing
import pytest
from browsing import LIVE, ready
from playwright.sync_api import Browser, expect

from stairs_core.web import notices, permalinks

pytest_plugins = ["visits"]
pytestmark = pytest.mark.slow
LIMITS = {"STAIRS_QUEUE": "1", "STAIRS_UPLOAD_MB": "0.01", "STAIRS_RUN_SECONDS": "4"}


def test_a_full_queue_a_run_too_long_and_a_file_too_large(
    browser: Browser, recorded, monkeypatch, tmp_path
):
    for name, value in LIMITS.items():
        monkeypatch.setenv(name, value)
    large = tmp_path / "large.jsonl"
    large.write_text("x" * 20_000)
    log = tmp_path / "log.txt"
    # All of the matrix, without a cache: slow enough for its time to be up.
    link = f"settings={permalinks.pack_settings({'length': 512, 'backend': 'matrix', 'k': 8})}"
    with browsing.serving(recorded, log, limit=240) as url:
        pages = [browser.new_context().new_page() for _ in range(4)]
        for page in pages:
            page.goto(f"{url}#{link}")
            ready(page)
            expect(page.locator("#max-new-tokens input[type=number]")).to_have_value("512")
        for page in pages:
            page.evaluate("document.querySelector('#run').click()")
        said = [page.locator("#notice .st-notice") for page in pages]
        for notice in said[2:]:
            expect(notice).to_have_text(notices.REFUSED)
        for notice in said[:2]:
            expect(notice).to_have_text(notices.late(4), timeout=LIVE)
        browsing.open_trace(pages[0], large)
        expect(pages[0].locator(".toast-wrap")).to_contain_text("exceed the maximum allowed size")
        for page in pages:
            page.context.close()
    assert "Set here: STAIRS_RUN_SECONDS, STAIRS_QUEUE, STAIRS_UPLOAD_MB" in log.read_text()
