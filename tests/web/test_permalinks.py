"""Permalinks: what was packed comes back, and a link from anybody does no harm."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import zlib
from dataclasses import replace

import page_runs
import pytest
from recordings import head, recording

from stairs_core.errors import InputError
from stairs_core.settings.sampling import Sampling
from stairs_core.settings.settings import AUTO
from stairs_core.traces import files
from stairs_core.web import form, permalinks, widgets


def packed(data: bytes) -> str:
    return base64.urlsafe_b64encode(zlib.compress(data)).decode().rstrip("=")


def refused(text: str) -> str:
    with pytest.raises(InputError) as caught:
        permalinks.unpack(text)
    told = str(caught.value)
    assert "\n" not in told
    assert told.endswith(".")
    assert len(told) < 200
    return told


@pytest.mark.parametrize("text", ["", " é 🦊", "\ud83d", "</script>\x00\u2028", "${x} #&=+%"])
def test_a_short_run_fits_into_a_link_and_comes_back(text):
    made = [recording(text), replace(recording(), run=head(prompt=text))]
    link = permalinks.pack(made)
    assert link
    assert len(link) <= permalinks.MOST
    assert set(link) <= {*"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"}
    assert permalinks.unpack(link) == made


def test_a_race_of_96_tokens_fits_and_a_long_one_does_not():
    words = page_runs.words(page_runs.STORY)
    assert permalinks.pack(page_runs.pair(words[:96]))
    noise = random.Random(0)
    long = [f" {noise.getrandbits(64):x}" for _ in range(3000)]
    assert permalinks.pack(page_runs.pair(long)) is None


def test_a_damaged_link_is_refused_in_one_sentence():
    whole = permalinks.pack(page_runs.pair(page_runs.words(page_runs.STORY)[:20]))
    assert whole
    for text in ("", "a b", "é", "====", "%%%", whole + "!", "A", whole[:-8], whole[:40]):
        assert "copy the whole link again" in refused(text)
    refused(whole + "AAAA")
    noise = random.Random(1)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for _ in range(300):
        i = noise.randrange(len(whole))
        broken = whole[:i] + noise.choice(alphabet) + whole[i + 1 :]
        try:
            permalinks.unpack(broken)
        except InputError:
            refused(broken)
        refused("".join(noise.choice(alphabet) for _ in range(noise.randrange(1, 80))))
    assert "not a Stairs trace" in refused(packed(b"hello"))
    assert "empty" in refused(packed(b""))
    assert "not UTF-8" in refused(packed(b"\xff\xfe"))
    assert "not a JSON object" in refused(packed(b"[" * 100_000))


def test_a_bomb_goes_off_no_further_than_a_trace_may_be_long():
    import tracemalloc

    bomb = packed(b" " * (1 << 29))
    tracemalloc.start()
    assert "20 MB" in refused(bomb)
    assert tracemalloc.get_traced_memory()[1] < 4 * files.MAX_BYTES
    tracemalloc.stop()


def usual() -> dict:
    """What the widgets hold when the page opens."""
    found, waiting = {}, widgets.layout([], {})
    while waiting:
        widget = waiting.pop()
        found[widget.name] = widget.options.get("value")
        waiting += widget.inside
    return {name: found[name] for name in form.ASKED}


def test_settings_of_a_race_ask_for_its_lanes_again(tmp_path):
    asked = {"backend": "single", "max_new_tokens": 40, "prompt": "A fox"}
    dice = Sampling(0.8, top_p=0.9, seed=11, rule="coupled")
    runs = [
        head(**asked, drafter="none", sampling=dice),
        head(**asked, k=7, sampling=dice),
        head(**asked, drafter="lookup", sampling=dice, **AUTO),
    ]
    values = permalinks.settings_of(runs[0], runs[1:])
    assert json.loads(json.dumps(values)) == values == permalinks.checked(values)
    assert {*values} <= {*form.ASKED}
    made = [*form.settings(usual() | values, tmp_path).values()]
    assert [(s.drafter, s.k, s.length) for s in made] == [
        ("model", 7, "constant"), ("lookup", 16, "cost"),
    ]  # fmt: skip
    for settings in made:
        assert settings.sampling == dice
        assert (settings.backend, settings.max_new_tokens) == ("single", 40)
    assert values["drafter-3"] is None
    greedy = permalinks.settings_of(head(), [])
    assert form.settings(usual() | {"temperature": 1.0} | greedy, tmp_path)


@pytest.mark.parametrize("text", ["x" * 17_000, "ж" * 8000, "字" * 5500, "\ud83d é 🦊\x00"])
def test_settings_come_back_from_their_link_whatever_the_prompt_is_written_in(text):
    address = permalinks.keep([replace(recording(), run=head(prompt=text))], "live", "")["settings"]
    kind, value = permalinks.read(address)
    assert kind == "settings"
    assert permalinks.unpack_settings(value)["prompt"] == text
    held = permalinks.settings_of(head(prompt=text), [])
    before = base64.urlsafe_b64encode(json.dumps(held).encode()).decode().rstrip("=")
    assert permalinks.unpack_settings(before) == held, "links of earlier versions stay good"


@pytest.mark.parametrize("text", ["x" * 18_500, "字" * 6500])
def test_settings_that_are_too_long_for_a_link_have_none(text):
    lane = replace(recording(), run=head(prompt=text))
    assert permalinks.keep([lane], "live", "")["settings"] == ""


def test_only_known_widgets_and_right_kinds_are_taken():
    assert permalinks.checked({
        "prompt": "x", "k": 3, "auto": True, "temperature": 0.5, "drafter-2": None, "seed": 1,
        "files": ["/etc/passwd"], "stage": {}, "open": "x", "__proto__": 1, "run": True,
        "length": "9", "k-2": True, "top_p": float("nan"), "min_p": float("inf"), "top_k": 10**400,
        "chat": 1, "strict": "yes", "drafter": None, "drafter-3": "evil", "backend": ["single"],
        "pasted": {"a": 1}, 5: 6,
    }) == {
        "prompt": "x", "k": 3, "auto": True, "temperature": 0.5, "drafter-2": None, "seed": 1,
    }  # fmt: skip
    for no in (None, [], "x", 3, [{}]):
        with pytest.raises(InputError, match="settings in the link are damaged"):
            permalinks.checked(no)


def test_whatever_a_link_sets_a_run_is_asked_for_or_refused_in_a_sentence(tmp_path):
    noise = random.Random(2)
    pool = [
        None,
        True,
        -1,
        0,
        5,
        10**9,
        0.5,
        -2.5,
        "",
        "model",
        "tree",
        "single",
        "a\ud800",
        [],
        {},
    ]
    for _ in range(2000):
        held = permalinks.checked({name: noise.choice(pool) for name in form.ASKED})
        with contextlib.suppress(InputError):
            assert len(form.settings(usual() | held, tmp_path)) <= len(form.GUESSERS)
