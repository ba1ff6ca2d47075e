"""Tiny random models of many families, whose most likely token keeps changing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conftest import perturb, save_pair

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
        "num_local_experts": 2,
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
    "Bart": {
        "d_model": 32,
        **{f"{side}_layers": 2 for side in ("encoder", "decoder")},
        **{f"{side}_attention_heads": 4 for side in ("encoder", "decoder")},
        **{f"{side}_ffn_dim": 64 for side in ("encoder", "decoder")},
        "max_position_embeddings": 96,
        "decoder_start_token_id": 0,
        "forced_eos_token_id": None,
    },
}


def make(name: str, seed: int = 2, **changes: Any):
    """A model of the family, in evaluation mode."""
    import torch
    import transformers

    text = "Text" if name in ("Gemma3", "Llama4") else ""
    config_name = f"{name}{text}Config"
    kind = "ForConditionalGeneration" if name in TWO_SIDED else "ForCausalLM"
    kind = "LMHeadModel" if name == "GPT2" else kind
    sizes = {**WINDOWED, **DECODERS, **TWO_SIDED}[name]
    config = getattr(transformers, config_name)(**{**_COMMON, **sizes, **changes})
    torch.manual_seed(seed)
    model = getattr(transformers, name + kind)(config).eval()
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
