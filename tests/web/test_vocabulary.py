"""What Python and the browser both say is written once, in Python."""

from __future__ import annotations

import json
from typing import get_args

from paths import ROOT

from stairs_core.render import labels
from stairs_core.settings.settings import BACKENDS
from stairs_core.traces.records import Status
from stairs_core.web import vocabulary


def test_every_status_and_backend_has_words():
    words = vocabulary.words()
    assert [*words["statuses"]] == [*get_args(Status)]
    assert {*words["backends"]} == {*BACKENDS} == {*labels.BACKENDS}


def test_the_script_is_data_that_cannot_end_its_element():
    script = vocabulary.script()
    start, data = script.split(" = ", 1)
    assert start == "(globalThis.Stairs ??= {}).words"
    assert json.loads(data.removesuffix(";")) == vocabulary.words()
    assert "<" not in script


def test_no_script_of_the_page_repeats_them():
    scripts = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "assets/page").rglob("*.js"))
    words = vocabulary.words()
    said = [*words["metrics"].values()]
    said += [text for backend in words["backends"].values() for text in backend.values()]
    said += [s[key] for s in words["statuses"].values() for key in ("card", "glossary")]
    assert [text for text in said if text in scripts] == []
