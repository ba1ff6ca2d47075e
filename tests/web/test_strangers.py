"""Strangers: whatever they send, nothing of theirs runs, and nothing of the host's is touched.

Two hundred bad inputs are sent always, and two thousand with ``--slow``: see ``helpers/strangers``.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import browsing
import httpx
import page_runs
import pytest
import strangers
from paths import ROOT
from playwright.sync_api import expect
from tiny_models import make_model, perturb, save_pair

from stairs_core.errors import InputError
from stairs_core.traces import files
from stairs_core.web import notices, permalinks, stage_value

pytest_plugins = ["visits"]
ALWAYS, ALL, CHUNK = 200, 2000, 200
CHUNKS = [
    pytest.param(start, marks=[pytest.mark.slow] if start >= ALWAYS else [])
    for start in range(0, ALL, CHUNK)
]
SHOWN = re.compile(r"Traceback|File \\?\"|site-packages|\.py\b")
MARK = re.compile(r"mark[0-9a-f]{9,15}-")
WRITES = re.compile(r"[wax+]")


@dataclass
class Served:
    """The page: its ``address``, and the folders that are its ``own``. ``secret``: a file that is
    not. ``touched``: what it has opened since its start, a line each."""

    address: str
    home: Path

    @property
    def secret(self) -> str:
        return str(self.home / "secret" / "canary.txt")

    def touched(self) -> list[list[str]]:
        return [line.split("\t") for line in (self.home / "touched").read_text().splitlines()]

    def log(self) -> str:
        return (self.home / "log").read_text()


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    """As a host serves it who allows strangers most: any model of the hub."""
    home = tmp_path_factory.mktemp("strangers")
    for name in ("own", "traces", "secret"):
        (home / name).mkdir()
    (home / "secret" / "canary.txt").write_text(strangers.CANARY)
    target = make_model(layers=2)
    pair = save_pair(home / "pair", target, perturb(target))
    files.write(home / "traces" / "a-fox.jsonl", page_runs.pair())
    more = {"TMPDIR": str(home / "own"), "STAIRS_TOUCHED": str(home / "touched")}
    more |= {"STAIRS_MODELS": "hub", "STAIRS_VISITOR_REQUESTS": "100000"}
    with browsing.serving(
        home / "traces", home / "log", str(pair), 180, before=strangers.WATCH, **more
    ) as address:
        page = Served(address, home)
        with strangers.Caller(address) as caller:
            caller.call("run.click", {"max-new-tokens": 8})  # all is imported then
        yield page


@pytest.mark.parametrize("start", CHUNKS)
def test_bad_inputs_do_no_harm(served, start):
    """Each is refused in a sentence, or done; none is answered by a traceback, a path, or what
    another sent; and meanwhile nothing but the program's own folders was touched."""
    before, log = len(served.touched()), served.log().count("Traceback")
    inputs = [strangers.bad(seed, served.secret) for seed in range(start, start + CHUNK)]
    with strangers.Caller(served.address) as caller, ThreadPoolExecutor(3) as threads:
        answers = [*threads.map(caller.send, inputs)]
    for one, answer in zip(inputs, answers, strict=True):
        _check(one, answer, served)
    marks = [set(MARK.findall(answer.raw)) for answer in answers]
    assert sum(map(len, marks)) == len(set.union(*marks)) > CHUNK / 20
    assert _strange(served, before) == []
    # Of what gradio itself refuses, the visitor hears that it went wrong, and the host's log why.
    assert served.log().count("Traceback") - log == sum(not answer.ended for answer in answers)


def _check(one: strangers.Bad, answer: strangers.Answer, served: Served) -> None:
    assert answer.status < 500, one
    assert strangers.CANARY not in answer.raw, one
    assert answer.ended or '"error":null' in answer.raw, (one, answer.raw[-500:])
    for said in answer.said if answer.status == 200 else [answer.raw]:
        assert not SHOWN.search(said), (one, said)
        assert not {str(ROOT), sys.prefix, str(served.home)} & {*re.findall(r"/[^\s:'\"]*", said)}
        assert str(served.home / "own") not in said, (one, said)
        assert "\n" not in said.strip() or answer.status != 200, (one, said)


def _strange(served: Served, before: int) -> list[list[str]]:
    """What was touched since, but for reading the program and writing to its own folder."""
    read = (ROOT, sys.prefix, sys.base_prefix, "/proc", "/sys", "/dev", served.home / "traces")
    read += (served.home / "pair", *map(Path.resolve, map(Path, (sys.prefix, sys.base_prefix))))
    found = []
    for event, path, *more in served.touched()[before:]:
        place = Path(path.removeprefix("b").strip("'\""))
        if place.is_absolute() and place.is_relative_to(served.home / "own"):
            continue
        looks = event in ("os.listdir", "os.scandir")
        looks |= event == "open" and not WRITES.search(more[0].replace("None", ""))
        if looks and (not place.is_absolute() or any(place.is_relative_to(p) for p in read)):
            continue
        if event in ("os.remove", "os.rmdir") and not place.is_absolute():
            continue  # in the folder that is being removed, which was named before
        found.append([event, path, *more])
    return found


def test_one_visitor_sees_nothing_of_another(served):
    """Files of a run are served under a hash of what they hold, and no folder is listed."""
    with strangers.Caller(served.address) as caller:
        _see_nothing(served, caller)


