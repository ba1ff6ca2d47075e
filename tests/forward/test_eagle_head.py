"""An EAGLE head computes the same however it is called, and its folder holds all that it is."""

from __future__ import annotations

import copy
import gc
import json
import shutil
from dataclasses import replace
from weakref import WeakKeyDictionary

import pytest
import torch
from elsewhere import placed
from graph_standin import Recorder
from heads import make_eagle
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig

from stairs_core.errors import InputError
from stairs_core.forward import cuda_graphs
from stairs_core.forward.cached_eagle import CachedEagle
from stairs_core.forward.hidden_states import embedding
from stairs_core.forward.lean_eagle import LeanEagle
from stairs_core.forward.static_eagle import StaticEagle
from stairs_core.models import eagle_format, eagle_heads, heads
from stairs_core.training.heads import eagle as training

OPTIONS = [
    {},
    {"norm_before_residual": False, "fc_norm": False},
    {"fc_norm": False, "norm_before_fc": True, "norm_output": True},
    {"head_norms": True},
]
TEXT = [5, 9, 21, 3, 14, 200, 7]


def head_of(target, **changes):
    module, config = make_eagle(target, **changes)
    module = placed(module)
    module.embedding = embedding(target)
    return module.eval().requires_grad_(False), config


def drafted(head, features: torch.Tensor, more: list[int]) -> torch.Tensor:
    """[rows, vocabulary]: logits after ``TEXT`` and after each token of ``more``."""
    cached = CachedEagle(head)
    cached.take(features[:4], 4)
    assert cached.logits(TEXT[:5]) is not None
    cached.then(77)  # drafted, and then rejected
    cached.take(features[4:], len(TEXT) - 1)
    first = cached.logits(TEXT)
    assert first is not None
    return torch.stack([first, *(cached.then(token) for token in more)])


