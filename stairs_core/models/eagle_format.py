"""The config of an EAGLE-3 head, as vLLM's ``speculators`` library writes and reads it.

Version 0.9.0, ``models/eagle3/config.py``; it also stands in published heads. The keys of
``heads.described``, which tell the head's target, are added by whoever trains one here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig

from ..errors import InputError
from ..forward.eagle_head import EagleShape

_LAYER = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
)
_FLAGS = ("norm_before_residual", "norm_before_fc", "fc_norm", "norm_output")


def config_of(shape: EagleShape, target: Any, guesses: int) -> dict[str, Any]:
    """The config of a head of that shape for ``target``. ``guesses``: that a server should draft in
    a step."""
    layer = shape.layer
    rope = shape.rope
    sizes = {name: getattr(layer, name) for name in _LAYER}
    name = getattr(target.config, "name_or_path", "")
    verifier = {
        "architectures": list(target.config.architectures or [type(target).__name__]),
        "name_or_path": None if not name or Path(name).exists() else name,
    }
    greedy = {
        "proposal_type": "greedy",
        "speculative_tokens": guesses,
        "verifier_accept_k": 1,
        "accept_tolerance": 0.0,
    }
    return {
        "architectures": ["Eagle3Speculator"],
        "speculators_model_type": "eagle3",
        "speculators_version": "0.9.0",
        "speculators_config": {
            "algorithm": "eagle3",
            "default_proposal_method": "greedy",
            "proposal_methods": [greedy],
            "verifier": verifier,
        },
        "transformer_layer_config": {
            "model_type": "qwen3" if shape.head_norms else "llama",
            **sizes,
            "head_dim": shape.head,
            "hidden_act": "silu",
            "attention_bias": bool(layer.attention_bias),
            "mlp_bias": bool(layer.mlp_bias),
            "rms_norm_eps": layer.rms_norm_eps,
            "rope_theta": rope.get("rope_theta"),
            "rope_parameters": rope,
            "tie_word_embeddings": False,
        },
        "draft_vocab_size": shape.vocabulary,
        "eagle_aux_hidden_state_layer_ids": [*shape.features],
        **{name: getattr(shape, name) for name in _FLAGS},
    }


def beside(described: Mapping[str, Any]) -> dict[str, Any]:
    """Those keys of ``heads.described`` that such a config may have: to the library, the target's
    vocabulary is a property of the layer's config, and a config that has the key does not load."""
    return {name: value for name, value in described.items() if name != "target_vocab_size"}


def shape_of(config: Mapping[str, Any], target: Any, folder: Path) -> EagleShape:
    """The shape that a head's config describes, on ``target``. Raises InputError, with the reason,
    for a config that is damaged or asks for what cannot be run here."""
    text = target.config.get_text_config()
    given = config.get("transformer_layer_config")
    kind = given.get("model_type", "qwen3") if isinstance(given, dict) else None
    if not isinstance(given, dict) or kind not in ("llama", "qwen3"):
        raise InputError(
            f"{folder} cannot be run here: its layer is {kind!r:.40}, not one of llama or qwen3."
        )
    layer = _layer(given, folder)
    if layer.num_hidden_layers != 1 or layer.hidden_act != "silu":
        raise InputError(
            f"{folder} cannot be run here: it has {layer.num_hidden_layers} layers with "
            f"{layer.hidden_act}, and one with silu is known."
        )
    depth = text.num_hidden_layers
    features = config.get("eagle_aux_hidden_state_layer_ids") or [2, depth // 2, depth - 3]
    numbers = isinstance(features, list) and all(type(n) is int for n in features)
    if not numbers or not all(1 <= n <= depth for n in features):
        raise InputError(
            f"{folder} reads the layers {features!r:.60}, and the target has layers 1 to {depth}: "
            "it belongs to another target."
        )
    size = config.get("draft_vocab_size")
    if type(size) is not int or not 1 <= size <= text.vocab_size:
        raise InputError(f"{folder} is damaged: its config.json says draft_vocab_size = {size!r}.")
    return EagleShape(
        layer,
        tuple(features),
        text.hidden_size,
        size,
        **{name: config.get(name) is True for name in _FLAGS},
        head_norms=kind == "qwen3",
    )


def _layer(given: dict[str, Any], folder: Path) -> LlamaConfig:
    for name in _LAYER[:5]:
        if type(given.get(name)) is not int or given[name] < 1:
            raise InputError(
                f"{folder} is damaged: its config.json says {name} = {given.get(name)!r}."
            )
    try:
        return LlamaConfig(**{k: v for k, v in given.items() if k != "model_type"})
    except Exception as e:
        raise InputError(f"{folder} is damaged: its transformer_layer_config is no layer's.") from e


def completed(
    tensors: Mapping[str, torch.Tensor], vocabulary: int, tokens: int
) -> dict[str, torch.Tensor]:
    """A head's tensors without those that only training needs, and with the maps between the two
    vocabularies, which a file may leave out where they are the same."""
    found = {name: t for name, t in tensors.items() if not name.startswith("verifier_")}
    if vocabulary == tokens:
        found.setdefault("d2t", torch.zeros(vocabulary, dtype=torch.long))
        found.setdefault("t2d", torch.ones(tokens, dtype=torch.bool))
    return found
