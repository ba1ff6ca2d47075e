"""Traces: what is written comes back, and whatever else a file holds is refused in one sentence."""

from __future__ import annotations

import errno
import json
import typing
from dataclasses import replace
from pathlib import Path

import pytest
from recordings import head, recording

from stairs_core.errors import InputError
from stairs_core.traces import files, from_json
from stairs_core.traces.records import Prices, Recording, Stop

HOSTILE = [
    "<script>alert(1)</script>",
    "${1+1} {{x}}",
    "line\nbreak\r\n\u2028\u2029\x85",
    "\x1b[31m\x00\x7f",
    "é 你好 🦊 שלום \u202e",
    "half a character: \ud83d",
    '"quoted" \\u0041',
    "",
]


def lines(*recordings: Recording) -> list[dict]:
    return list(files.events(recordings or [recording()]))


def dump(records: list[dict]) -> str:
    return "".join(json.dumps(r) + "\n" for r in records)


def refusal(text: str) -> str:
    with pytest.raises(InputError) as caught:
        files.loads(text, "x.jsonl")
    return sentence(caught.value)


def sentence(error: Exception) -> str:
    text = str(error)
    assert "\n" not in text
    assert text.endswith(".")
    assert len(text) < 200
    return text


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_trace_comes_back_as_it_was_written(tmp_path, text):
    lanes = [recording(text), replace(recording(text), run=head(name=text, prompt=text, chat=True))]
    file = tmp_path / "a.jsonl"
    files.write(file, lanes)
    assert files.read(file) == lanes
    # JSON Lines for any reader: one object a line, and nothing in a string ends one.
    assert len(file.read_bytes().split(b"\n")) == 2 * 4 + 1
    assert [json.loads(line)["lane"] for line in file.read_bytes().splitlines()] == [0] * 4 + [
        1
    ] * 4


def test_lanes_may_be_interleaved():
    a, b = lines(), [{**r, "lane": 1} for r in lines()]
    mixed = [r for pair in zip(a, b, strict=True) for r in pair]
    assert files.loads(dump(mixed)) == [recording(), recording()]


def test_a_lane_without_steps_comes_back():
    empty = Recording(head(), (), Stop("stopped", ""))
    assert files.loads(files.dumps([empty])) == [empty]


def test_unknown_fields_and_windows_line_ends_are_let_by():
    odd = dump([{**r, "later": [1]} for r in lines()]).replace("\n", "\r\n")
    assert files.loads(odd) == [recording()]


def test_committed_tokens_are_the_ones_in_the_text():
    first, last = recording().steps
    assert [t.id for t in first.committed] == [3, 5]
    assert [t.id for t in first.drafted] == [3, 4]
    assert [t.id for t in last.committed] == [0]


def test_a_file_cut_anywhere_is_refused(tmp_path):
    whole = files.dumps([recording()]).encode()
    file = tmp_path / "cut.jsonl"
    head_length = whole.index(b"\n")
    for size in range(len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(InputError) as caught:
            files.read(file)
        told = sentence(caught.value)
        assert "cut off" in told or size < head_length, (size, told)
    file.write_bytes(whole[:-1])
    assert files.read(file) == [recording()], "only the last line break is missing"


def test_a_file_that_is_no_trace_is_refused(tmp_path):
    file = tmp_path / "no.jsonl"
    for data, reason in {
        b"": "empty",
        b"\n \n": "empty",
        b"hello\n": "not a JSON object",
        b"\x89PNG\r\n": "not UTF-8",
        b"{}\n": "no run, step or stop",
        b"[1]\n": "no run, step or stop",
        b"null\n": "no run, step or stop",
        b'{"type": ["run"]}\n': "no run, step or stop",
        b"[" * 100_000: "not a JSON object",
    }.items():
        file.write_bytes(data)
        with pytest.raises(InputError, match=reason) as caught:
            files.read(file)
        assert "no.jsonl" in sentence(caught.value)


def test_a_file_that_cannot_be_read_or_written_is_refused(tmp_path):
    for path in (tmp_path / "missing.jsonl", tmp_path):
        with pytest.raises(InputError, match="cannot be read") as caught:
            files.read(path)
        sentence(caught.value)
    with pytest.raises(InputError, match="cannot be written") as caught:
        files.write(tmp_path, [recording()])
    sentence(caught.value)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path):
    file = tmp_path / "huge.jsonl"
    with file.open("wb") as f:
        f.truncate(50 * 2**20)
    with pytest.raises(InputError, match="50 MB") as caught:
        files.read(file)
    sentence(caught.value)