@pytest.mark.parametrize("changes", OPTIONS)
def test_drafting_gives_what_was_trained(tiny_pair, changes):
    """In training all drafts of a text are computed at once, here one after another."""
    head, _ = head_of(tiny_pair.target, **changes)
    features, more = torch.randn(len(TEXT) - 1, 3, 32), [8, 250, 8]
    ours = drafted(head, features, more)
    every = torch.cat([features, torch.randn(4, 3, 32)])[None]  # later ones must not matter
    steps = training._unrolled(head, torch.tensor([TEXT + more]), every, 4)
    for i, step in enumerate(steps):
        logits = head.lm_head(step[0, len(TEXT) - 2])
        torch.testing.assert_close(logits, ours[i], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("changes", OPTIONS[:2])
@pytest.mark.parametrize("table", [0, 2**20])
def test_the_lean_pass_gives_the_same(tiny_pair, monkeypatch, changes, table):
    monkeypatch.setattr("stairs_core.forward.lean_eagle.TABLE_BYTES", table)
    head, _ = head_of(tiny_pair.target, **changes)
    features, more = torch.randn(len(TEXT) - 1, 3, 32), [8, 250, 8]
    ours = drafted(LeanEagle(head), features, more)
    torch.testing.assert_close(ours, drafted(head, features, more), atol=1e-5, rtol=1e-4)


def static(head) -> StaticEagle:
    """The head with graphs: recorded by a GPU or, on a CPU, by a stand-in."""
    graphs = cuda_graphs.Recorder if head.weight.device.type == "cuda" else None
    return StaticEagle(head, graphs(head.weight.device) if graphs else Recorder())


@pytest.mark.parametrize("changes", OPTIONS)
def test_replayed_passes_give_the_same(tiny_pair, changes):
    """In chains, in trees, over a text that outgrows its cache, and over a cache lent again."""
    head, _ = head_of(tiny_pair.target, **changes)
    ours = static(head)
    text = [i % 320 for i in range(7, 300)]
    for length in (280, 40):
        features, lanes = torch.randn(len(text), 3, 32), (CachedEagle(ours), CachedEagle(head))
        for start, end in ((0, 5), (5, 7), (7, length), (length, length + 1)):
            for lane in lanes:
                lane.take(features[start:end], end)
            rows = [lane.logits(text[: end + 1]) for lane in lanes]
            torch.testing.assert_close(*rows, atol=1e-5, rtol=1e-4)
            for level in (([8, 30], [-1, -1]), ([250, 9, 8], [1, 0, 1]), ([77], [3])):
                rows = [lane.branches(*level) for lane in lanes]
                torch.testing.assert_close(*rows, atol=1e-5, rtol=1e-4)
            for lane in lanes:
                assert lane.logits(text[: end + 1]) is None  # its features were read
        del lanes, lane
        gc.collect()
    assert len(ours._caches._free) == 1
    more = [8, 250, 8]
    rows = [drafted(run, features[: len(TEXT) - 1], more) for run in (ours, head)]
    torch.testing.assert_close(*rows, atol=1e-5, rtol=1e-4)


def test_a_heads_cache_is_lent_again_without_what_is_no_number(tiny_pair):
    head, _ = head_of(tiny_pair.target)
    ours, features = static(head), torch.randn(len(TEXT) - 1, 3, 32)
    expected = drafted(head, features, [8, 250])
    lane = CachedEagle(ours)
    for start, end in ((0, 30), (30, 31)):
        lane.take(torch.full((end - start, 3, 32), float("nan")), end)
        assert lane.logits([*range(end + 1)]).isnan().all()
    del lane
    gc.collect()
    rows = drafted(ours, features, [8, 250])
    torch.testing.assert_close(rows, expected, atol=1e-5, rtol=1e-4)
    assert len(ours._caches._free) == 1


def test_a_target_with_graphs_has_them_for_its_head(tiny_pair, monkeypatch):
    head, _ = head_of(tiny_pair.target)
    twin = copy.deepcopy(tiny_pair.target)
    assert eagle_heads._quicker(head, twin) is head
    recorder = None if twin.device.type == "cuda" else Recorder()
    cuda_graphs.attach(twin, recorder)
    assert isinstance(eagle_heads._quicker(head, twin), StaticEagle)
    monkeypatch.setattr(StaticEagle, "run", lambda *_, **__: 1 / 0)
    assert eagle_heads._quicker(head, twin) is head


def test_a_text_of_which_features_are_missing_is_not_guessed(tiny_pair):
    head, _ = head_of(tiny_pair.target)
    cached = CachedEagle(head)
    assert cached.logits(TEXT) is None
    cached.take(torch.randn(3, 3, 32), 3)
    assert cached.logits(TEXT) is None
    cached.take(torch.randn(6, 3, 32), 6)  # another text, from its beginning
    assert cached.logits(TEXT) is not None


@pytest.mark.parametrize("changes", OPTIONS)
def test_a_folder_holds_all_of_a_head(tiny_pair, tmp_path, changes):
    from stairs_core.training.heads.command import write

    head, config = head_of(tiny_pair.target, **changes)
    write(head.half().float(), config, tmp_path / "head")
    given = json.loads((tmp_path / "head" / "config.json").read_text())
    shape = eagle_format.shape_of(given, tiny_pair.target, tmp_path)
    for name in ("layer", "features", "vocabulary", *eagle_format._FLAGS, "head_norms"):
        if name != "layer":
            assert getattr(shape, name) == getattr(head.shape, name)
    found = heads.Head(tmp_path / "head", given)
    again = eagle_heads.opened(found, tiny_pair.target)
    features = torch.randn(len(TEXT) - 1, 3, 32)
    torch.testing.assert_close(drafted(again, features, [8]), drafted(head, features, [8]))


def published(tiny_pair, folder) -> None:
    """A head as others publish it: with an embedding of its own, and none of our keys."""
    head, config = head_of(tiny_pair.target)
    own = {"embed_tokens.weight": embedding(tiny_pair.target).clone()}
    folder.mkdir()
    save_file({**head.state_dict(), **own}, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))


