"""What a page hands over when it opens anew: it comes from a browser, so it may be anything."""

from __future__ import annotations

import json

import page_runs
import pytest
from page_form import VISITOR

from stairs_core.traces import files
from stairs_core.web import handlers, live_race, notices, permalinks, resume


@pytest.fixture(autouse=True)
def shelf(monkeypatch):
    """One that has only the pair ``here``."""

    class Shelf:
        has = staticmethod(lambda spec: spec == "here")

    monkeypatch.setattr(live_race, "shelf", Shelf)
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.setenv("STAIRS_PAIR", "here")


def opened(held: object, run: object = None) -> dict:
    link = resume.KEPT + json.dumps({"held": held, "run": run})
    return handlers.open_link({"link": link, "visitor": VISITOR})


def test_the_form_and_a_long_run_come_back():
    lanes = page_runs.pair(page_runs.words(page_runs.STORY) * 9)
    assert permalinks.pack(lanes) is None  # too long for a link
    run = {"kind": "file", "name": "mine.jsonl", "trace": files.dumps(lanes)}
    told = opened({"prompt": "A key", "length": 32, "drafter": "lookup"}, run)
    assert (told["prompt"]["value"], told["length"]["value"]) == ("A key", 32)
    assert "“mine.jsonl”" in told["stage"]["source"]["text"]
    assert files.read(told["download"]["value"]) == lanes
    assert told["notice"] == notices.notice(notices.BACK, "wait")
    name = next(iter(handlers.recorded()))
    again = opened({}, {"kind": "recorded", "name": name, "trace": ""})
    assert again["recorded"]["value"] == name
    assert again["stage"]["trace"]


def test_a_pair_that_is_no_longer_loaded_and_files_are_asked_for_again():
    told = opened({"preset": "qwen3", "files": ["/somewhere/notes.txt"]})
    assert "spec" not in told
    assert told["notice"]["text"] == f"{notices.BACK} {notices.OTHER_PAIR} {notices.NO_FILES}"
    assert "/somewhere" not in str(told)
    there = opened({"preset": "here"})
    assert there["spec"] == "here"
    assert there["notice"]["text"] == notices.BACK


@pytest.mark.parametrize("held", [None, [], 3, "text", {"prompt": 7, "k": "x", "nonsense": {}}])
@pytest.mark.parametrize(
    "run", [None, 3, {"kind": [], "trace": "{"}, {"trace": "x" * 9, "name": 2}]
)
def test_what_is_damaged_is_one_sentence_or_left_out(held, run):
    told = opened(held, run)
    assert "stage" not in told
    assert told["notice"]["text"].endswith((".", ";"))
    assert "prompt" not in told
    (notice,) = handlers.open_link({"link": resume.KEPT + "[" * 100_000}).values()
    assert notice["text"] == "What the page had kept is damaged: begin anew."