def test_a_newer_schema_is_refused_whatever_else_it_says():
    told = refusal(dump([{"type": "run", "lane": 0, "schema": 2, "name": ["changed"]}]))
    assert "newer Stairs (schema 2" in told


@pytest.mark.parametrize("field", ["lane", "prompt_ids", "draft", "k", "versions"])
def test_a_missing_field_is_named(field):
    run, *rest = lines()
    run = {k: v for k, v in run.items() if k != field}
    told = refusal(dump([run, *rest]))
    assert "damaged: line 1" in told
    assert field == "lane" or f"`{field}`" in told


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        (0, "k", "6"),
        (0, "k", True),
        (0, "k", 6.0),
        (0, "chat", 1),
        (0, "prompt", 5),
        (0, "prompt_ids", "12"),
        (0, "prompt_ids", [1, None]),
        (0, "versions", {"torch": 2}),
        (0, "schema", 0.5),
        (1, "elapsed", float("nan")),
        (1, "elapsed", float("inf")),
        (1, "elapsed", 10**400),
        (1, "elapsed", "0.1"),
        (1, "elapsed", 1e305),
        (1, "predictions", [{"id": 1, "text": "a", "margin": 1.7976931348623157e308}]),
        (0, "template", {"a": {"b": 1e300}}),
        (0, "template", {"a": json.loads("[" * 60 + "]" * 60)}),
        (1, "stop", "because"),
        (1, "tokens", [{"id": 1, "text": "a", "status": "guessed", "source": "x"}]),
        (1, "tokens", [1]),
        (3, "reason", None),
        (3, "text", ["a"]),
    ],
)
def test_a_wrong_type_is_refused(line, field, value):
    records = lines()
    records[line][field] = value
    told = refusal(dump(records))
    assert f"damaged: line {line + 1}" in told
    assert f"`{field}`" in told


@pytest.mark.parametrize(
    "change", [{"start": 3}, {"accepted": 3}, {"accepted": -1}, {"tokens": []}]
)
def test_a_step_that_contradicts_itself_is_refused(change):
    records = lines()
    records[1].update(change)
    assert "its step 0 contradicts itself" in refusal(dump(records))


def test_steps_out_of_order_are_refused():
    run, first, last, stop = lines()
    assert "contradicts itself" in refusal(dump([run, last, first, stop]))


def test_records_need_a_lane_that_is_open():
    run, first, last, stop = lines()
    assert "no lane" in refusal(dump([first]))
    assert "no lane" in refusal(dump([{**run, "lane": 1}]))
    assert "no lane" in refusal(dump([{**run, "lane": -1}]))
    assert "no lane" in refusal(dump([run, run]))
    assert "no lane" in refusal(dump([run, {**first, "lane": -1}]))
    assert "after its lane has ended" in refusal(dump([run, stop, first]))
    assert "cut off" in refusal(dump([run]))
    assert "cut off" in refusal(dump([run, first, last]))


def test_what_could_not_be_drawn_is_refused():
    """A small file can ask for more than a browser holds, or for numbers that it does not know."""
    whole = lines()
    step = next(r for r in whole if r["type"] == "step")
    many = {
        **step,
        "tokens": step["tokens"][:1] * 1030,
        "predictions": step["predictions"][:1] * 1030,
    }
    assert "contradicts itself" in refusal(dump([r if r is not step else many for r in whole]))
    heads = [{**whole[0], "lane": lane} for lane in range(65)]
    assert "more lanes than can be drawn" in refusal(dump(heads))
    assert "`k`" in refusal(dump([{**whole[0], "k": 10**400}, *whole[1:]]))
    hot = {**whole[0], "sampling": {"temperature": 99.0}}
    assert "x.jsonl is damaged: line 1" in refusal(dump([hot, *whole[1:]]))


