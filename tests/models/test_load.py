"""A pair is checked before it is used; what cannot be used is refused in one sentence."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import make_model, make_tokenizer, perturb, save_pair
from transformers import LlamaForCausalLM, PegasusConfig, PegasusForConditionalGeneration

from stairs_core.errors import InputError
from stairs_core.measuring.runner import Runner
from stairs_core.models import folder_check
from stairs_core.models.load import load_pair
from stairs_core.quiet import quiet
from stairs_core.settings.settings import Settings


def refused(spec: str, words: str, **options) -> None:
    with pytest.raises(InputError, match=words) as caught:
        load_pair(spec, device="cpu", **options)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.fixture
def pair_dir(tiny_pair_dir: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(tiny_pair_dir, tmp_path / "copy"))


def test_three_ways_to_name_a_pair(tiny_pair_dir: Path):
    whole = load_pair(str(tiny_pair_dir), device="cpu")
    both = load_pair(f"{tiny_pair_dir}/target:{tiny_pair_dir}/draft", device="cpu")
    alone = load_pair(f"{tiny_pair_dir}/target", device="cpu")
    for pair in (whole, both, alone):
        assert pair.dtype == "float32"
        assert pair.context_length == 256
        assert pair.eos_ids == {0}
    assert torch.equal(whole.draft.lm_head.weight, both.draft.lm_head.weight)
    assert alone.draft is None
    with pytest.raises(InputError, match="no draft model"):
        Runner(alone, "hello", Settings(drafter="model"))
    assert list(Runner(alone, "hello", Settings(drafter="none", max_new_tokens=3)).decode())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtypes(tiny_pair_dir: Path, dtype: str):
    pair = load_pair(str(tiny_pair_dir), device="cpu", dtype=dtype)
    runner = Runner(pair, "Once upon a time", Settings(max_new_tokens=12))
    assert sum(len(s.committed) for s in runner.decode()) == 12
    assert runner.run.dtype == dtype


HUB = "https://huggingface.co"
COMMIT = "0123456789" * 4


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (f"{HUB}/a/b", "a/b"),
        (f"{HUB}/a/b/tree/main", "a/b"),
        ("hf.co/a/b", "a/b"),
        (f"{HUB}/a/b/resolve/main/m.gguf", "a/b/m.gguf"),
        (f"{HUB}/a/b/blob/{COMMIT}/q/m.gguf?download=true", f"a/b@{COMMIT}/q/m.gguf"),
        (f"{HUB}/a/b:c/d", "a/b:c/d"),
        (f"./here:{HUB}/c/d", "./here:c/d"),
    ],
)
def test_an_address_of_the_hub_is_answered_with_the_models_name(spec, name):
    refused(spec, rf"is an address: name the model as {re.escape(name)}\.$")


def test_what_is_no_model_in_a_pair_is_refused():
    refused("https://example.org/m.gguf", "download it, and name its path")
    for spec in ("bundled:x.gguf", "x.gguf:bundled", "bundled:bundled"):
        refused(spec, "bundled is a pair, and .* needs two models")


def test_several_ends(pair_dir: Path):
    path = pair_dir / "target" / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": [7, 9]}))
    assert load_pair(str(pair_dir), device="cpu").eos_ids == {7, 9}


def test_unknown_names():
    refused("nonsense", "no pair 'nonsense'")
    refused("./nowhere/a:./nowhere/b", "no folder ./nowhere/a")
    refused("bundled", "no dtype 'int3'", dtype="int3")
    with pytest.raises(InputError, match="no device 'warp'"):
        load_pair(device="warp")
    with pytest.raises(InputError, match="not supported"):
        load_pair(device="meta")


def test_a_hub_id_without_a_network():
    words = "nobody/no-such-model was not fetched before, and HF_HUB_OFFLINE forbids it now"
    refused("nobody/no-such-model:nobody/no-such-draft", words)


def test_an_empty_folder(tmp_path: Path):
    refused(str(tmp_path), "holds no model")


def test_no_weights(pair_dir: Path):
    (pair_dir / "target" / "model.safetensors").unlink()
    refused(str(pair_dir), "has no weights")


def test_pickled_weights(pair_dir: Path):
    (pair_dir / "draft" / "model.safetensors").unlink()
    (pair_dir / "draft" / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    refused(str(pair_dir), "pickled weights")


@pytest.mark.parametrize("keep", [0, 5, 300, -1])
def test_a_truncated_shard(pair_dir: Path, keep: int):
    path = pair_dir / "target" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    refused(str(pair_dir), "model.safetensors is (cut off|no whole)")


def test_a_missing_tensor(pair_dir: Path):
    """transformers fills in random numbers, others each time."""
    file = pair_dir / "target" / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.0.self_attn.q_proj.weight"]
    save_file(tensors, file, {"format": "pt"})
    refused(str(pair_dir), r"lacks weights of its model \(model.layers.0.self_attn.q_proj.weight\)")


def test_sines_that_a_file_lacks_are_computed(tmp_path: Path):
    """Pegasus has them as weights, and most of its files do not."""
    config = PegasusConfig(
        vocab_size=64, d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16,
        decoder_ffn_dim=16, encoder_attention_heads=2, decoder_attention_heads=2,
    )  # fmt: skip
    model = PegasusForConditionalGeneration(config)
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    fewer = {key: t for key, t in tensors.items() if "embed_positions" not in key}
    save_file(fewer, tmp_path / "model.safetensors", {"format": "pt"})
    with quiet():
        found, loaded = PegasusForConditionalGeneration.from_pretrained(
            tmp_path, output_loading_info=True
        )
    assert loaded["missing_keys"]
    folder_check.check_loaded("pegasus", found, loaded)
    for key, ours in found.state_dict().items():
        assert torch.equal(ours, model.state_dict()[key])


def test_a_missing_shard(pair_dir: Path, tmp_path: Path):
    make_model().save_pretrained(tmp_path / "sharded", max_shard_size="40KB")
    shards = sorted((tmp_path / "sharded").glob("*.safetensors"))
    assert len(shards) > 1
    shards[0].unlink()
    refused(str(tmp_path / "sharded"), f"lacks its shard {shards[0].name}")


def test_tokenizers_are_compared_entry_by_entry(tiny_pair_dir: Path, tmp_path: Path):
    target, other = make_model(), make_tokenizer("quite other words and words of words, other")
    save_pair(tmp_path, target, perturb(target))
    assert len(other) == len(make_tokenizer())
    other.save_pretrained(tmp_path / "draft")
    assert not load_pair(str(tmp_path), device="cpu").same_tokenizer
    same = load_pair(str(tiny_pair_dir), device="cpu")
    assert same.same_tokenizer
    assert same.draft_eos_ids == same.eos_ids


def test_models_whose_state_cannot_be_rolled_back(tmp_path: Path):
    from transformers import MambaConfig, MambaForCausalLM

    mamba = MambaForCausalLM(MambaConfig(vocab_size=320, hidden_size=16, num_hidden_layers=1))
    mamba.save_pretrained(tmp_path / "mamba")
    make_tokenizer().save_pretrained(tmp_path / "mamba")
    refused(str(tmp_path / "mamba"), r"mamba \(mamba\) keeps a state that cannot be rolled back")


@pytest.mark.parametrize("config", ["", "[]", "{}", '{"model_type": "no-such"}'])
def test_a_broken_config(pair_dir: Path, config: str):
    (pair_dir / "target" / "config.json").write_text(config)
    refused(str(pair_dir), "target cannot be loaded")


def test_a_model_that_fails_in_every_pass_says_with_what(pair_dir: Path, monkeypatch):
    def fails(self, input_ids, past_key_values=None, **rest):
        raise RuntimeError("no kernel for fp8 here. Rebuild with more.")

    monkeypatch.setattr(LlamaForCausalLM, "forward", fails)
    refused(str(pair_dir), r"target \(llama\) does not run here: no kernel for fp8 here\.$")


@pytest.mark.cpu
def test_models_spread_over_devices_write_the_same(tiny_pair, tiny_pair_dir, tmp_path: Path):
    """Half of the target on disk, fetched by accelerate's hooks as on a machine of several GPUs."""
    from accelerate import dispatch_model

    places = dict.fromkeys(
        ("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"), "cpu"
    )
    places |= {f"model.layers.{i}": "disk" if i % 2 else "cpu" for i in range(4)} | {
        "lm_head": "cpu"
    }
    stock = load_pair(str(tiny_pair_dir), device="all", compile="off")
    spread = dispatch_model(stock.target, places, main_device="cpu", offload_dir=str(tmp_path))
    for drafter in ("model", "tree"):
        runners = [
            Runner(pair, "Once upon a time", Settings(drafter, 4, 30))
            for pair in (tiny_pair, replace(stock, target=spread))
        ]
        texts = [[t.id for s in r.decode() for t in s.committed] for r in runners]
        assert texts[0] == texts[1]
