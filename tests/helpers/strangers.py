"""Bad inputs, each made of its seed alone; and a page that notes all that it touches."""

from __future__ import annotations

import base64
import json
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import page_runs

from stairs_core.traces import files
from stairs_core.traces.records import Recording

CANARY = "canary-7f3a"
"""What the file holds that no input may lead to."""
SCRIPTS = (
    "<script>pwned()</script>",
    "<img src=x onerror=pwned()>",
    "</script><script>pwned()</script>",
    "</title></style><svg onload=pwned()>",
    "${pwned()}",
    "{{pwned()}}",
    "`+pwned()+`",
    "javascript:pwned()",
    "<a href='javascript:pwned()'>x</a>",
    "\u2028\u2029<!--<script>pwned()",
    "'\"><iframe srcdoc='<script>parent.pwned()</script>'>",
)
ODD = (
    *("", " ", "\x00", "\ud83d", "\udc00\ud800", "\u202egnp", "e" + "\u0301" * 500),
    *("\x1b[31m\x1b]0;t\x07", "x" * 30_000, "\n" * 3000, "\U0001f469\u200d\U0001f467" * 200),
    *("NaN", "1e999", "%s%n", "\ufeff", "\x7f\x85\r", "__import__('os').system('id')"),
    *("{{ self.__init__.__globals__ }}", "#settings=&step=1e9"),
)
BOMB = zlib.compress(b" " * 30_000_000, 1)
# What the page's server runs first: it notes all that it opens, starts or connects to.
WATCH = """
import os, sys
_noted = os.open(os.environ["STAIRS_TOUCHED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_ONES = {"open", "subprocess.Popen", "pickle.find_class", "socket.connect"}
_ONES |= {f"os.{n}" for n in "listdir scandir mkdir rename remove rmdir link symlink chmod".split()}
_ONES |= {f"os.{n}" for n in "chown truncate exec system posix_spawn fork spawn".split()}
def _note(event, args):
    if event in _ONES and not (args and isinstance(args[0], int)):
        told = [ascii(os.fspath(a) if hasattr(a, "__fspath__") else a) for a in args[:3]]
        os.write(_noted, "\\t".join([event, *told]).encode()[:999] + b"\\n")
sys.addaudithook(_note)
"""


@dataclass(frozen=True)
class Bad:
    """``event``: the element and what happens to it, or "post". ``data``: values by elements;
    for "post": path, headers and body. ``file``: name and content, uploaded for the element."""

    kind: str
    event: str
    data: dict[str, Any] = field(default_factory=dict)
    file: tuple[str, bytes] | None = None


def bad(seed: int, secret: str) -> Bad:
    """``secret``: the path of a file that must not be read."""
    dice = random.Random(seed)
    kinds = 3 * (_trace, _settings, _address) + (_upload, _upload, _prompt)
    return kinds[seed % len(kinds)](dice, secret)


def text(dice: random.Random, secret: str) -> str:
    paths = (secret, f"../../../../{secret}", "/etc/passwd", f"file://{secret}", "a/..:../b")
    paths += (f"{secret}\x00.txt", f"{secret}:{secret}", "~/.ssh/id_rsa", "http://127.0.0.1:1/x")
    pool = dice.choice((SCRIPTS, ODD, paths))
    found = dice.choice(pool)
    return found + dice.choice(SCRIPTS) if dice.random() < 0.2 else found


def anything(dice: random.Random, secret: str, deep: int = 0) -> Any:
    """A value of any type that JSON can hold."""
    if deep < 3 and dice.random() < 0.25:
        inner = [anything(dice, secret, deep + 1) for _ in range(dice.randrange(4))]
        return inner if dice.random() < 0.5 else {text(dice, secret): v for v in inner}
    return dice.choice(
        [
            *(None, True, False, 0, -1, 1.5, 2**63, -(10**300), 1e308, float("nan"), float("inf")),
            *([], {}, [[[[[[]]]]]], [0] * 500, "0", "True", "none", "model", text(dice, secret)),
            forged(secret),
            forged(f"{secret}/.."),
            forged("/etc/passwd", url="http://127.0.0.1:1/x"),
            [forged(dice.choice((secret, "/proc/self/environ", "app.py", "")))],
            text(dice, secret),
        ]
    )


def forged(path: str, **more: str) -> dict[str, Any]:
    """What a browser sends for a file that it has uploaded."""
    return {"path": path, "orig_name": "x.txt", "meta": {"_type": "gradio.FileData"}, **more}


def _prompt(dice: random.Random, secret: str) -> Bad:
    value = text(dice, secret) if dice.random() < 0.7 else anything(dice, secret)
    drafter = dice.choice(("model", "lookup", "suffix"))
    return Bad("prompt", "run.click", {"prompt": value, "drafter": drafter, "max-new-tokens": 8})


FIELDS = (
    *("prompt", "drafter", "k", "auto", "backend", "strict", "drafter-2", "k-2", "backend-2"),
    *("max-new-tokens", "temperature", "top-p", "top-k", "min-p", "repetition-penalty", "seed"),
    *("same", "chat", "system", "options", "pasted", "files"),
)


