"""Weights that are no floats: what they are called, what room they need, who is left out of it."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiny_models import make_model, perturb, save_pair

from stairs_core.errors import InputError
from stairs_core.forward import faster_pass, packed_linear, quantised_weights
from stairs_core.measuring import same_text
from stairs_core.measuring.race import race
from stairs_core.measuring.runner import Runner
from stairs_core.models import devices, memory
from stairs_core.models.load import count_bytes, count_parameters, load_pair
from stairs_core.render import snippets
from stairs_core.settings.settings import Settings
from stairs_core.training.optim import fast_bfloat16

GROUPS = {
    "a": {"input_activations": {"num_bits": 8}, "weights": {"num_bits": 4, "type": "int"}},
    "b": {"weights": {"num_bits": 8}},
}
NAMES = [
    ({"quant_method": "fp8"}, "fp8"),
    ({"quant_method": "fbgemm_fp8"}, "fbgemm_fp8"),
    ({"quant_method": "mxfp4"}, "mxfp4"),
    ({"quant_method": "gptq", "bits": 8}, "gptq 8-bit"),
    ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "gptq 4-bit"),
    ({"quant_method": "awq", "bits": 4}, "awq 4-bit"),
    ({"quant_method": "auto-round", "bits": 2}, "auto-round 2-bit"),
    ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 3}}}, "hqq 3-bit"),
    ({"quant_method": "quanto", "weights": "int2"}, "quanto 2-bit"),
    ({"quant_method": "torchao", "quant_type": {"default": {"_type": "Int4X"}}}, "torchao 4-bit"),
    ({"quant_method": "compressed-tensors", "config_groups": GROUPS}, "compressed-tensors 4/8-bit"),
    ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8"),
    ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "int4"),
    ({"quant_method": "of tomorrow"}, "of tomorrow"),
    ({"bits": 5}, "quantised 5-bit"),
    (None, None),
    ({}, None),
]


@pytest.mark.parametrize(("said", "name"), NAMES)
def test_a_method_is_called_by_its_name(tiny_pair, said, name):
    for config in ({"quantization_config": said}, SimpleNamespace(quantization_config=said)):
        assert quantised_weights.label(config) == name
    target = SimpleNamespace(config=SimpleNamespace(quantization_config=said), dtype=torch.bfloat16)
    pair = replace(tiny_pair, target=target)
    assert (pair.dtype, pair.quantised) == (name or "bfloat16", name)


def test_configs_of_transformers():
    from transformers import BitsAndBytesConfig, FineGrainedFP8Config, GPTQConfig, Mxfp4Config

    for made, name in (
        (BitsAndBytesConfig(load_in_8bit=True), "int8"),
        (BitsAndBytesConfig(load_in_4bit=True), "int4"),
        (GPTQConfig(bits=8), "gptq 8-bit"),
        (FineGrainedFP8Config(), "fp8"),
        (Mxfp4Config(), "mxfp4"),
    ):
        assert quantised_weights.label(SimpleNamespace(quantization_config=made)) == name


@pytest.mark.parametrize(
    ("said", "times"),
    [(None, 2), ({"quant_method": "gptq", "bits": 8}, 1), ({"quant_method": "fp8"}, 4)]
    + [({"quant_method": "mxfp4"}, 8), ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 1)],
)
def test_the_room_that_they_need(tmp_path, monkeypatch, said, times):
    """On a CPU, where floats are float32 and fp8 and mxfp4 are made floats."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = {"dtype": "bfloat16"} | ({"quantization_config": said} if said else {})
    (tmp_path / "config.json").write_text(json.dumps(config))
    needs = memory.needed([(1_000_000, tmp_path / "config.json")])
    assert needs == {torch.device("cpu"): int(1_000_000 * times * memory._OVERHEAD)}


