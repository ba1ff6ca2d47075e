"""Models at the start of their training."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM

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
