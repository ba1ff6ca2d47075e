"""Sets in a model's config what its GGUF file says and transformers does not read, without which it
would be another model: widths, lengths, limits, and which layers add a bias.

The names: the package ``gguf`` (``gguf.constants``), and llama.cpp's converter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import InputError
from .gguf_header import Header

_RMS, _LAYER = "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"
_KEYS: dict[str, tuple[str, ...]] = {
    "max_position_embeddings": ("context_length",),
    "n_inner": ("feed_forward_length",),
    "ffn_hidden_size": ("feed_forward_length",),
    "moe_intermediate_size": ("expert_feed_forward_length",),
    "shared_expert_intermediate_size": ("expert_shared_feed_forward_length",),
    "num_decoder_layers": ("decoder_block_count",),
    "rms_norm_eps": (_RMS, _LAYER),
    "norm_eps": (_LAYER, _RMS),
    "norm_epsilon": (_LAYER, _RMS),
    "layer_norm_eps": (_LAYER, _RMS),
    "layer_norm_epsilon": (_LAYER, _RMS),
}
"""Fields of configs, and the pairs of a file that say them, the first that is there."""
_SCALES = {
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "logit_scale": "logit_scale",
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "attention.scale": "attention_multiplier",
    "attention.clamp_kqv": "clip_qkv",
}
"""Pairs that change numbers in the model, and the fields for them, which few configs have."""
_NEUTRAL = (None, 0, 1)  # values of such pairs that change nothing
_BIASES = {
    "attention_bias": ("attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_output.bias"),
    "mlp_bias": ("ffn_gate.bias", "ffn_up.bias", "ffn_down.bias"),
    "use_bias": ("attn_q.bias", "ffn_up.bias"),
    "bias": ("attn_qkv.bias",),
}
"""Fields of configs, and tensors of layers that show them."""


def complete(config: Any, header: Header, path: Path) -> None:
    """Sets all of it. Raises InputError, in one sentence, for a model that transformers cannot
    compute."""
    for field, keys in _KEYS.items():
        values = [header.fact(key) for key in keys]
        _set(config, field, next((v for v in values if isinstance(v, int | float) and v), None))
    if rows := header.shapes.get("token_embd.weight", ())[1:]:
        _set(config, "vocab_size", rows[0])
        # Some kinds of configs have one of their own, which a smaller vocabulary lacks.
        if (getattr(config, "pad_token_id", None) or 0) >= rows[0]:
            config.pad_token_id = None
    if header.architecture == "gemma4":  # of two widths transformers reads that of full layers
        _set(config, "head_dim", header.fact("attention.key_length_swa"))
        _set(config, "hidden_size_per_layer_input", header.fact("embedding_length_per_layer_input"))
        _set(config, "vocab_size_per_layer_input", (rows or (None,))[0])
        _set(config, "num_kv_shared_layers", header.fact("attention.shared_kv_layers"))
    else:
        _set(config, "head_dim", _head_width(header))
    if f"{header.architecture}.attention.head_count_kv" not in header.facts:  # llama.cpp: as many
        _set(config, "num_key_value_heads", header.fact("attention.head_count"))
    for field, ends in _BIASES.items():
        _set(config, field, any(name.endswith(ends) for name in header.shapes))
    if config.model_type in ("t5", "umt5"):
        _set_activation(config, header)
    _scale(config, header, path)
    _turn(config, header, path)
    if not _has(config, "use_sliding_window"):  # else llama.cpp uses no windows either
        window = header.fact("attention.sliding_window")
        if window is not None and _has(config, "sliding_window"):
            config.sliding_window = window or None


def _has(config: Any, field: str) -> bool:
    return config.attribute_map.get(field, field) in vars(config)


def _set(config: Any, field: str, value: Any) -> None:
    """Sets a field that the config has to a value that the file has."""
    if value is not None and _has(config, field):
        setattr(config, field, value)


def _head_width(header: Header) -> int | None:
    """The width of a query's head: said, or else seen from the first queries' weights."""
    if width := header.fact("attention.key_length"):
        return width
    heads = header.fact("attention.head_count")
    shapes = (s for name, s in header.shapes.items() if name.endswith("attn_q.weight"))
    rows = next(shapes, ())[1:]
    return rows[0] // heads if rows and isinstance(heads, int) and heads else None


def _set_activation(config: Any, header: Header) -> None:
    """T5 in llama.cpp: gated GELU where there are gates, else ReLU."""
    gated = any("ffn_gate." in name for name in header.shapes)
    config.feed_forward_proj = "gated-gelu" if gated else "relu"
    config.is_gated_act = gated
    config.dense_act_fn = "gelu_new" if gated else "relu"


def _scale(config: Any, header: Header, path: Path) -> None:
    for key, field in _SCALES.items():
        value = header.fact(key)
        if _has(config, field):
            if value is not None:
                setattr(config, field, value or None)
        elif value not in _NEUTRAL:
            raise InputError(
                f"{path.name} says {header.architecture}.{key}, which transformers does not "
                f"compute in a {config.model_type} model: use the model's safetensors."
            )


def _turn(config: Any, header: Header, path: Path) -> None:
    """Sets how fast rotary angles grow, and how much of a head they turn."""
    usual = getattr(config, "rope_parameters", None)
    if not usual:
        return
    theta, windowed = header.fact("rope.freq_base"), header.fact("rope.freq_base_swa")
    if "full_attention" in usual:
        changes = {"full_attention": theta, "sliding_attention": windowed}
        config.rope_parameters = usual | {
            kind: usual[kind] | {"rope_theta": value}
            for kind, value in changes.items()
            if value and usual.get(kind)
        }
        return
    found = dict(usual) | ({"rope_theta": theta} if theta else {})
    turned = header.fact("rope.dimension_count")
    width = _head_width(header) or config.hidden_size // config.num_attention_heads
    if turned and "partial_rotary_factor" in found:
        found["partial_rotary_factor"] = turned / width
    elif turned and turned != width:
        raise InputError(
            f"{path.name} turns {turned} of {width} numbers of a head, which transformers does not "
            f"compute in a {config.model_type} model: use the model's safetensors."
        )
    config.rope_parameters = found
