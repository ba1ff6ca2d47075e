"""Creates models for training: with new weights, or with those of an earlier run."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ..errors import InputError
from .recipes import Recipe, Shape
from .stream import END_ID


def build(shape: Shape, recipe: Recipe, seed: int) -> LlamaForCausalLM:
    """A freshly initialised Llama with tied embeddings."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=recipe.vocab,
            hidden_size=shape.hidden,
            intermediate_size=shape.mlp,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.hidden // shape.head,
            num_key_value_heads=shape.hidden // shape.head,
            max_position_embeddings=recipe.positions,
            tie_word_embeddings=True,
            attention_bias=False,
            mlp_bias=False,
            rms_norm_eps=1e-5,
            bos_token_id=END_ID,
            eos_token_id=END_ID,
            pad_token_id=END_ID,
        )
    )


def start_from(model: LlamaForCausalLM, folder: Path) -> dict:
    """Load the weights of the target in a pair's ``folder`` into ``model``; returns that pair's
    metrics.

    Raises ``InputError`` when there is no such pair or its target has another shape.
    """
    try:
        earlier = json.loads((folder / "metrics.json").read_text())
        known = LlamaForCausalLM.from_pretrained(
            folder / "target", dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
        model.load_state_dict(known.state_dict())
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"The target in {folder} cannot be gone on with: give a pair that stairs train made "
            "with this recipe."
        ) from error
    return earlier
