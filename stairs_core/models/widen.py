"""Widens a small Llama to a large one that computes the same function at the large one's cost.

For measuring a large pair's speed where none is available: the text and the acceptance are the
small pair's, and every pass costs as much as in the large shape. It is no better model, and every
trace of it says that it was widened.

After Net2Net (arXiv 1511.05641): added weights that write to the residual stream are zero; those
that read from it may have any value, since they are multiplied with zeros.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from ..errors import InputError
from ..quiet import quiet
from . import folder_check, source
from .load import load_stock, load_tokenizer, locate

_NOISE = 0.02  # scale of added weights without effect: a GPU would multiply zeros faster


@dataclass(frozen=True, slots=True)
class Size:
    """A Llama's size: width of the residual stream, layers, width of the MLP."""

    hidden: int
    layers: int
    mlp: int

    @classmethod
    def parse(cls, text: str) -> Size:
        """From ``4096x32x11008``; raises InputError for anything else."""
        found = re.fullmatch(r"(\d+)x(\d+)x(\d+)", text)
        if not found:
            raise InputError(f"{text!r:.40} is no size: write WIDTHxLAYERSxMLP, as 4096x32x11008.")
        return cls(*map(int, found.groups()))


def widen_pair(spec: str, out: Path, target: Size, draft: Size | None, dtype: torch.dtype) -> None:
    """Writes target/ and draft/ of these sizes to ``out``. Raises InputError for models other than
    Llamas."""
    names = locate(spec)
    if draft is not None and names[1] is None:
        raise InputError(f"{spec} has no draft to widen: leave out --draft.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already: name a folder that is empty or new.")
    every = zip(("target", "draft"), names, (target, draft), strict=True)
    wanted = [(role, name, size) for role, name, size in every if name and size]
    for _, name, size in wanted:  # both, before one of them is written for minutes
        _check(_config(name), size)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise InputError(f"{out} cannot be made: {e.strerror}.") from e
    for role, name, size in wanted:
        small = load_stock(name, torch.device("cpu"), torch.float32)
        with quiet():
            widen(small, size, dtype).save_pretrained(out / role, max_shard_size="4GB")
            load_tokenizer(name).save_pretrained(out / role)


def _config(name: str) -> Any:
    folder = source.folder(name, "model", str)
    folder_check.check_folder(str(folder))
    with quiet():
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _check(old: Any, size: Size) -> None:
    """Raises InputError where a model with the config ``old`` cannot be widened to that size."""
    if old.model_type != "llama":
        raise InputError(f"Only Llamas can be widened, and this is a {old.model_type}.")
    head, group = old.head_dim, old.num_attention_heads // old.num_key_value_heads
    least = Size(old.hidden_size, old.num_hidden_layers, old.intermediate_size)
    small = size.hidden < least.hidden or size.layers < least.layers or size.mlp < least.mlp
    fewer = size.hidden // head < old.num_attention_heads
    if small or fewer or size.hidden % (head * group):
        raise InputError(
            f"{size.hidden}x{size.layers}x{size.mlp} will not do: it needs a width that "
            f"{head * group} divides, and at least {least.hidden}x{least.layers}x{least.mlp}."
        )


def widen(model: Any, size: Size, dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    """A Llama of that size with the same logits as ``model``, a smaller one."""
    old = model.config
    _check(old, size)
    head, group = old.head_dim, old.num_attention_heads // old.num_key_value_heads
    shrink = old.hidden_size / size.hidden
    values = old.to_dict() | {
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "intermediate_size": size.mlp,
        "num_attention_heads": size.hidden // head,
        "num_key_value_heads": size.hidden // head // group,
        # RMSNorm averages over more numbers, of which the added ones are zero.
        "rms_norm_eps": old.rms_norm_eps * shrink,
        "dtype": str(dtype).removeprefix("torch."),
        "stairs_widened": True,
    }
    with torch.device("meta"):
        wide = LlamaForCausalLM(LlamaConfig(**values))
    known, generator = model.state_dict(), torch.Generator().manual_seed(0)
    state = {
        name: _tensor(name, t.shape, known.get(name), shrink, generator).to(dtype)
        for name, t in wide.state_dict().items()
    }
    wide.load_state_dict(state, assign=True)
    if old.tie_word_embeddings:
        wide.tie_weights()
    wide.generation_config = model.generation_config
    wide.model.rotary_emb = LlamaRotaryEmbedding(
        wide.config
    )  # has no weights, so it was not loaded
    return wide.eval()


def _tensor(
    name: str,
    shape: torch.Size,
    known: torch.Tensor | None,
    shrink: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """A weight of the larger model, with the smaller model's in its upper left corner."""
    if "norm" in name:
        out = torch.ones(shape)
        known = None if known is None else known * math.sqrt(shrink)
    elif re.search(r"(embed_tokens|o_proj|down_proj)\.", name):  # writes to the residual stream
        out = torch.zeros(shape)
    else:
        out = torch.randn(shape, generator=generator) * _NOISE
    if known is not None:
        out[tuple(slice(n) for n in known.shape)] = known
    return out