WRONG_PRICES = [
    {"widths": [], "seconds": []},
    {"widths": [1, 1]},
    {"widths": [0, 1]},
    {"widths": [3, 2]},
    {"seconds": [1.0]},
    {"seconds": [0.0, 1.0]},
    {"draft": -1.0},
    {"seconds": [1e-320, 1.0]},
    {"seconds": [1.0, 1e7]},
    {"draft": 1e-10},
    {"draft": 1e300},
    {"widths": [*range(1, 34)], "seconds": [1.0] * 33},
]


@pytest.mark.parametrize("change", WRONG_PRICES, ids=str)
def test_prices_that_nothing_can_have_are_refused(change):
    good = Prices("single_kv", 100, (1, 2), (1.0, 1.5), 0.1)
    priced = replace(recording(), run=head(prices=(good,)))
    assert files.loads(files.dumps([priced])) == [priced]
    lines = files.dumps([priced]).splitlines()
    first = json.loads(lines[0])
    first["prices"][0] |= change
    with pytest.raises(InputError, match="line 1 has a wrong or missing `prices`"):
        files.loads("\n".join([json.dumps(first), *lines[1:]]) + "\n")


def dear(backend: str) -> dict:
    return {"backend": backend, "context": 1, "widths": [1], "seconds": [1.0], "draft": 0.0}


@pytest.mark.parametrize(
    ("line", "change", "words"),
    [
        (0, {"prices": [dear("single"), dear("single")]}, "`prices` are not of one known backend"),
        (0, {"prices": [dear("mine")]}, "`prices` are not of one known backend"),
        (0, {"prices": [dear(f"{i:x}") for i in range(9000)]}, "`prices` are not of one known"),
        (0, {"pair": ""}, "`pair` is empty"),
        (0, {"pair": ":" * 100_000}, "`pair` is empty or has more than 2000"),
        (0, {"target": ""}, "`target` is empty"),
        (0, {"draft": ""}, "`draft` is empty"),
        (0, {"name": "x" * 10**6}, "`name` is empty or has more than 200"),
        (2, {"elapsed": 2e9}, "no clock can time a step as its 1"),
        (2, {"verify_seconds": 5e-324}, "no clock can time a step as its 1"),
        (2, {"other_seconds": 2e9}, "no clock can time a step as its 1"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_what_no_run_can_have_is_refused(line, change, words):
    records = lines()
    records[line] |= change
    assert words in refusal(dump(records))


def test_a_token_as_long_as_a_book_is_refused():
    records = lines()
    records[1]["tokens"][0]["text"] = "x" * 10**6
    assert "a token of its step 0 is too long" in refusal(dump(records))


def test_what_is_left_over_of_a_step_may_be_next_to_nothing():
    records = lines()
    records[1] |= {"draft_seconds": 0.0, "other_seconds": 1e-17}
    assert files.loads(dump(records))[0].steps[0].other_seconds == 1e-17


def test_types_are_looked_up_once_and_not_for_every_token(monkeypatch):
    asked, hints = [], typing.get_type_hints
    monkeypatch.setattr(typing, "get_type_hints", lambda cls: asked.append(cls) or hints(cls))
    from_json._fields.cache_clear()
    assert files.loads(dump(lines())) == [recording()]
    assert len(asked) == len({*asked}) > 3


def test_a_step_tells_what_its_pass_read_besides():
    lane = recording()
    probing = replace(lane, steps=(replace(lane.steps[0], probe=6), lane.steps[1]))
    text = files.dumps([probing])
    assert text.count('"probe"') == 1, "only where there is any"
    assert files.loads(text) == [probing]
    for wrong in ("-1", "1e9", "5000"):
        with pytest.raises(InputError, match="damaged"):
            files.loads(text.replace('"probe": 6', f'"probe": {wrong}'))


def test_a_file_is_written_whole_or_not_at_all_and_a_link_stays_a_link(tmp_path, monkeypatch):
    path, link = tmp_path / "mine.jsonl", tmp_path / "link.jsonl"
    path.write_bytes(b"before")
    link.symlink_to(path)

    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as bad:
        bad.setattr(Path, "write_bytes", full)
        with pytest.raises(InputError, match="No space left on device"):
            files.write_whole(path, b"after", "trace")
    assert path.read_bytes() == b"before"
    files.write_whole(link, b"after", "trace")
    assert link.is_symlink()
    assert path.read_bytes() == b"after"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.jsonl", "mine.jsonl"]
