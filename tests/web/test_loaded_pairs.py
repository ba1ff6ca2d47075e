"""The shelf of loaded pairs, and who may ask for which."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from types import SimpleNamespace

import pytest
import torch
from paths import ROOT

from stairs_core.errors import InputError
from stairs_core.models import memory
from stairs_core.settings import limits
from stairs_core.settings.known import KNOWN
from stairs_core.settings.pair_spec import pinned
from stairs_core.web import live_race, loaded_pairs, presets, widgets, zero_gpu

_SPECS = {preset.name: preset.spec for preset in presets.PRESETS}
ONE, TWO, THREE = _SPECS["smollm2"], _SPECS["qwen3"], _SPECS["t5-large"]
CPU = torch.device("cpu")


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
    monkeypatch.setattr(loaded_pairs, "_LOOK", 0.01)
    return Loader()


@pytest.fixture
def pairs(loader):
    made = loaded_pairs.Shelf(loader)
    made.first.result()
    return made


def load(pairs, spec, flag=None):
    return list(pairs.loading(spec, flag or threading.Event()))


def start(pairs, spec, flag):
    """Somebody who waits for a pair in a thread of their own, and what came of it."""
    out = SimpleNamespace(words=[], error=None)

    def wait():
        try:
            out.words += pairs.loading(spec, flag)
        except InputError as e:
            out.error = str(e)

    out.thread = threading.Thread(target=wait)
    out.thread.start()
    return out


@pytest.fixture
def tight(pairs, monkeypatch):
    """A host that gives models 3 GB, with pairs of 1 GB each."""
    monkeypatch.setattr(memory, "held", lambda pair: {CPU: 10**9})
    monkeypatch.setattr(limits, "current", lambda: limits.Limits(memory_gb=3.0))
    loader = pairs._load
    loader.size = 10**9

    def load(spec, say, make_room):
        make_room({CPU: loader.size}, False)
        make_room({CPU: loader.size}, True)
        return loader(spec, say, make_room)

    pairs._load = load
    return pairs


def test_all_stay_while_there_is_room(pairs, loader):
    for spec in (ONE, "qwen3", THREE, ONE):
        load(pairs, spec)  # a preset by its name, too
    assert pairs.get("qwen3").spec == TWO
    assert pairs.get().spec == pairs.get("bundled").spec == "bundled"
    assert loader.loaded == ["bundled", ONE, TWO, THREE]


def test_who_was_not_asked_for_longest_makes_room(tight, loader):
    load(tight, ONE)
    load(tight, TWO)
    gone = weakref.ref(tight.get(TWO))
    tight.get(ONE)
    load(tight, THREE)
    assert set(tight._pairs) == {"bundled", ONE, THREE}
    assert gone() is None
    assert tight.get(TWO).spec == TWO  # again
    assert set(tight._pairs) == {"bundled", THREE, TWO}
    assert loader.loaded == ["bundled", ONE, TWO, THREE, TWO]


def test_a_pair_that_a_race_holds_stays(tight, loader):
    load(tight, ONE)
    load(tight, TWO)
    racing = tight.get(ONE)
    load(tight, THREE)
    load(tight, TWO)
    assert tight.get(ONE) is racing
    other = tight.get(TWO)
    with pytest.raises(InputError, match="run now leave no room .* when those runs are over"):
        load(tight, THREE)
    assert (tight.get(ONE), tight.get(TWO)) == (racing, other)
    del racing, other
    load(tight, THREE)
    assert set(tight._pairs) == {"bundled", TWO, THREE}


def test_what_the_host_gives_no_room_for_is_refused_before_anything_goes(tight, loader):
    load(tight, ONE)
    loader.size = 2.5e9
    with pytest.raises(InputError) as caught:
        load(tight, "qwen3")
    assert str(caught.value) == (
        "Qwen/Qwen3-8B and Qwen/Qwen3-0.6B take 2.5 GB, and this page has 2.0 GB of memory for it: "
        "choose smaller models."
    )
    assert set(tight._pairs) == {"bundled", ONE}
    loader.size = 1.5e9
    load(tight, TWO)
    assert set(tight._pairs) == {"bundled", TWO}


def test_two_who_load_different_models_both_get_theirs(tight, loader):
    loader.gate.clear()
    askers = {spec: start(tight, spec, threading.Event()) for spec in (ONE, TWO)}
    while not all(asker.words for asker in askers.values()):
        time.sleep(0.01)
    loader.gate.set()
    for asker in askers.values():
        asker.thread.join()
        assert asker.error is None
    said = {asker.words[0] for asker in askers.values()}
    assert loaded_pairs.WAITING in said  # one is loaded at a time
    assert [tight.get(spec).spec for spec in askers] == [ONE, TWO]
    assert sorted(loader.loaded) == sorted(["bundled", ONE, TWO])


def test_two_who_ask_for_the_same_share_one_loading(pairs, loader):
    loader.gate.clear()
    flags = [threading.Event(), threading.Event()]
    askers = [start(pairs, ONE, flag) for flag in flags]
    while not all(f"Loading {ONE} …" in a.words for a in askers):
        time.sleep(0.01)
    flags[0].set()
    askers[0].thread.join()
    loader.gate.set()
    askers[1].thread.join()
    assert askers[0].error == loaded_pairs.STOPPED
    assert askers[1].error is None
    assert loader.loaded == ["bundled", ONE]


@pytest.mark.parametrize("how", ["stop", "failure"])
def test_what_comes_to_nothing_leaves_all_as_it_was(pairs, loader, how):
    load(pairs, ONE)
    before = dict(pairs._pairs)
    flag = threading.Event()
    loader.at_gate.clear()
    if how == "stop":
        loader.gate.clear()
        asker = start(pairs, TWO, flag)
        assert loader.at_gate.wait(20)
        flag.set()
    else:
        loader.error = InputError("It is damaged: copy it again.")
        asker = start(pairs, TWO, flag)
    asker.thread.join()
    assert asker.error == (
        loaded_pairs.STOPPED if how == "stop" else "It is damaged: copy it again."
    )
    loader.gate.set()
    loader.error = None
    pairs.get(ONE)
    assert pairs._pairs == before
    pairs._thread.submit(int).result()
    gc.collect()
    assert loader.half() is None  # nor does half of a pair stay
    assert load(pairs, TWO) == [] or pairs.get(TWO).spec == TWO


def test_room_is_made_only_where_it_must_be(pairs, loader, monkeypatch):
    load(pairs, ONE)
    monkeypatch.setattr(memory, "free", lambda _: 50 if ONE in pairs._pairs else 150)
    monkeypatch.setattr(memory, "held", lambda pair: {CPU: 100})
    pairs._make_room(TWO, {CPU: 40}, True)
    pairs._make_room(TWO, {CPU: 140}, False)
    assert set(pairs._pairs) == {"bundled", ONE}
    with pytest.raises(InputError, match="choose smaller models"):
        pairs._make_room(TWO, {CPU: 160}, True)
    assert set(pairs._pairs) == {"bundled", ONE}
    pairs._make_room(TWO, {CPU: 140}, True)
    assert set(pairs._pairs) == {"bundled"}


def test_a_race_asks_for_its_pair(pairs, monkeypatch):
    monkeypatch.setattr(live_race, "shelf", lambda: pairs)
    flag = live_race.Flag()
    flag.set()
    pairs._load = lambda *asked: pytest.fail("loaded")
    monkeypatch.setenv("STAIRS_MODELS", "presets")
    with pytest.raises(InputError, match="no other pairs"):
        next(live_race.race("Once", {}, flag, "/etc:/etc"))
    with pytest.raises(InputError, match="stopped before its models"):
        next(live_race.race("Once", {}, flag, ONE))


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


PATHS = ("/etc", "/etc:/etc", "~", "..", "a/..", "stairs_core/web", "some/x:stairs_core/web")
PATHS += ("tests/web:some/x", "/etc/x.gguf", "some/../x.gguf", "./a:./b")
PATHS += ("some/x:", "a" * 999, "some/x@main", "some/x@" + "0" * 39, "file:///etc", "\0/x")


@pytest.mark.parametrize("spec", PATHS)
def test_a_host_who_allows_the_hub_allows_no_folder(monkeypatch, spec):
    """A folder may look like an id: then it is refused as a folder, in the same words."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("STAIRS_MODELS", "hub")
    with pytest.raises(InputError, match="There is no pair .* that this page loads: name a target"):
        presets.resolve(spec)
    for allowed in ("some/x", "some/x:some/y", f"some/x@{'0' * 40}", "some/x/y.gguf"):
        assert presets.resolve(allowed) == allowed