def test_a_published_head_is_taken_by_width_vocabulary_and_layers(tiny_pair, tmp_path):
    folder = tmp_path / "head"
    published(tiny_pair, folder)
    pair = replace(tiny_pair, target=LlamaTwin(tiny_pair.target))
    heads.give(pair.target, str(folder))
    assert heads.find("eagle", pair.target) == folder
    module = eagle_heads.opened(heads.load("eagle", pair.target, "it"), pair.target)
    assert module.embed_tokens is not None
    config = json.loads((folder / "config.json").read_text())
    layer = config["transformer_layer_config"]
    for change, why in (
        ({"transformer_layer_config": layer | {"hidden_size": 64}}, "width 64, not 32"),
        ({"transformer_layer_config": layer | {"vocab_size": 99}}, "rows 99, not 320"),
        ({heads.FINGERPRINT: "0" * 32, "target_hidden_size": 9}, "width 9, not 32"),
        ({"speculators_model_type": "dflash"}, "holds no head"),
        ({"speculators_model_type": "", heads.KIND: "draft"}, "put it into a folder called heads"),
    ):
        (folder / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(InputError, match=why):
            heads.give(pair.target, str(folder))
    with pytest.raises(InputError, match="There is no folder"):
        heads.give(pair.target, str(tmp_path / "none"))


class LlamaTwin:
    """The same target, which can be given a head without changing it for other tests."""

    def __init__(self, model) -> None:
        self._model = model

    def __getattr__(self, name):
        return getattr(vars(self)["_model"], name)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"eagle_aux_hidden_state_layer_ids": [1, 2, 9]}, "reads the layers .* layers 1 to 4"),
        ({"eagle_aux_hidden_state_layer_ids": "all"}, "belongs to another target"),
        ({"draft_vocab_size": 0}, "says draft_vocab_size = 0"),
        ({"transformer_layer_config": None}, "its layer is None"),
        ({"transformer_layer_config": {"model_type": "gpt2"}}, "its layer is 'gpt2'"),
        ({"transformer_layer_config": {"model_type": "llama"}}, "says vocab_size = None"),
        ({"num_hidden_layers": 2}, "it has 2 layers"),
        ({"hidden_act": "gelu"}, "with gelu"),
    ],
)
def test_a_config_that_cannot_be_run_is_refused(tiny_pair, tmp_path, change, why):
    _, config = make_eagle(tiny_pair.target)
    layer = config["transformer_layer_config"]
    if {*change} <= {*layer}:
        change = {"transformer_layer_config": layer | change}
    with pytest.raises(InputError, match=why):
        eagle_format.shape_of(config | change, tiny_pair.target, tmp_path)


def test_the_file_of_a_head_is_read_once(tiny_pair, monkeypatch):
    read, count = heads.tensors, []
    monkeypatch.setattr(heads, "tensors", lambda folder: count.append(folder) or read(folder))
    monkeypatch.setattr(eagle_heads, "_READY", WeakKeyDictionary())
    found = [eagle_heads.ready(tiny_pair.target, "it") for _ in range(3)]
    assert found[0] == found[1] == found[2]
    assert len(count) == 1


def test_ids_that_there_are_not_are_refused(tiny_pair_dir, tiny_pair, tmp_path):
    folder = shutil.copytree(tiny_pair_dir / "heads" / "eagle", tmp_path / "eagle")
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    for wrong in (tensors["d2t"] + 300, torch.zeros_like(tensors["d2t"]) - 1):
        save_file(tensors | {"d2t": wrong}, folder / "model.safetensors")
        found = heads.Head(folder, config)
        with pytest.raises(InputError, match="names tokens that there are not"):
            eagle_heads.opened(found, tiny_pair.target)


def test_a_config_of_older_libraries_has_its_rope(tiny_pair, tmp_path):
    _, config = make_eagle(tiny_pair.target)
    layer = {k: v for k, v in config["transformer_layer_config"].items() if k != "rope_parameters"}
    old = config | {"transformer_layer_config": layer | {"rope_theta": 500000.0}}
    shape = eagle_format.shape_of(old, tiny_pair.target, tmp_path)
    assert isinstance(shape.layer, LlamaConfig)
    assert shape.rope["rope_theta"] == 500000.0


@pytest.mark.parametrize("lean", [False, True])
def test_a_tree_gives_what_its_branches_give(tiny_pair, lean):
    head, _ = head_of(tiny_pair.target)
    features = torch.randn(len(TEXT) - 1, 3, 32)
    cached = CachedEagle(LeanEagle(head) if lean else head)
    cached.take(features, len(TEXT) - 1)
    assert cached.logits(TEXT) is not None
    levels = [([8, 30], [-1, -1]), ([250, 9, 8], [1, 0, 1]), ([77], [3])]
    rows = torch.cat([cached.branches(*level) for level in levels])
    tokens, parents = ([x for level in levels for x in level[n]] for n in (0, 1))
    for i, row in enumerate(rows):
        branch, at = [], i
        while at >= 0:
            branch.insert(0, tokens[at])
            at = parents[at]
        alone = drafted(head, features, branch)[-1]
        torch.testing.assert_close(row, alone, atol=1e-5, rtol=1e-4)