def test_on_a_gpu_they_stay_where_it_can_multiply_them(monkeypatch):
    gpu, said = torch.device("cuda", 1), {"quantization_config": {"quant_method": "fp8"}}
    for capability, grown in (((8, 0), 2), ((9, 0), 1)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert quantised_weights.growth(said, gpu, 2, 2) == grown
    assert quantised_weights.placed(said, gpu) == {"device_map": {"": "cuda:1"}}
    assert (
        quantised_weights.placed(said, torch.device("cpu"))
        == quantised_weights.placed({}, gpu)
        == {}
    )


def test_packed_weights_are_counted_as_what_they_stand_for():
    plain, packed_ = make_model(), make_model()
    for layer in packed_.model.layers:
        weight = layer.mlp.down_proj.weight
        layer.mlp.down_proj.register_buffer(
            "qweight", torch.zeros(weight.numel() // 8, dtype=torch.int32)
        )
        del layer.mlp.down_proj.weight
    packed_.config.quantization_config = {"quant_method": "gptq", "bits": 4}
    assert count_parameters(packed_) == count_parameters(plain)
    saved = sum(layer.mlp.down_proj.weight.numel() for layer in plain.model.layers)
    rest = sum(b.numel() * b.element_size() for b in plain.buffers())
    assert count_bytes(packed_) == count_bytes(plain) - saved * 4 + saved // 2 + rest


def test_they_are_neither_packed_again_nor_scored_again(tiny_pair, monkeypatch):
    model = make_model()
    model.config.quantization_config = {"quant_method": "awq", "bits": 4}
    monkeypatch.setattr(packed_linear, "pays", lambda _: pytest.fail("looked into"))
    assert faster_pass.build(model, "auto", pytest.fail) is model
    monkeypatch.setattr(
        "stairs_core.measuring.same_text.rescored", lambda *_: pytest.fail("scored again")
    )
    runners = [Runner(tiny_pair, p, Settings("none", max_new_tokens=3)) for p in ("a b", "c d")]
    for _ in race(runners):
        pass
    first, other = (r.recording() for r in runners)
    pair = replace(tiny_pair, target=SimpleNamespace(config=model.config, dtype=torch.float32))
    (result,) = same_text.compare([first, other], pair)
    assert not result.identical


def test_the_code_that_repeats_a_run_asks_for_what_can_be_asked_for(tiny_pair):
    runner = Runner(tiny_pair, "Once", Settings("none", max_new_tokens=1))
    list(runner.decode())
    for dtype, asked in (("gptq 8-bit", "auto"), ("int8", "int8"), ("bfloat16", "bfloat16")):
        run = replace(runner.run, dtype=dtype)
        assert f"dtype={asked!r})" in snippets.python(run)
        assert f"--dtype={asked} " in snippets.shell(run)


@pytest.mark.cpu
def test_fp8_weights_are_floats_where_nothing_multiplies_them(tmp_path):
    """As transformers saves them: in blocks, with a scale each."""
    from safetensors.torch import load_file, save_file

    save_pair(tmp_path, make_model(), perturb(make_model()))
    folder = tmp_path / "target"
    weights = load_file(folder / "model.safetensors")
    for name in [n for n in weights if "_proj" in n]:
        scale = weights[name].abs().max() / 448
        weights[name] = (weights[name] / scale).to(torch.float8_e4m3fn)
        weights[name + "_scale_inv"] = scale.reshape(1, 1)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    said = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": said}))
    pair = load_pair(str(tmp_path), "cpu")
    assert (pair.dtype, pair.quantised) == ("float32", None)
    assert pair.parameters[0] == pair.parameters[1]


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((7, 0), torch.float16), ((7, 5), torch.float16), ((8, 0), torch.bfloat16)]
    + [((9, 0), torch.bfloat16)],
)
def test_bfloat16_is_not_emulated(monkeypatch, capability, dtype):
    gpu = torch.device("cuda", 1)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)  # by emulation
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert devices.dtype("auto", gpu) is dtype
    assert fast_bfloat16(gpu) == (dtype is torch.bfloat16)
    assert devices.dtype("bfloat16", gpu) is torch.bfloat16  # who asks for it has it


def test_quantised_weights_need_their_library(tiny_pair_dir, monkeypatch):
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs bitsandbytes: pip install") as caught:
        load_pair(str(tiny_pair_dir), device="cpu", dtype="int4")
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.cpu
def test_quantised_weights_are_asked_for(tiny_pair_dir, monkeypatch):
    monkeypatch.setattr(devices, "find_spec", lambda name: True)
    for name, bits in (("int8", (True, False)), ("int4", (False, True))):
        where = devices.placement("cpu", name)
        asked = where.options["quantization_config"]
        assert (asked.load_in_8bit, asked.load_in_4bit) == bits
        assert where.options["device_map"] == {"": "cpu"}
    assert devices.placement("all", "int8").options["device_map"] == "auto"