@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        ({}, "any"),
        ({"HOST": "127.0.0.1"}, "any"),
        ({"HOST": "0.0.0.0"}, "presets"),
        ({"GRADIO_SERVER_NAME": "::"}, "presets"),
        ({"GRADIO_SHARE": "True"}, "presets"),
        ({"SPACE_ID": "a/b", "HOST": "127.0.0.1"}, "presets"),
        ({"HOST": "0.0.0.0", "STAIRS_MODELS": "any"}, "any"),
    ],
)
def test_whoever_listens_to_strangers_allows_presets_alone(monkeypatch, environment, kind):
    names = ("SPACE_ID", "STAIRS_MODELS", "HOST", "GRADIO_SERVER_NAME", "GRADIO_SHARE")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert presets.allowed() == kind


def test_on_zero_gpu_there_is_one_pair(monkeypatch):
    monkeypatch.setattr(zero_gpu, "ON", True)
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
    with pytest.raises(InputError, match="use bundled, presets, hub or any"):
        presets.resolve(spec)


@pytest.mark.parametrize(
    ("kind", "shown", "own"), [("bundled", 0, 0), ("presets", 1, 0), ("any", 1, 1)]
)
def test_the_page_offers_what_is_allowed(monkeypatch, kind, shown, own):
    monkeypatch.setenv("STAIRS_MODELS", kind)
    monkeypatch.setenv("STAIRS_PAIR", "/somewhere/secret")
    models = widgets.models()
    preset, typed, *_ = models.inside
    assert (models.options["visible"], typed.options["visible"]) == (shown, own)
    assert preset.options["choices"][0] == ("This page's own pair", "")
    assert models.options["label"] == "Models: This page's own pair"
    assert "secret" not in str(models)
    for _, spec in preset.options["choices"]:
        assert presets.resolve(spec)


def test_a_pair_is_called_by_its_models(monkeypatch):
    monkeypatch.delenv("STAIRS_PAIR", raising=False)
    titles = [widgets.title(s) for s in ("", "qwen3", ONE, "/a/b/mine", "a/big:./c/small")]
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
        names = preset.spec.split(":")
        ids = [KNOWN[name].id if name in KNOWN else pinned(name)[0] for name in names]
        for name, bare in zip(names, ids, strict=True):
            validate_repo_id(bare)
            assert bare.count("/") == 1
            assert name in KNOWN or pinned(name)[1], "what is put on the hub later is not loaded"
        if all(pinned(name)[1] for name in names):
            assert presets.resolve(":".join(ids)) == preset.spec
