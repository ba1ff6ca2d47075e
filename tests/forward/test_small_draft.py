"""A draft made of a target's embedding, a few layers and some output rows."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from elsewhere import placed
from graph_standin import Recorder
from safetensors.torch import load_file, save_file
from tiny_models import make_model
from transformers import LlamaForCausalLM

from stairs_core.cli.main import main
from stairs_core.errors import InputError
from stairs_core.forward import cuda_graphs
from stairs_core.forward.cached_model import CachedModel
from stairs_core.forward.lean_llama import LeanLlama
from stairs_core.forward.small_draft import SmallDraft
from stairs_core.integration.custom_generate import custom_generate
from stairs_core.measuring.runner import Runner
from stairs_core.models import heads, small_drafts
from stairs_core.models.load import load_pair
from stairs_core.settings.settings import Settings

IDS = [5, 17, 300, 4, 99, 7]
SOME = torch.tensor([i for i in range(320) if i % 3])
CLOSE = {"atol": 2e-4, "rtol": 1e-4}


def changed(parts: SmallDraft) -> SmallDraft:
    """As if it had been trained: no weight is the target's any more."""
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in parts.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    return parts


@pytest.fixture
def target():
    return placed(make_model(layers=4))


@torch.no_grad()
def test_it_is_the_targets_class_with_its_own_layers_and_some_rows(target):
    parts = changed(SmallDraft(target, 2, SOME.to(target.device)))
    before = target(torch.tensor([IDS], device=target.device)).logits
    draft = parts.joined(target)
    found = draft(torch.tensor([IDS], device=target.device)).logits[0]
    plain = make_model(layers=2).to(target.device)
    plain.load_state_dict(
        {
            **{n: t for n, t in target.state_dict().items() if "layers" not in n},
            **{f"model.{n}": t for n, t in parts.state_dict().items() if n != "ids"},
        }
    )
    wanted = plain(torch.tensor([IDS], device=target.device)).logits[0]
    torch.testing.assert_close(found[:, SOME], wanted[:, SOME], **CLOSE)
    assert (found[:, ::3] == float("-inf")).all()
    assert draft.get_input_embeddings() is target.get_input_embeddings()
    torch.testing.assert_close(
        before, target(torch.tensor([IDS], device=target.device)).logits, rtol=0, atol=0
    )


@torch.no_grad()
def test_the_faster_passes_give_its_logits():
    target = make_model(layers=4)
    parts = changed(SmallDraft(target, 1, SOME))
    wanted = CachedModel(parts.joined(target)).logits(IDS, 3)
    lean = CachedModel(LeanLlama(parts.joined(target))).logits(IDS, 3)
    torch.testing.assert_close(lean, wanted, **CLOSE)
    cuda_graphs.attach(replayed := parts.joined(target), Recorder())
    again = CachedModel(replayed)
    again.logits(IDS[:3], 1)
    torch.testing.assert_close(again.logits(IDS, 3), wanted, **CLOSE)


@pytest.fixture
def folder(tiny_pair_dir, tmp_path):
    """A target alone, with a small draft in heads/ beside it."""
    shutil.copytree(tiny_pair_dir / "target", tmp_path / "target")
    target = load_pair(str(tmp_path / "target"), "cpu", "float32", "off").target
    parts = changed(SmallDraft(target, 1, SOME))
    place = tmp_path / "heads" / "draft"
    place.mkdir(parents=True)
    save_file(parts.state_dict(), place / "model.safetensors", {"format": "pt"})
    config = {"stairs_head": "draft", "layers": 1, "vocabulary": len(SOME)}
    (place / "config.json").write_text(json.dumps(config | heads.described(target)))
    return tmp_path / "target"


@pytest.mark.parametrize("compile", ["auto", "off"])
def test_it_is_the_pairs_draft_where_nobody_names_one(folder, compile):
    alone = load_pair(str(folder), "cpu", "float32", compile)
    assert alone.own_draft
    assert alone.draft_name == "target-draft"
    own = load_file(folder.parent / "heads" / "draft" / "model.safetensors")
    width = alone.target.config.hidden_size
    weights = sum(t.numel() for n, t in own.items() if n != "ids") + len(SOME) * width
    assert alone.parameters[1] == weights
    assert alone.bytes[1] == 4 * weights
    assert "model" not in alone.lacks()
    assert alone.usual_drafter() != "model"
    settings = {n: Settings(drafter=n, max_new_tokens=24) for n in ("none", "model")}
    texts = []
    for s in settings.values():
        lane = Runner(alone, "Once upon a time", s)
        texts.append([t.id for step in lane.decode() for t in step.committed])
    assert texts[0] == texts[1]


def test_it_is_loaded_for_lanes_that_it_drafts_in_alone(folder, monkeypatch, capsys):
    load, loaded = small_drafts.of, []
    monkeypatch.setattr(small_drafts, "of", lambda *which: loaded.append(which) or load(*which))
    asked = ["race", "--pair", str(folder), "--prompt", "Once", "--max-new-tokens", "4", "--json"]
    assert main([*asked, "--lanes", "none,lookup"]) == 0
    assert not loaded
    assert main([*asked, "--lanes", "none,lookup,model"]) == 0
    assert len(loaded) == 1
    assert "model" in capsys.readouterr().out


def test_generate_finds_it_too(folder):
    model = placed(LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32))
    ids, steps = torch.tensor([IDS], device=model.device), []
    asked = {"max_new_tokens": 16, "do_sample": False, "pad_token_id": 0}
    ours = {"custom_generate": custom_generate, "drafter": "model", "on_step": steps.append}
    assert model.generate(ids, **asked, **ours).equal(model.generate(ids, **asked))
    assert any(step.drafted for step in steps)
    assert small_drafts.of(model, "it") is not None
    model.forward = model.forward  # as where it is compiled: a twin would run all of it
    assert small_drafts.of(model, "it") is None


def test_a_damaged_one_is_refused(folder):
    place = folder.parent / "heads" / "draft"
    tensors = load_file(place / "model.safetensors")
    save_file(tensors | {"ids": tensors["ids"] + 9}, place / "model.safetensors")
    with pytest.raises(InputError, match="name tokens that there are not"):
        load_pair(str(folder), "cpu", "float32")
    config = json.loads((place / "config.json").read_text())
    for change, why in (({"layers": 9}, "larger than its target"), ({"layers": 2}, "damaged")):
        (place / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(InputError, match=why):
            load_pair(str(folder), "cpu", "float32")
