"""Pairs from the hub: fetched, stopped midway, refused in one sentence. The hub is our own."""

# ruff: noqa: F811 (a fixture is imported, then named by the tests)
from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest
from fake_hub import COMMIT, SPEC, web  # noqa: F401
from filelock import FileLock
from huggingface_hub import constants

from stairs_core.errors import InputError
from stairs_core.models import hub, hub_download, memory, source, worker
from stairs_core.web import loaded_pairs


@pytest.fixture
def books(tiny_pair_dir: Path, monkeypatch):
    """A shelf whose first pair is the tiny one."""
    monkeypatch.setenv("STAIRS_PAIR", str(tiny_pair_dir))
    made = loaded_pairs.Shelf()
    made.first.result()
    return made


def load(books: loaded_pairs.Shelf, spec: str = SPEC) -> list[str]:
    return list(books.loading(spec, threading.Event()))


def refused(books: loaded_pairs.Shelf, words: str, spec: str = SPEC) -> None:
    with pytest.raises(InputError, match=words) as caught:
        load(books, spec)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")
    assert not books._under_way


def test_a_pair_is_fetched_once_and_never_a_pickle(web, books, tmp_path, monkeypatch):
    said = load(books)
    assert said
    pair = books.get(SPEC)
    assert (pair.name, pair.target_name, pair.draft_name) == (SPEC, "some/target", "some/draft")
    got = [path for path in web.asked if path.startswith("GET") and "resolve" in path]
    assert sum("model.safetensors" in path for path in got) == 2
    assert not any("pytorch_model" in path for path in web.asked)
    other = loaded_pairs.Shelf()
    load(other)
    assert len([p for p in web.asked if p.startswith("GET") and "resolve" in p]) == len(got)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(web.asked)
    assert load(loaded_pairs.Shelf()) is not None  # from the cache alone
    assert len(web.asked) == asked


def test_a_pinned_pair_is_fetched_at_its_commit_alone(web, books, monkeypatch):
    spec = f"some/target@{COMMIT}:some/draft@{COMMIT}"
    load(books, spec)
    pair = books.get(spec)
    assert (pair.name, pair.target_name, pair.draft_name) == (spec, "some/target", "some/draft")
    assert all(COMMIT in path for path in web.asked if "some/" in path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load(loaded_pairs.Shelf(), spec)  # from the cache alone
    other = f"some/target@{'1' * 40}:some/draft"
    refused(books, "some/target was not fetched before", other)


def test_a_download_can_be_stopped_midway_and_goes_on_from_there(web, books, tmp_path):
    weights = web.repos["some/target"] / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + bytes(30_000_000))
    web.slow = True
    first, flag = books.first.result(), threading.Event()
    loading = books.loading(SPEC, flag)
    while not next(loading).startswith("Fetching the target: 0.0"):
        pass
    assert web.dribbling.wait(30)
    (part,) = left(tmp_path)
    while not part.stat().st_size:
        next(loading)
    flag.set()
    with pytest.raises(InputError, match="Loading was stopped, .* stay in the hub's cache"):
        next(loading)
    assert web.broken_off.wait(30)
    assert list(books._pairs.values()) == [first]
    web.slow = False
    size = part.stat().st_size
    assert source.folder("some/target", "target", str)
    assert web.spans == [f"bytes={size}-"]
    assert not left(tmp_path)
    weights.write_bytes(weights.read_bytes()[:-30_000_000])
    load(books)  # the thread is free again, and the cache whole


def left(tmp_path: Path) -> list[Path]:
    """What has come in part."""
    return [*(tmp_path / "cache").rglob("*.incomplete")]


def test_what_came_in_part_is_gone_on_with_and_checked(web, tmp_path, monkeypatch):
    monkeypatch.setattr(hub_download, "tell", lambda **facts: None)
    weights = web.repos["some/target"] / "model.safetensors"
    body = weights.read_bytes()
    etag = hashlib.sha256(body).hexdigest()
    whole = hub.blob("some/target", etag)
    whole.parent.mkdir(parents=True)
    half = len(body) // 2
    for there, spans in [
        (body[:half], [f"bytes={half}-"]),
        (body, []),
        (bytes(half), [f"bytes={half}-"]),
        (body + b"more", []),
    ]:
        web.spans.clear()
        whole.with_name(f"{etag}.incomplete").write_bytes(there)
        hub_download.fetch("some/target", COMMIT, "model.safetensors")
        assert (whole.read_bytes(), web.spans, left(tmp_path)) == (body, spans, [])
        whole.unlink()
    hub_download.fetch("some/target", COMMIT, "config.json")  # no SHA-256: the library fetches it
    assert not [*whole.parent.iterdir()]


def test_how_far_it_is_is_said_in_bytes_and_time_left(monkeypatch, tmp_path):
    said = []

    def run(module, arguments, say, words, *more):
        said.append(words({"bytes": 3e8, "from": 1e8, "seconds": 10.0}))
        return {"folder": tmp_path}

    monkeypatch.setattr(worker, "run", run)
    remote = hub.Remote("some/target", COMMIT, {"model.safetensors": 900_000_000})
    assert hub.fetch(remote, "target", str) == tmp_path
    assert said == ["Fetching the target: 0.3 of 0.9 GB, 30 s left"]


def test_only_what_no_process_is_writing_is_removed(web, tmp_path):
    before, ours, other = (hub.blob("some/target", f"{n}.12345678.incomplete") for n in "abc")
    before.parent.mkdir(parents=True)
    before.touch()
    known = hub._incomplete("some/target")
    ours.touch()
    other.touch()
    hub.lock("some/target", "c").parent.mkdir(parents=True)
    with FileLock(hub.lock("some/target", "c")):
        hub._clear("some/target", known)
    assert sorted(left(tmp_path)) == [before, other]


def test_a_file_that_was_cut_off_in_the_cache_is_fetched_again(web, books, tmp_path):
    load(books)
    (weights,) = (tmp_path / "cache").glob("models--some--target/snapshots/*/model.safetensors")
    whole = weights.read_bytes()
    weights.resolve().write_bytes(whole[:-100])
    load(loaded_pairs.Shelf())
    assert weights.read_bytes() == whole
    got = [p for p in web.asked if p.startswith("GET") and "resolve" in p]
    assert sum("some/target" in path and "model.safetensors" in path for path in got) == 2


def test_what_the_hub_does_not_give(web, books):
    web.gated.add("some/draft")
    refused(books, "some/draft is gated: accept its licence at https://huggingface.co/some/draft")
    refused(books, "There is no some/nothing on the hub", "some/nothing:some/draft")
    (web.repos["some/target"] / "model.safetensors").unlink()
    refused(books, "some/target has no model.safetensors, and pickled weights can run code")
    assert not any("GET" in path and "safetensors" in path for path in web.asked)


def test_no_network(web, books, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert not hub.reachable()
    refused(books, "some/target was not fetched before, and http://127.0.0.1:9 does not answer")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused(books, "HF_HUB_OFFLINE forbids it")
    for name in ("owner/..", f"owner/{'x' * 97}"):
        with pytest.raises(InputError, match=r"^owner/[.x]+ is no id of the hub: .*\.$"):
            hub.find_file(name, "x.gguf", str)


def test_what_does_not_fit_is_not_fetched(web, books, monkeypatch):
    monkeypatch.setattr(memory, "free", lambda device: 1000)
    refused(books, "some/target and some/draft take 0.0 GB, and this machine has 0.0 GB")
    assert not any("GET" in path and "safetensors" in path for path in web.asked)
