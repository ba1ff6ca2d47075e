"""A replay is one file: it opens from a disk, asks for nothing, and shows what the page shows."""

from __future__ import annotations

import re
from dataclasses import replace

import page_runs
import pytest
from playwright.sync_api import expect
from recordings import head, recording

from stairs_core.cli import main
from stairs_core.errors import InputError
from stairs_core.traces import files
from stairs_core.traces.records import Recording, Stop
from stairs_core.web import replay

pytest_plugins = ["visits"]
ATTACK = "</script><script>alert(1)</script><!--<script>${1+1}{{x}}\u2028\u2029\x00\u202e\ud83d&lt;"


@pytest.fixture
def opened(browser, tmp_path):
    """Opens a replay from the disk. Afterwards: no request but the file's own, no console error."""
    troubles: list[str] = []
    contexts = []

    def open_replay(recordings, title="a fox", **options):
        file = tmp_path / "replay.html"
        replay.write(file, recordings, title)
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: m.type in ("error", "warning") and troubles.append(m.text))
        page.on("pageerror", lambda e: troubles.append(str(e)))
        page.on("dialog", lambda d: (troubles.append(f"dialog: {d.message}"), d.dismiss()))
        page.on("request", lambda r: r.url == file.as_uri() or troubles.append(r.url))
        page.goto(file.as_uri())
        return page

    yield open_replay
    for context in contexts:
        context.close()
    assert troubles == []


def long_race() -> list[Recording]:
    words = page_runs.words(page_runs.STORY)
    texts = [words[i % len(words)] for i in range(200)]
    return page_runs.pair(texts)


def test_a_race_of_200_tokens_is_under_a_megabyte_and_opens_from_disk(opened, tmp_path):
    race = long_race()
    page = opened(race)
    assert (tmp_path / "replay.html").stat().st_size < 1_000_000
    expect(page).to_have_title("a fox · Stairs")
    expect(page.locator("#verdict")).to_contain_text("Same text: yes, all 200 tokens.")
    expect(page.locator(".st-source")).to_contain_text("“a fox”")
    page.locator(".st-scrub").focus()
    page.keyboard.press("Home")
    steps = len(race[1].steps)
    last = page.locator(".st-scrub").get_attribute("max")
    assert last == str(steps - 1), "the same cursor positions as on the page"
    page.keyboard.press("ArrowRight")
    expect(page.locator(".st-scrub")).to_have_value("1")
    page.keyboard.press("End")
    expect(page.locator(".st-scrub")).to_have_value(last)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_theme_of_the_system(opened, scheme):
    page = opened(page_runs.pair(), color_scheme=scheme)
    expect(page.locator("#verdict")).to_contain_text("Same text: yes")
    assert page.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")
    page.emulate_media(color_scheme="dark")
    expect(page.locator("body")).to_have_class("dark")  # nothing may be evaluated there


def test_hostile_text_is_drawn_as_text(opened):
    texts = [*page_runs.words(page_runs.STORY)[:9], *page_runs.HOSTILE, ATTACK, "end"]
    race = [
        replace(lane, run=replace(lane.run, name=f"{lane.run.name} {ATTACK}", prompt=ATTACK))
        for lane in page_runs.pair(texts, k=4)
    ]
    page = opened(race, ATTACK)
    expect(page.locator("#verdict")).to_contain_text("Same text: yes")
    assert page.evaluate("document.querySelectorAll('img, iframe, #stage script').length") == 0
    shown = page.locator("#stage").inner_text()
    assert "</script><script>alert(1)</script>" in shown
    assert "${1+1}" in shown
    assert "{{x}}" in shown


def test_without_scripts_the_text_is_there(opened):
    written = Stop("eos", f" & {ATTACK}")
    lanes = [replace(recording(), run=head(prompt="A <b>fox</b>\n"), stop=written)]
    page = opened(lanes, java_script_enabled=False)
    expect(page.locator("noscript pre")).to_contain_text("A <b>fox</b>")
    expect(page.locator("noscript pre")).to_contain_text("& </script><script>alert(1)")


def test_the_file_holds_no_address_of_another_host_and_allows_none(tmp_path):
    text = replay.html(long_race(), ATTACK)
    assert "default-src 'none'" in text
    around = re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    assert not re.search(r"(src|href)\s*=|url\(|@import", around)
    assert text.count("</script>") == text.count("<script>")
    assert text.encode("utf-8")


def test_show_writes_it_whole_or_not_at_all(tmp_path, capsys):
    trace, file = tmp_path / "race.jsonl", tmp_path / "replay.html"
    files.write(trace, page_runs.pair())
    file.write_text("old")
    assert main.main(["show", str(trace), "--html", str(file)]) == 0
    assert capsys.readouterr() == ("", "")
    assert file.read_text().startswith("<!doctype html>")
    assert "<title>race.jsonl · Stairs</title>" in file.read_text()
    for bad in (tmp_path, tmp_path / "none" / "x.html"):
        assert main.main(["show", str(trace), "--html", str(bad)]) == 2
        said = capsys.readouterr().err
        assert said.startswith("The replay cannot be written to")
        assert said.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["race.jsonl", "replay.html"]
    with pytest.raises(InputError, match="cannot be written"):
        replay.write(tmp_path / ("x" * 300), page_runs.pair(), "x")
