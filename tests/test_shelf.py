"""The shelf of loaded pairs, and who may ask for which."""

from __future__ import annotations

import gc
import threading
import weakref
from types import SimpleNamespace

import pytest
import torch

from stairs_core import live, presets, room, shelf
from stairs_core.errors import InputError
from stairs_core.render import controls

ONE, TWO = (f"{preset.spec}" for preset in presets.PRESETS[1:3])


class Model(SimpleNamespace):
    """Stands in for a pair."""


class Loader:
    """Stands in for the loading: counts, waits at ``gate``, fails with ``error``."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.gate, self.at_gate, self.error = threading.Event(), threading.Event(), None
        self.gate.set()

    def __call__(self, spec, say, make_room):
        self.loaded.append(spec)
        half = Model(spec=spec)
        self.half = weakref.ref(half)
        self.at_gate.set()
        while not self.gate.wait(0.01):
            say(f"Loading {spec} …")
        say("Loading the draft …")
        if self.error:
            raise self.error
        return half


@pytest.fixture
def loader(monkeypatch):
    for name in ("STAIRS_PAIR", "STAIRS_MODELS", "SPACE_ID"):
        monkeypatch.delenv(name, raising=False)
    return Loader()


@pytest.fixture
def books(loader):
    made = shelf.Shelf(loader)
    made.first.result()
    return made


def load(books, spec, flag=None):
    return list(books.loading(spec, flag or threading.Event()))


def start(books, spec, flag):
    """Somebody who waits for a pair in a thread of their own, and what came of it."""
    out = SimpleNamespace(words=[], error=None)

    def wait():
        try:
            out.words += books.loading(spec, flag)
        except InputError as e:
            out.error = str(e)

    out.thread = threading.Thread(target=wait)
    out.thread.start()
    return out


def test_the_first_stays_and_the_older_other_goes(books, loader):
    load(books, ONE)
    racing = books.get(ONE)
    gone = weakref.ref(books.get(ONE))
    load(books, "qwen3")  # a preset by its name
    assert books.get("qwen3").spec == TWO
    assert gone() is racing  # a race holds it
    del racing
    gc.collect()
    assert gone() is None
    assert books.get().spec == books.get("bundled").spec == "bundled"
    assert loader.loaded == ["bundled", ONE, TWO]
    assert books.get(ONE).spec == ONE  # again
    assert loader.loaded == ["bundled", ONE, TWO, ONE]


def test_two_who_ask_for_the_same_share_one_loading(books, loader):
    loader.gate.clear()
    flags = [threading.Event(), threading.Event()]
    askers = [start(books, ONE, flag) for flag in flags]
    while not all(a.words for a in askers):
        pass
    flags[0].set()
    askers[0].thread.join()
    loader.gate.set()
    askers[1].thread.join()
    assert askers[0].error == shelf.STOPPED
    assert askers[1].error is None
    assert askers[1].words[0] == f"Loading {ONE} …"
    assert loader.loaded == ["bundled", ONE]


@pytest.mark.parametrize("how", ["stop", "failure"])
def test_what_comes_to_nothing_leaves_all_as_it_was(books, loader, how):
    load(books, ONE)
    before = dict(books._pairs)
    flag = threading.Event()
    loader.at_gate.clear()
    if how == "stop":
        loader.gate.clear()
        asker = start(books, TWO, flag)
        assert loader.at_gate.wait(20)
        flag.set()
    else:
        loader.error = InputError("It is damaged: copy it again.")
        asker = start(books, TWO, flag)
    asker.thread.join()
    assert asker.error == (shelf.STOPPED if how == "stop" else "It is damaged: copy it again.")
    loader.gate.set()
    loader.error = None
    books.get(ONE)
    assert books._pairs == before
    books._thread.submit(int).result()
    gc.collect()
    assert loader.half() is None  # nor does half of a pair stay
    assert load(books, TWO) == [] or books.get(TWO).spec == TWO


def test_room_is_made_only_where_it_must_be(books, loader, monkeypatch):
    load(books, ONE)
    cpu = torch.device("cpu")
    monkeypatch.setattr(room, "free", lambda device: 50)
    monkeypatch.setattr(room, "held", lambda pair: {cpu: 100})
    books._make_room(TWO, {cpu: 40}, True)
    books._make_room(TWO, {cpu: 140}, False)
    assert set(books._pairs) == {"bundled", ONE}
    with pytest.raises(InputError, match="choose smaller models"):
        books._make_room(TWO, {cpu: 160}, True)
    assert set(books._pairs) == {"bundled", ONE}
    with pytest.raises(InputError, match="choose smaller models"):  # a race holds it
        books._make_room(TWO, {cpu: 140}, True)
    assert set(books._pairs) == {"bundled"}


def test_a_race_asks_for_its_pair(books, monkeypatch):
    monkeypatch.setattr(live, "shelf", lambda: books)
    flag = live.Flag()
    flag.set()
    books._load = lambda *asked: pytest.fail("loaded")
    monkeypatch.setenv("STAIRS_MODELS", "presets")
    with pytest.raises(InputError, match="no other pairs"):
        next(live.race("Once", {}, flag, "/etc:/etc"))
    with pytest.raises(InputError, match="stopped before its models"):
        next(live.race("Once", {}, flag, ONE))


def test_on_a_space_no_folder_of_the_host_can_be_read(tmp_path, monkeypatch):
    monkeypatch.setenv("SPACE_ID", "somebody/stairs")
    monkeypatch.delenv("STAIRS_MODELS", raising=False)
    assert presets.allowed() == "presets"
    for spec in (str(tmp_path), f"{tmp_path}:{tmp_path}", "~", "some/target:some/draft"):
        with pytest.raises(InputError, match="no other pairs than those in its list"):
            presets.resolve(spec)
    assert presets.resolve("qwen3") == presets.resolve(TWO) == TWO
    monkeypatch.setenv("STAIRS_PAIR", str(tmp_path))
    assert presets.resolve("") == presets.resolve(str(tmp_path)) == str(tmp_path)  # the host's own


def test_on_zero_gpu_there_is_one_pair(monkeypatch):
    monkeypatch.setattr(presets, "ZERO_GPU", True)
    monkeypatch.setenv("STAIRS_MODELS", "any")
    assert presets.allowed() == "bundled"
    assert presets.resolve("bundled") == "bundled"
    with pytest.raises(InputError, match="keeps to one pair, since ZeroGPU"):
        presets.resolve("qwen3")


@pytest.mark.parametrize(
    "spec",
    [
        "nonsense",
        "a:b:c",
        "../a:b",
        "a/b/c:d",
        "~nobody-here:x",
        "a:",
        "\0:\0",
        "a b:c",
        "x" * 9999,
    ],
)
def test_nonsense_is_refused_in_one_sentence(monkeypatch, spec):
    monkeypatch.setenv("STAIRS_MODELS", "any")
    with pytest.raises(InputError, match=r"There is no pair .*\.$"):
        presets.resolve(spec)
    monkeypatch.setenv("STAIRS_MODELS", "all")
    with pytest.raises(InputError, match="use bundled, presets or any"):
        presets.resolve(spec)


@pytest.mark.parametrize(
    ("kind", "shown", "own"), [("bundled", 0, 0), ("presets", 1, 0), ("any", 1, 1)]
)
def test_the_page_offers_what_is_allowed(monkeypatch, kind, shown, own):
    monkeypatch.setenv("STAIRS_MODELS", kind)
    monkeypatch.setenv("STAIRS_PAIR", "/somewhere/secret")
    models = controls.models()
    preset, typed, *_ = models.inside
    assert (models.options["visible"], typed.options["visible"]) == (shown, own)
    assert preset.options["choices"][0] == ("This page's own pair", "")
    assert models.options["label"] == "Models: This page's own pair"
    assert "secret" not in str(models)
    for _, spec in preset.options["choices"]:
        assert presets.resolve(spec)


def test_a_pair_is_called_by_its_models(monkeypatch):
    monkeypatch.delenv("STAIRS_PAIR", raising=False)
    titles = [controls.title(s) for s in ("", "qwen3", ONE, "/a/b/mine", "a/big:./c/small")]
    assert titles == [
        "Models: Bundled: 12 M after 2 M",
        "Models: Qwen3: 8 B after 0.6 B",
        "Models: SmolLM2: 1.7 B after 135 M",
        "Models: mine",
        "Models: big after small",
    ]


def test_presets_are_what_the_hub_takes():
    from huggingface_hub.utils import validate_repo_id

    assert len({preset.name for preset in presets.PRESETS}) == len(presets.PRESETS)
    for preset in presets.PRESETS[1:]:
        for name in preset.spec.split(":"):
            validate_repo_id(name)
            assert name.count("/") == 1
