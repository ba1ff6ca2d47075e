"""The limits of a host: read from the environment, refused in a sentence, told in one table."""

from __future__ import annotations

import re
from dataclasses import fields, replace

import pytest
from paths import ROOT

from stairs_core.errors import InputError
from stairs_core.settings import limits
from stairs_core.settings.limits import Limits

SPACE = {"SPACE_ID": "some/space"}


def test_a_space_is_guarded_and_an_owner_is_not():
    assert limits.read(SPACE) == Limits()
    assert limits.read({}) == replace(Limits(), **limits.AT_HOME)
    assert limits.read({"STAIRS_RUN_SECONDS": "20"}).run_seconds == 20


@pytest.mark.parametrize("field", fields(Limits), ids=lambda field: field.name)
def test_every_limit_has_a_variable(field):
    told, value = ("off", False) if field.default is True else ("1", type(field.default)(1))
    found = limits.read(SPACE | {limits.variable(field.name): f" {told} "})
    assert found == replace(Limits(), **{field.name: value})
    assert limits.SAYS[field.name]


@pytest.mark.parametrize(
    ("name", "told", "word"),
    [
        ("runs", "0", "must be a whole number above 0"),
        ("runs", "1.5", "must be a whole number above 0"),
        ("queue", "-3", "must be a whole number above 0"),
        ("upload_mb", "nan", "must be a number above 0"),
        ("run_seconds", "-1", "must be a number of 0 (no limit) or more"),
        ("visitor_requests", "many", "must be a whole number of 0 (no limit) or more"),
        ("uploads", "perhaps", "must be on or off"),
    ],
)
def test_what_is_no_limit_is_refused_by_its_name(name, told, word):
    with pytest.raises(InputError) as e:
        limits.read({limits.variable(name): told})
    assert str(e.value) == f"{limits.variable(name)} is {told!r}: it {word}."


def test_a_run_beyond_the_limits_is_one_sentence():
    allowed = replace(Limits(), max_tokens=8, max_prompt=5)
    allowed.check("12345", 8)
    with pytest.raises(InputError, match="8 tokens at most on this page, and 9 were asked for"):
        allowed.check("", 9)
    with pytest.raises(InputError, match="prompt has 6 characters, and 5 are the most"):
        allowed.check("123456", 8)
    replace(allowed, max_prompt=0).check("a" * 10**6, 8)


def test_the_page_on_hosting_has_the_table():
    text = (ROOT / "stairs_core" / "web" / "README.md").read_text(encoding="utf-8")
    (body,) = re.findall(r"^\| variable \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    rows = [f"| `{v}` | {says} | {space} | {own} |" for v, says, space, own in limits.table()]
    assert body.splitlines() == rows


def test_the_table_has_every_variable_that_the_program_reads():
    sources = [ROOT / "app.py", *(ROOT / "stairs_core").rglob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    read = set(re.findall(r"environ(?:ment)?(?:\.get\(|\[)\"(\w+)\"", text))
    ours = {n for n in read if n.startswith(("STAIRS_", "GRADIO_SERVER")) or n in ("HOST", "PORT")}
    assert len(ours) >= 8
    assert ours <= {row[0] for row in limits.table()}


def test_one_line_tells_what_is_in_force():
    set_ = {"STAIRS_RUNS": "2", "STAIRS_UPLOADS": "off"}
    line = limits.line(limits.read(set_), set_)
    assert "\n" not in line
    assert "runs 2" in line
    assert "uploads off" in line
    assert "Set here: STAIRS_RUNS, STAIRS_UPLOADS;" in line
    assert "max_prompt" not in line, "there is none at home"
    assert "max_prompt 20000" in limits.line(Limits(), {})
