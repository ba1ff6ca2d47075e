"""Many texts at once, by transformers' own generation: for training data, where no clock runs."""

from __future__ import annotations

from typing import Any

import torch


def ends_of(model: Any) -> list[int]:
    """The ids that end a text."""
    ends = model.generation_config.eos_token_id
    return ends if isinstance(ends, list) else [] if ends is None else [ends]


@torch.no_grad()
def generate(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, new: int, temperature: float, seed: int
) -> torch.Tensor:
    """``ids`` [texts, tokens], padded on the left where ``mask`` is 0, and up to ``new`` tokens
    after them, on the CPU."""
    ends = ends_of(model)
    sampling = {"temperature": temperature, "top_k": 0} if temperature else {}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return model.generate(
            ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=new,
            do_sample=bool(sampling),
            pad_token_id=ends[0] if ends else 0,
            # Written in place: a growing cache would be copied whole for every token.
            cache_implementation="static",
            disable_compile=True,
            **sampling,
        ).cpu()
