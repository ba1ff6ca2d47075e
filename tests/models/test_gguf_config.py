"""GGUF files whose pairs and biases transformers passes over: what is unpacked computes the numbers
of the model that was converted."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf_files
import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    LlamaConfig,
    PreTrainedModel,
)

from stairs_core.errors import InputError
from stairs_core.models import gguf_unpack
from stairs_core.quiet import quiet

SIZES = {
    "vocab_size": gguf_files.VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": None,
    "tie_word_embeddings": False,
}
PAIRS = {
    "context_length": 128,
    "embedding_length": 64,
    "block_count": 2,
    "feed_forward_length": 96,
    "attention__head_count": 4,
    "attention__head_count_kv": 2,
}
OLD_SIZES = {"vocab_size": gguf_files.VOCABULARY, "hidden_size": 64, "n_layer": 2, "n_head": 4}
"""Of GPT-2 and BLOOM."""
OLD_PAIRS = PAIRS | {"feed_forward_length": 256, "attention__head_count_kv": 4}
THETA = {"rope_type": "default", "rope_theta": 5e5}
RMS, LAYER = "attention__layer_norm_rms_epsilon", "attention__layer_norm_epsilon"
EPS = float(np.float32(3e-3))
HEAD = {"attention__key_length": 32, "attention__value_length": 32}
FACTORS = {"short_factor": [1.0] * 6, "long_factor": [1.5] * 6}
LONG = {"rope_type": "longrope", "rope_theta": 5e5, "partial_rotary_factor": 0.75, **FACTORS}


def as_it_is(name: str, weight: torch.Tensor) -> torch.Tensor | None:
    return None if name == "lm_head.weight" else weight


def untied(name: str, weight: torch.Tensor) -> torch.Tensor | None:
    return weight


def plus_one(name: str, weight: torch.Tensor) -> torch.Tensor | None:
    return as_it_is(name, weight + 1 if name.endswith("norm.weight") else weight)


def of_nemotron(name: str, weight: torch.Tensor) -> torch.Tensor | None:
    return weight + 1 if "norm" in name and name.endswith("weight") else weight


def of_llama(name: str, weight: torch.Tensor) -> torch.Tensor | None:
    heads = 4 if "q_proj" in name else 2 if "k_proj" in name else 0
    if not heads:
        return weight
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.transpose(1, 2).reshape(weight.shape)


def of_gpt2(name: str, weight: torch.Tensor) -> torch.Tensor | None:
    if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
        return weight.T
    return as_it_is(name, weight)


def of_t5(name: str, weight: torch.Tensor) -> torch.Tensor | None:
    return None if name.endswith("embed_tokens.weight") else weight


def scaled(kind: str, sizes: dict[str, Any]) -> PreTrainedModel:
    """A random model of a kind, with random norms and biases too."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **sizes)
    family: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    model = family.from_config(config).eval()
    for weight in model.parameters():
        weight.data.normal_(0, 0.15).add_(0.5 if weight.dim() == 1 else 0)
    return model


def unpacked(file: Path, family: Any = AutoModelForCausalLM) -> PreTrainedModel:
    with quiet():
        gguf_unpack._unpack(file, file.parent, "a note")
        return family.from_pretrained(file.parent / "model", dtype=torch.float32).eval()


def compared(model: PreTrainedModel, found: PreTrainedModel) -> None:
    ids = torch.randint(1, gguf_files.VOCABULARY, (1, 60))
    more = {"decoder_input_ids": ids[:, :20]} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        wanted, ours = (m(ids, **more).logits for m in (model, found))
    torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-5)