def _settings(dice: random.Random, secret: str) -> Bad:
    if dice.random() < 0.3:
        what = text if dice.random() < 0.7 else anything
        name = dice.choice(("model-own", "model-preset"))
        return Bad("settings", "model-load.click", {name: what(dice, secret)})
    if dice.random() < 0.1:
        return Bad("settings", "recorded.input", {"recorded": anything(dice, secret)})
    changed = {n: anything(dice, secret) for n in dice.sample(FIELDS, dice.randrange(1, 4))}
    event = dice.choice(("run.click", "drafter.change", "drafter.change"))
    return Bad("settings", event, {"max-new-tokens": 8, **changed})


def hostile_lanes(dice: random.Random) -> list[Recording]:
    """A race whose texts are scripts, and hold a mark that no other has."""
    words = [f" mark{dice.getrandbits(60):x}-", *page_runs.words(page_runs.STORY)]
    words = words[: dice.randrange(8, 40)]
    for _ in range(6):
        words.insert(dice.randrange(len(words)), dice.choice((*SCRIPTS, *ODD[:8])))
    return page_runs.pair(words, k=dice.randrange(1, 9))


def _trace(dice: random.Random, secret: str) -> Bad:
    lines = files.dumps(hostile_lanes(dice)).strip("\n").split("\n")
    for _ in range(max(0, dice.randrange(4) - 1)):
        at = dice.randrange(len(lines))
        lines[at] = json.dumps(_changed(dice, secret, json.loads(lines[at])))
    data = "\n".join(lines).encode("utf-8", "backslashreplace")
    how = dice.randrange(12)
    if how == 0:
        data = data[: dice.randrange(len(data))]
    elif how == 1:
        at = dice.randrange(len(data))
        data = data[:at] + dice.randbytes(8) + data[at:]
    elif how == 2:
        data = dice.choice((b"[" * 100_000, b'{"type": "run", "x": ' + b"[" * 5000, b"9" * 10**5))
    elif how == 3:
        data = dice.choice((b"", b"\x00" * 5000, b"\xff\xfe" + b"\x00\xd8" * 99, BOMB))
    elif how == 4:
        log = f"SpecDecoding metrics: Mean acceptance length: nan, Accepted: {10**30} tokens"
        data = (log + dice.choice(SCRIPTS) + "\n").encode() * dice.randrange(1, 200)
    name = dice.choice(("t.jsonl", "../../t.jsonl", "a\x00b", f"{SCRIPTS[1]}.jsonl"))
    return Bad("trace", "trace-open.upload", {}, (name, data))


def _changed(dice: random.Random, secret: str, record: Any) -> Any:
    """``record`` with one leaf, somewhere in it, in another's place."""
    if not isinstance(record, dict | list) or not record or dice.random() < 0.2:
        return anything(dice, secret)
    key = dice.choice(list(record) if isinstance(record, dict) else range(len(record)))
    if isinstance(record, dict) and dice.random() < 0.1:
        return {k: v for k, v in record.items() if k != key}
    record[key] = _changed(dice, secret, record[key])
    return record


def _upload(dice: random.Random, secret: str) -> Bad:
    if dice.random() < 0.3:
        name, event = dice.choice((("trace-open", "trace-open.upload"), ("files", "run.click")))
        place = dice.choice((secret, "/etc/passwd", "/", "http://127.0.0.1:1/", "\x00", "app.py"))
        one = forged(place)
        return Bad("upload", event, {name: one if name == "trace-open" else [one]})
    kind, requests = dice.choice(
        [
            ("multipart/form-data; boundary=x", _PARTS),
            ("application/json", _BODIES),
            ("text/plain", [(f"{door}{secret}", b"") for door in _DOORS]),
        ]
    )
    path, body = dice.choice(requests)
    return Bad("upload", "post", {"path": f"/gradio_api/{path}", "type": kind, "body": body})


def _part(name: bytes, content: bytes) -> bytes:
    head = b'--x\r\nContent-Disposition: form-data; name="files' + name + b'"\r\n\r\n'
    return head + content + b"\r\n--x--\r\n"


_PARTS = [
    ("upload", b"--x\r\n" * 300),
    ("upload", b""),
    ("upload?upload_id=x", _part(b"x", b"y")),
    ("upload", _part(b'"; filename="../../p.txt', b"x")),
    ("upload", _part(b'"; filename="\x00/..', b"x")),
    ("upload", _part(b'"; filename="' + b"n" * 9000, b"x")),
    ("process_recording", _part(b'"; filename="x', b"x")),
]
_BODIES = [
    ("queue/join", b"[" * 100_000),
    ("queue/join", b'{"data": ' + b"[" * 500 + b"]" * 500 + b"}"),
    ("queue/join", b'{"data": [' + b"1," * 50_000 + b"1]}"),
    ("queue/join", b'{"data": [' + b"9" * 9000 + b'], "session_hash": "x"}'),
    ("queue/join", b'{"data": ["\\ud83d"], "fn_index": 1e9}'),
    ("queue/join", b'{"data": [], "fn_index": -1, "session_hash": "x"}'),
    ("queue/join", b"\x00\xff"),
    ("run/answer", b'{"data": [1, 2, 3]}'),
    ("call/answer", b'{"data": [1, 2, 3]}'),
    ("component_server", b'{"component_id": 1, "fn_name": "load"}'),
    ("cancel", b'{"session_hash": "x", "fn_index": 0, "event_id": "y"}'),
    ("upload", b"{}"),
]
_DOORS = (
    *("file=", "file=/../../..", "file=a/../../../..", "file/", "file=file://", "proxy=file://"),
    *("custom_component/x/client/y/..%2f..%2f", "stream/x/0/1/..", "deep_link?session_hash="),
)