def _see_nothing(served: Served, caller: strangers.Caller) -> None:
    lanes = strangers.hostile_lanes(random.Random("one"))
    data = files.dumps(lanes).encode("utf-8", "backslashreplace")
    mine = caller.send(strangers.Bad("", "trace-open.upload", {}, ("mine.jsonl", data)))
    (mark,) = set(MARK.findall(mine.raw))
    saved = {path for path in re.findall(r'"path": ?"([^"]+)"', mine.raw) if "mine" in path}
    assert saved
    for event in (".load", "drafter.change", "recorded.input"):
        assert mark not in caller.call(event, {}).raw
    for path in map(Path, saved):
        assert re.fullmatch(r"[0-9a-f]{64}", path.parent.name), path
        assert _got(served, path) == 200
        other = path.parent.with_name("0" * 64) / path.name
        made = served.home / "own"
        for place in (path.parent, path.parent.parent, made, other, *made.glob("stairs-*/*")):
            assert _got(served, place) in (403, 404), place


def _got(served: Served, path: Path) -> int:
    return httpx.get(f"{served.address}/gradio_api/file={path}").status_code


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (InputError("There is no folder /srv/secret/models/x: check it."), "no folder x: check"),
        (InputError("See https://a.co/a/b, or a/b."), "See https://a.co/a/b, or a/b."),
        (InputError("~root/x/y and C:\\Users\\me\\z are gone."), "y and z are gone."),
        (OSError(13, "Permission denied", "/srv/secret/t"), "denied: 't')."),
    ],
)
def test_a_refusal_names_no_path(monkeypatch, error, shown):
    monkeypatch.setenv("STAIRS_MODELS", "presets")
    said = notices.sentence(error, "It failed")
    assert shown in said
    assert "secret" not in said
    monkeypatch.setenv("STAIRS_MODELS", "any")  # whose folders they are
    assert ("secret" in notices.sentence(error, "It failed")) == ("secret" in str(error))


SEEDS = range(ALWAYS)
DRAW = """([values, said]) => {
    globalThis.hits = 0;
    globalThis.pwned = () => { hits += 1; };
    const node = () => document.body.appendChild(document.createElement("div"));
    for (const value of values) Stairs.mountReplay(node(), value);
    const watch = () => {};
    for (const text of said) {
        Stairs.mountNotice(node(), { value: { kind: "error", text } }, watch);
        const card = { headline: text, rows: [[text, text]], warnings: [text] };
        Stairs.mountPreflight(node(), { value: card }, watch);
        Stairs.mountHead(node(), { value: [text] }, watch);
    }
    return document.body.innerText;
}"""


def test_nothing_of_theirs_runs_in_a_browser(served, browser):
    """Every trace that can be opened, and every hostile text, drawn by the page's own scripts; and
    links opened as a visitor would who was sent one."""
    values = [*_stages()]
    assert len(values) > 15
    page = browser.new_page()
    dialogs: list[str] = []
    page.on("dialog", lambda d: (dialogs.append(d.message), d.dismiss()))
    links = [one.data["link"] for one in map(_bad, SEEDS) if "link" in one.data]
    words = [x for x in links if isinstance(x, str) and "pwned" in x or "settings=" in str(x)]
    for link in words[:3]:
        page.goto("about:blank")
        page.goto(f"{served.address}/#{link}")
        expect(page.locator(".st-source")).not_to_be_empty(timeout=browsing.LIVE)
    text = page.evaluate(DRAW, [values, [*strangers.SCRIPTS, *strangers.ODD[:8]]])
    assert text.count("<script>pwned()</script>") >= len(strangers.SCRIPTS[:1])
    page.wait_for_timeout(200)  # images that fail do so a moment later
    assert (page.evaluate("hits"), dialogs) == (0, [])
    page.close()


def _bad(seed: int) -> strangers.Bad:
    return strangers.bad(seed, "/nowhere/canary.txt")


def _stages() -> Iterator[dict]:
    """What the stage is given for each of the inputs that is a trace after all."""
    for one in map(_bad, SEEDS):
        try:
            if one.file:
                lanes = files.decode(one.file[1], one.file[0])
                yield stage_value.value(f"r{len(one.file[1])}", lanes, "file", one.file[0])
            elif "link" in one.data:
                kind, packed = permalinks.read(str(one.data["link"]))
                if kind == "trace":
                    yield stage_value.value("r", permalinks.unpack(packed), "link", "a link")
        except InputError:
            continue


@pytest.mark.parametrize(
    ("head", "token"),
    [
        ({}, {"probability": 7.5}),
        ({}, {"probability": -0.1}),
        ({}, {"draft_probability": 2.0}),
        ({}, {"rank": 0}),
        ({"k": -1}, {}),
        ({"max_new_tokens": -4}, {}),
        ({"max_new_tokens": 2**32}, {}),
    ],
)
def test_numbers_that_no_run_has_are_refused(head, token):
    _, lane = page_runs.pair()
    first, *rest = lane.steps
    tokens = (replace(first.tokens[0], **token), *first.tokens[1:])
    steps = (replace(first, tokens=tokens), *rest)
    odd = replace(lane, run=replace(lane.run, **head), steps=steps)
    with pytest.raises(InputError, match="is damaged: .* (a rank that none can have|is not from)"):
        files.loads(files.dumps([odd]))
    assert files.loads(files.dumps([lane])) == [lane]