CASES: dict[str, tuple[str, str, Callable, dict[str, Any], dict[str, Any]]] = {
    "starcoder2": ("starcoder2", "starcoder2", untied,
        {"rope_parameters": THETA, "norm_epsilon": EPS}, {LAYER: EPS, "rope__freq_base": 5e5}),
    "stablelm": ("stablelm", "stablelm", untied,
        {"rope_parameters": THETA | {"partial_rotary_factor": 0.5}, "layer_norm_eps": EPS},
        {LAYER: EPS, "rope__freq_base": 5e5, "rope__dimension_count": 8}),
    "nemotron": ("nemotron", "nemotron", of_nemotron,
        {"rope_parameters": THETA | {"partial_rotary_factor": 1.0}, "norm_eps": EPS},
        {LAYER: EPS, "rope__freq_base": 5e5, "rope__dimension_count": 16}),
    "phi3 windows": ("phi3", "phi3", untied, {"sliding_window": 16, "rms_norm_eps": EPS},
        {RMS: EPS, "attention__sliding_window": 16, "rope__dimension_count": 16}),
    "phi3 no windows": ("phi3", "phi3", untied, {"rms_norm_eps": EPS},
        {RMS: EPS, "attention__sliding_window": 0, "rope__dimension_count": 16}),
    "phi3 partial": ("phi3", "phi3", untied,
        {"rope_parameters": THETA | {"partial_rotary_factor": 0.5}, "rms_norm_eps": EPS},
        {RMS: EPS, "rope__freq_base": 5e5, "rope__dimension_count": 8}),
    "gemma2": ("gemma2", "gemma2", plus_one,
        {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16, "rms_norm_eps": EPS}
        | {"attn_logit_softcapping": 3.0, "final_logit_softcapping": 5.0,
            "tie_word_embeddings": True},
        {RMS: EPS, "attention__sliding_window": 16, **HEAD, "attn_logit_softcapping": 3.0,
            "final_logit_softcapping": 5.0}),
    "gemma3": ("gemma3_text", "gemma3", plus_one,
        {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16, "rms_norm_eps": EPS}
        | {"final_logit_softcapping": 5.0, "tie_word_embeddings": True},
        {RMS: EPS, "attention__sliding_window": 16, **HEAD, "rope__freq_base": 1e6,
            "final_logit_softcapping": 5.0}),
    "qwen3": ("qwen3", "qwen3", untied,
        {"head_dim": 32, "attention_bias": True, "rms_norm_eps": EPS}, {RMS: EPS, **HEAD}),
    "qwen3 unsaid": ("qwen3", "qwen3", untied, {"head_dim": 32, "rms_norm_eps": EPS}, {RMS: EPS}),
    "llama": ("llama", "llama", of_llama,
        {"attention_bias": True, "mlp_bias": True, "rms_norm_eps": EPS}, {RMS: EPS}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_numbers_are_those_of_the_model(tmp_path, case):
    kind, architecture, respell, sizes, pairs = CASES[case]
    model = scaled(kind, SIZES | sizes)
    file = gguf_files.convert(tmp_path / "m.gguf", architecture, model, respell, **(PAIRS | pairs))
    compared(model, unpacked(file))


def test_falcon(tmp_path):
    sizes = {"vocab_size": gguf_files.VOCABULARY, "hidden_size": 64, "num_hidden_layers": 2}
    model = scaled("falcon", sizes | {"num_attention_heads": 4, "layer_norm_epsilon": EPS})
    pairs = OLD_PAIRS | {"attention__head_count_kv": 1, LAYER: EPS}
    compared(model, unpacked(gguf_files.convert(
        tmp_path / "m.gguf", "falcon", model, as_it_is, **pairs
    )))  # fmt: skip


def test_gemma4(tmp_path):
    """Two widths of heads, and a scalar of each layer that transformers looks for elsewhere."""
    sizes = SIZES | {"head_dim": 256, "global_head_dim": 64, "sliding_window": 16}
    sizes |= {"rms_norm_eps": EPS, "tie_word_embeddings": True, "final_logit_softcapping": 5.0}
    sizes |= {"hidden_size_per_layer_input": 8, "num_kv_shared_layers": 0}
    sizes |= {"vocab_size_per_layer_input": gguf_files.VOCABULARY}
    model = scaled("gemma4_text", sizes)
    for name, value in model.named_buffers():
        if name.endswith("layer_scalar"):
            value.fill_(0.7)
    pairs = {RMS: EPS, "attention__key_length": 64, "attention__key_length_swa": 256}
    pairs |= {"attention__sliding_window": 16, "rope__freq_base": 1e6, "rope__freq_base_swa": 1e4}
    pairs |= {"final_logit_softcapping": 5.0, "embedding_length_per_layer_input": 8}
    pairs |= {"attention__shared_kv_layers": 0}
    file = gguf_files.convert(tmp_path / "m.gguf", "gemma4", model, as_it_is, **(PAIRS | pairs))
    compared(model, unpacked(file))


def test_gpt2_of_another_length(tmp_path):
    sizes = OLD_SIZES | {"n_positions": 128, "n_inner": 96}
    pairs = OLD_PAIRS | {LAYER: 1e-5, "feed_forward_length": 96}
    model = scaled("gpt2", sizes)
    file = gguf_files.convert(tmp_path / "m.gguf", "gpt2", model, of_gpt2, **pairs)
    compared(model, unpacked(file))


@pytest.mark.parametrize("gated", [True, False])
def test_t5(tmp_path, gated):
    """Its file does not say by what function: as in llama.cpp."""
    sizes = {"vocab_size": gguf_files.VOCABULARY, "d_model": 64, "d_kv": 16, "d_ff": 96}
    sizes |= {"num_layers": 2, "num_heads": 4, "tie_word_embeddings": False}
    sizes |= {"feed_forward_proj": "gated-gelu" if gated else "relu", "decoder_start_token_id": 0}
    model = scaled("t5", sizes)
    pairs = PAIRS | {"attention__key_length": 16, "attention__value_length": 16, LAYER: 1e-6}
    pairs |= {"attention__relative_buckets_count": 32, "decoder_start_token_id": 0}
    file = gguf_files.convert(tmp_path / "m.gguf", "t5", model, of_t5, **pairs)
    compared(model, unpacked(file, AutoModelForSeq2SeqLM))


def test_phi_4_mini(tmp_path):
    """Factors for as many frequencies as it turns."""
    sizes = SIZES | {"rms_norm_eps": EPS, "original_max_position_embeddings": 64}
    lengths = {"original_max_position_embeddings": 64}
    model = scaled("phi3", sizes | {"rope_parameters": LONG | lengths})
    pairs = {RMS: EPS, "rope__freq_base": 5e5, "rope__dimension_count": 12}
    pairs |= {"rope__scaling__original_context_length": 64}
    more = {f"rope_factors_{n}.weight": np.array(FACTORS[f"{n}_factor"]) for n in ("short", "long")}
    file = gguf_files.convert(
        tmp_path / "m.gguf", "phi3", model, untied, more=more, **(PAIRS | pairs)
    )
    compared(model, unpacked(file))


def test_biases_that_a_file_leaves_out_are_zero(tmp_path):
    """InternLM's, as a Llama: the output of attention has none, and the config has one switch."""
    model = scaled("llama", SIZES | {"attention_bias": True, "rms_norm_eps": EPS})
    for name, weight in model.named_parameters():
        if name.endswith("o_proj.bias"):
            weight.data.zero_()

    def respell(name: str, weight: torch.Tensor) -> torch.Tensor | None:
        return None if name.endswith("o_proj.bias") else of_llama(name, weight)

    file = gguf_files.convert(tmp_path / "m.gguf", "llama", model, respell, **(PAIRS | {RMS: EPS}))
    compared(model, unpacked(file))


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (
            {"more": {f"blk.0.attn_{n}_norm.weight": np.ones(64) for n in "qk"}},
            "has tensors that transformers has no place for in a llama model "
            "(blk.0.attn_q_norm.weight and 1 more): use the model's safetensors.",
        ),
        ({"llama__logit_scale": 2.0}, "says llama.logit_scale, which transformers does not"),
        ({"llama__rope__dimension_count": 32}, "turns 32 of 64 numbers of a head, which"),
    ],
    ids=["tensors", "scale", "angles"],
)
def test_what_transformers_does_not_compute_is_refused(tmp_path, file, words):
    path = gguf_files.write(tmp_path / "other.gguf", **file)
    with quiet(), pytest.raises(InputError, match=re.escape(words)):
        gguf_unpack._unpack(path, tmp_path, "a note")