def _address(dice: random.Random, secret: str) -> Bad:
    raw = dice.choice(
        [
            BOMB,
            zlib.compress(files.dumps(hostile_lanes(dice)).encode("utf-8", "backslashreplace")),
            zlib.compress(files.dumps(hostile_lanes(dice)).encode("utf-8", "backslashreplace")),
            zlib.compress(dice.randbytes(500)),
            dice.randbytes(50),
        ]
    )
    held = {dice.choice((*FIELDS, "own", "spec")): anything(dice, secret) for _ in range(4)}
    packed = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    settings = base64.urlsafe_b64encode(json.dumps(held).encode()).decode().rstrip("=")
    link = dice.choice(
        [
            f"trace={packed}",
            f"trace={packed[: dice.randrange(1, 50)]}",
            f"settings={settings}",
            f"run={text(dice, secret)}",
            f"settings={settings}&step={text(dice, secret)}&view={text(dice, secret)}",
            anything(dice, secret),
        ]
    )
    return Bad("address", ".load", {"link": link})


@dataclass
class Answer:
    """``status``: of HTTP. ``ended``: whether the handler came to its end. ``raw``: all that came.
    ``said``: the sentences for the visitor."""

    status: int
    ended: bool
    raw: str
    said: list[str] = field(default_factory=list)


class Caller:
    """Calls the page's handlers as its browser side does."""

    def __init__(self, address: str) -> None:
        self._http = httpx.Client(base_url=address, timeout=60)
        config = self._http.get("/config").json()
        parts = {c["id"]: c["props"] for c in config["components"]}
        self._names = {i: p.get("elem_id") or p.get("label") or "" for i, p in parts.items()}
        self._usual = {i: p.get("value") for i, p in parts.items()}
        self._events = {}
        for one in config["dependencies"]:
            for target, event in one["targets"] if one["backend_fn"] else ():
                self._events.setdefault(f"{self._names.get(target, '')}.{event}", one)
        self._calls = 0

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def send(self, one: Bad) -> Answer:
        data = dict(one.data)
        if one.event == "post":
            head = {"Content-Type": data["type"]}
            got = self._http.post(data["path"], content=data["body"], headers=head)
            if got.status_code in (404, 405):
                got = self._http.get(data["path"])
            return Answer(got.status_code, True, got.text)
        if one.file:
            name = one.event.partition(".")[0]
            got = self._http.post("/gradio_api/upload", files={"files": one.file})
            if got.status_code != 200:
                return Answer(got.status_code, True, got.text)
            data[name] = {**forged(got.json()[0]), "orig_name": one.file[0]}
        return self.call(one.event, data)

    def call(self, event: str, data: dict[str, Any], visitor: str = "") -> Answer:
        self._calls += 1
        one, visitor = self._events[event], visitor or f"stranger{self._calls}"
        held = [data.get(self._names[i], self._usual[i]) for i in one["inputs"]]
        asked = {"data": held, "fn_index": one["id"], "session_hash": visitor}
        got = self._http.post(
            "/gradio_api/queue/join",
            content=json.dumps(asked),
            headers={"Content-Type": "application/json"},
        )
        if got.status_code != 200:
            return Answer(got.status_code, True, got.text)
        messages = list(self._messages(visitor, got.json()["event_id"]))
        last = json.loads(messages[-1])
        told = [*_sentences([json.loads(m).get("output") for m in messages])]
        return Answer(200, bool(last.get("success")), "\n".join(messages), told)

    def _messages(self, visitor: str, event: str) -> Iterator[str]:
        query = {"session_hash": visitor}
        with self._http.stream("GET", "/gradio_api/queue/data", params=query) as stream:
            rest = b""
            for chunk in stream.iter_bytes():
                *whole, rest = (rest + chunk).split(b"\n\n")
                for line in whole:
                    yield line.removeprefix(b"data:").decode()
                    if b'"msg":"process_completed"' in line[:60]:
                        return


def _sentences(value: Any) -> Iterator[str]:
    """The texts of notices and of cards, wherever in an output."""
    if isinstance(value, list):
        for one in value:
            yield from _sentences(one)
    elif isinstance(value, dict):
        if value.keys() == {"kind", "text"} or "headline" in value:
            yield value.get("text") or value.get("headline") or ""
        for one in value.values():
            yield from _sentences(one)
