"""Tiny random models of many families, whose most likely token keeps changing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_models import perturb, save_pair

_COMMON = {
    "vocab_size": 320,
    "eos_token_id": 0,
    "bos_token_id": 0,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
_DECODER = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
_GROUPED = {**_DECODER, "num_key_value_heads": 2}
_GEMMA = {**_GROUPED, "head_dim": 8}

DECODERS: dict[str, dict[str, Any]] = {
    "Llama": _GROUPED,
    "Mistral": {**_GROUPED, "sliding_window": None},
    "Qwen2": _GROUPED,
    "Qwen3": {**_GROUPED, "head_dim": 8},
    "Gemma2": {**_GEMMA, "sliding_window": 128},
    "Gemma3": {**_GEMMA, "sliding_window": 128},
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "GPTNeoX": _DECODER,
    "OPT": {
        **{name: n for name, n in _DECODER.items() if name != "intermediate_size"},
        "ffn_dim": 64,
        "word_embed_proj_dim": 32,
    },
    "Phi3": _GROUPED,
    "Mixtral": {**_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2},
    "Granite": {**_GROUPED, "logits_scaling": 0.5},
    "SmolLM3": {**_GROUPED, "no_rope_layers": [1, 0]},
}
_BOTH = {
    "d_model": 32,
    **{f"{side}_layers": 2 for side in ("encoder", "decoder")},
    **{f"{side}_attention_heads": 4 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": 64 for side in ("encoder", "decoder")},
    "max_position_embeddings": 96,
    "decoder_start_token_id": 0,
    "forced_eos_token_id": None,
}
WINDOWED: dict[str, dict[str, Any]] = {
    "Mistral": {**_GROUPED, "sliding_window": 20},
    "Phi3": {**_GROUPED, "sliding_window": 20},
    "Gemma2": {**_GEMMA, "sliding_window": 20},
    "Gemma3": {**_GEMMA, "sliding_window": 20},
    "Qwen2": {**_GROUPED, "sliding_window": 20, "use_sliding_window": True, "max_window_layers": 1},
    "Cohere2": {**_GROUPED, "sliding_window": 20},
    "Olmo3": {**_GROUPED, "sliding_window": 20},
    "GptOss": {**_GEMMA, "sliding_window": 20, "num_local_experts": 4, "num_experts_per_tok": 2},
    "Llama4": {
        **_GEMMA,
        "attention_chunk_size": 20,
        "intermediate_size_mlp": 64,
        "num_local_experts": 4,
    },
    "GPTNeo": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 16,
        "max_position_embeddings": 256,
    },
}
"""Layers that see some of the text alone: the last 20 tokens, or those of one chunk."""
TWO_SIDED: dict[str, dict[str, Any]] = {
    "T5": {
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 4,
        "decoder_start_token_id": 0,
    },
    "Bart": _BOTH,
}

_MOE = {
    **_GROUPED,
    "moe_intermediate_size": 32,
    "num_experts_per_tok": 2,
    "num_experts": 4,
}
_LATENT = {
    **_DECODER,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "moe_intermediate_size": 32,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
}
_OLD = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
_WINDOWED = {**_GROUPED, "sliding_window": 20}
_HYBRID = {**_WINDOWED, "layer_types": ["sliding_attention", "full_attention"]}
# Of 50 tokens and a prompt most are past these windows.
MORE: dict[str, dict[str, Any]] = {
    # Latent attention (MLA), and experts.
    "DeepseekV2": _LATENT,
    "DeepseekV3": _LATENT,
    "LongcatFlash": {
        **_LATENT,
        "num_layers": 1,
        "ffn_hidden_size": 64,
        "expert_ffn_hidden_size": 32,
        "moe_topk": 2,
        "zero_expert_num": 2,
    },
    "MiniCPM3": _LATENT,
    "Qwen3Moe": {**_MOE, "head_dim": 8},
    "Olmoe": _MOE,
    "HunYuanMoEV1": {**_MOE, "head_dim": 8, "moe_topk": 2},
    "GptOss": {**_HYBRID, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
    "Dbrx": {
        "d_model": 32,
        "n_heads": 4,
        "n_layers": 2,
        "max_seq_len": 256,
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {
            "ffn_hidden_size": 64,
            "moe_num_experts": 4,
            "moe_top_k": 2,
            "ffn_act_fn": {"name": "silu"},
        },
    },
    # A part of each head is turned.
    "Phi": _DECODER,
    "StableLm": _GROUPED,
    "Glm": {**_GROUPED, "head_dim": 8},
    "Persimmon": _DECODER,
    "Nemotron": _GROUPED,
    "GPTJ": {**_OLD, "rotary_dim": 4},
    "CodeGen": {**_OLD, "rotary_dim": 4},
    # ALiBi.
    "Bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "Mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 256},
    "Falcon": {**_DECODER, "alibi": True},
    # Learned, and computed, positions.
    "GPTNeo": {
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "window_size": 16,
        "attention_types": [[["global", "local"], 1]],
        "max_position_embeddings": 256,
    },
    "GPTBigCode": _OLD,
    "BioGpt": _DECODER,
    "XGLM": {
        "d_model": 32,
        "ffn_dim": 64,
        "num_layers": 2,
        "attention_heads": 4,
        "max_position_embeddings": 256,
    },
    "CTRL": {**_OLD, "dff": 64},
    # Windows, and what else is new.
    "Cohere": _GROUPED,
    "Cohere2": _HYBRID,
    "Olmo2": _GROUPED,
    "Olmo3": _HYBRID,
    "Starcoder2": _WINDOWED,
    "Exaone4": _HYBRID,
    "Llama4": {
        **_GROUPED,
        "head_dim": 8,
        "intermediate_size_mlp": 64,
        "num_local_experts": 4,
        "attention_chunk_size": 16,
        "layer_types": ["chunked_attention", "full_attention"],
    },
    "Ernie4_5": _GROUPED,
    "Gemma3n": {
        **_HYBRID,
        "head_dim": 8,
        "num_hidden_layers": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 320,
        "laurel_rank": 8,
        "activation_sparsity_pattern": [0.0] * 4,
    },
    "Lfm2": {**_GROUPED, "layer_types": ["full_attention"] * 2},
    # Of a kind whose models may keep a state; this one does not.
    "GraniteMoeHybrid": {
        **_GROUPED,
        "layer_types": ["attention"] * 2,
        "mamba_n_heads": 4,
        "num_local_experts": 0,
        "num_experts_per_tok": 0,
        "shared_intermediate_size": 64,
        "position_embedding_type": "rope",
    },
}
_T5 = {**TWO_SIDED["T5"], "feed_forward_proj": "gated-gelu"}
MORE_TWO_SIDED: dict[str, dict[str, Any]] = {
    "Pegasus": _BOTH,
    "PegasusX": {**_BOTH, "block_size": 16, "num_global_tokens": 4, "stagger_local_blocks": True},
    "MBart": _BOTH,
    "M2M100": _BOTH,
    "Marian": {**_BOTH, "decoder_vocab_size": 320},
    "LED": {
        **_BOTH,
        "attention_window": 16,
        "max_encoder_position_embeddings": 256,
        "max_decoder_position_embeddings": 96,
    },
    "BigBirdPegasus": _BOTH,
    "Blenderbot": {**_BOTH, "encoder_no_repeat_ngram_size": 0},
    "Mvp": _BOTH,
    "UMT5": _T5,
    "MT5": _T5,
    # Their decoders read more of the encoder's output than its last hidden state.
    "SwitchTransformers": {
        **TWO_SIDED["T5"],
        "num_decoder_layers": 2,
        "num_experts": 4,
        "num_sparse_encoder_layers": 1,
        "num_sparse_decoder_layers": 1,
    },
    "NllbMoe": {**_BOTH, "num_experts": 4, "encoder_sparse_step": 2, "decoder_sparse_step": 2},
    "LongT5": {**_T5, "local_radius": 7, "encoder_attention_type": "transient-global"},
}
_REFUSED: dict[str, dict[str, Any]] = {
    "ProphetNet": {
        "hidden_size": 32,
        **{f"num_{side}_layers": 2 for side in ("encoder", "decoder")},
        **{f"num_{side}_attention_heads": 4 for side in ("encoder", "decoder")},
        **{f"{side}_ffn_dim": 64 for side in ("encoder", "decoder")},
        "decoder_start_token_id": 2,
    },
    "FSMT": {
        **_BOTH,
        "langs": ["en", "de"],
        "src_vocab_size": 320,
        "tgt_vocab_size": 320,
        "decoder_start_token_id": 2,
        "decoder": {"vocab_size": 320, "bos_token_id": 0},
    },
    "OpenAIGPT": _OLD,
    "XLNet": {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64},
    "Bert": _DECODER,
    "DeepseekV32": {**_LATENT, "index_topk": 16, "index_n_heads": 2, "index_head_dim": 8},
    "Lfm2Moe": {**_MOE, "layer_types": ["conv", "full_attention"]},
}
_KINDS = {
    **dict.fromkeys(("GPT2", "CTRL", "OpenAIGPT", "Bert", "XLNet"), "LMHeadModel"),
    **dict.fromkeys(
        [*TWO_SIDED, *MORE_TWO_SIDED, "ProphetNet", "FSMT"], "ForConditionalGeneration"
    ),
    "Marian": "MTModel",
}


def require(name: str) -> None:
    """Skips a test of a family that is newer than the installed transformers."""
    if not hasattr(transformers, model_class(name)):
        pytest.skip(f"this transformers has no {name}")


def model_class(name: str) -> str:
    return name + _KINDS.get(name, "ForCausalLM")


def make(name: str, seed: int = 2, **changes: Any):
    """A model of the family, in evaluation mode."""
    text = "Text" if name in ("Gemma3", "Gemma3n", "Llama4") else ""
    sizes = {**WINDOWED, **DECODERS, **TWO_SIDED, **MORE, **MORE_TWO_SIDED, **_REFUSED}[name]
    config = getattr(transformers, f"{name}{text}Config")(**{**_COMMON, **sizes, **changes})
    torch.manual_seed(seed)
    model = getattr(transformers, model_class(name))(config).eval()
    for part, weight in model.named_parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=_spread(part, config.tie_word_embeddings))
    return model


def _spread(part: str, tied: bool) -> float:
    """Enough for the text to depend on what stands before, and not on one thing alone."""
    if "EncDec" in part or "encoder_attn" in part:
        return 0.08
    if "embed" in part or "shared" in part or "wte" in part:
        return 0.05 if tied else 1.0
    return 0.25


def save(name: str, folder: Path, strength: float = 0.12, **changes: Any) -> str:
    """A pair of them, the draft a perturbed twin; returns its folder."""
    target = make(name, **changes)
    return str(save_pair(folder, target, perturb(target, strength)))