def test_layers_that_guess_ahead_are_left_out():
    """Of Qwen 3.5, after its last layer."""
    header = SimpleNamespace(fact=lambda name: 1)
    config = LlamaConfig(num_hidden_layers=2)
    names = ["model.layers.2.self_attn.q_proj.weight", "blk.2.nextn.eh_proj.weight"]
    gguf_unpack._check_placed(Path("m.gguf"), config, header, names)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"no place for in a llama model \(blk.1.odd\): use"):
        gguf_unpack._check_placed(Path("m.gguf"), config, header, ["blk.1.odd"])  # type: ignore[arg-type]


def test_as_many_keys_as_queries_where_a_file_does_not_say(tmp_path):
    sizes = SIZES | {"num_key_value_heads": 4, "rms_norm_eps": EPS}
    model = scaled("qwen2", sizes)
    pairs = {name: value for name, value in PAIRS.items() if not name.endswith("kv")}
    file = gguf_files.convert(tmp_path / "m.gguf", "qwen2", model, untied, **pairs, **{RMS: EPS})
    compared(model, unpacked(file))


def test_what_a_model_is_whole_without_may_be_there(tmp_path):
    more = {"rope_freqs.weight": np.ones(32), "blk.0.attn_rot_embd.weight": np.ones(32)}
    with quiet():
        gguf_unpack._unpack(gguf_files.write(tmp_path / "m.gguf", more=more), tmp_path, "a note")
