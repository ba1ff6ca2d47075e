"""The forward pass of Llama-like models over a static cache: shapes alone say what it does.

Which tokens, where they stand and how much of the cache is filled are read from tensors, so a CUDA
graph can record the pass once and replay it (``cuda_graphs``). After gpt-fast's ``model.py``.
The weights are the model's own. Differences from its pass: linears with the same input are one
matrix; the residual is added within a linear's product; query heads that share keys are rows of one
product; and keys and values are rotated and written together, the values by an angle of zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .lean_llama import FAMILIES, is_plain
from .small_draft import output_rows

QWEN3 = "qwen3"
"""A Llama that norms each head's queries and keys."""


def fits(model: Any) -> bool:
    """Whether this file implements all of the model."""
    return is_plain(model, (*FAMILIES, QWEN3))


BITS = 63
"""The most places that a tree's tokens may differ in: the bits of a number, but for its sign."""


@dataclass(frozen=True, slots=True)
class Branches:
    """A tree's tokens: their positions in the text, ``rows`` [tokens] each, and which places of the
    cache each sees: those before ``place`` [1], and that + j where bit j of its number is set."""

    positions: torch.Tensor
    place: torch.Tensor
    rows: torch.Tensor


class StaticLlama:
    """The pass of one model, for which ``fits`` holds."""

    def __init__(self, model: Any) -> None:
        """Joins some of the model's weights in memory; its own layers keep views of them."""
        config = model.config
        self.device, self.dtype = model.device, model.dtype
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._head = model.model.layers[0].self_attn.head_dim
        self._eps = config.rms_norm_eps
        self._embedding = model.model.embed_tokens.weight
        self._rotary = model.model.rotary_emb
        self._layers = [_Layer(layer) for layer in model.model.layers]
        rows, self._spread = output_rows(model.lm_head)
        self._norm, self._lm_head = model.model.norm.weight, rows.weight

    def new_cache(self, capacity: int) -> torch.Tensor:
        """[layers, 2 * heads, capacity, head]: of each layer its keys, then its values. Zeros,
        since masked entries must not be NaN."""
        shape = len(self._layers), 2 * self._kv_heads, capacity, self._head
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def __call__(
        self,
        ids: torch.Tensor,
        start: torch.Tensor,
        cache: torch.Tensor,
        seen: int,
        layers: Sequence[int] = (),
        tree: Branches | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logits [tokens, vocabulary], and the output of ``layers``, [tokens, layers, width] (None
        for no layers), each layer named by how many have run.

        ``ids``: [tokens]. ``start``: [1], how many tokens the cache holds; theirs come after.
        ``cache``: as ``new_cache`` makes it. ``seen``: how much of it the pass reads; a mask hides
        what comes after each token, or is not on its branch of ``tree``. ``start`` + tokens must
        not be more than ``seen``.
        """
        places = start + torch.arange(len(ids), device=ids.device)
        turns = self._turns(places if tree is None else tree.positions)
        mask = self._mask(places, seen, tree)
        x = F.embedding(ids, self._embedding)
        found = {}
        for number, (layer, held) in enumerate(zip(self._layers, cache, strict=True), 1):
            normed = F.rms_norm(x, x.shape[-1:], layer.attention_norm, self._eps)
            heads = F.linear(normed, *layer.qkv).unflatten(-1, (-1, self._head))
            if layer.head_norms is not None:
                heads = self._normed(heads, *layer.head_norms)
            new = self._rotated(heads, *turns)
            held.index_copy_(1, places, new[:, self._heads :].transpose(0, 1))
            _add(x, self._attend(new[:, : self._heads], held[:, :seen], mask), layer.o)
            normed = F.rms_norm(x, x.shape[-1:], layer.mlp_norm, self._eps)
            gate, up = F.linear(normed, *layer.gate_up).chunk(2, -1)
            _add(x, F.silu(gate) * up, layer.down)
            if number in layers:
                found[number] = x.clone()
        logits = F.linear(F.rms_norm(x, x.shape[-1:], self._norm, self._eps), self._lm_head)
        return self._spread(logits), torch.stack([found[n] for n in layers], 1) if layers else None

    def _mask(self, places: torch.Tensor, seen: int, tree: Branches | None) -> torch.Tensor:
        """[1, 1, groups * tokens, seen]: 0 for what a query may read, else -inf."""
        keys = torch.arange(seen, device=places.device)
        if tree is None:
            hidden = keys > places[:, None]
        else:
            gap = keys - tree.place
            hidden = (gap >= 0) & ((tree.rows[:, None] >> gap.clamp(0, BITS)) & 1 == 0)
        mask = torch.zeros(hidden.shape, dtype=self.dtype, device=places.device)
        return mask.masked_fill_(hidden, float("-inf")).repeat(self._groups, 1)[None, None]

    @property
    def _groups(self) -> int:
        """Query heads that share a head's keys."""
        return self._heads // self._kv_heads

    def _turns(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines, [tokens, all heads, head]: 1 and 0 for the values. The sines of a
        head's first half are negative: that is what the second half is multiplied with."""
        cos, sin = (t[0, :, None] for t in self._rotary(self._embedding, places[None]))
        half = self._head // 2
        sin = torch.cat([-sin[..., :half], sin[..., half:]], -1)
        turned, plain = self._heads + self._kv_heads, (len(places), self._kv_heads, self._head)
        cos = torch.cat([cos.expand(-1, turned, -1), cos.new_ones(plain)], 1)
        return cos, torch.cat([sin.expand(-1, turned, -1), sin.new_zeros(plain)], 1)

    def _normed(self, heads: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        """Heads, [tokens, all heads, head]: queries and keys are normed by these weights."""
        queries, keys, values = heads.split((self._heads, self._kv_heads, self._kv_heads), 1)
        queries = F.rms_norm(queries, q.shape, q, self._eps)
        return torch.cat([queries, F.rms_norm(keys, k.shape, k, self._eps), values], 1)

    def _rotated(self, heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """[tokens, all heads, head]: queries, keys and values."""
        swapped = heads.unflatten(-1, (2, -1)).flip(-2).flatten(-2)
        return torch.addcmul(heads * cos, swapped, sin)

    def _attend(self, q: torch.Tensor, held: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[tokens, width], from queries [tokens, heads, head] and ``held`` [2 * heads, seen,
        head]."""
        tokens = len(q)
        keys, values = held[None].chunk(2, 1)
        groups = q.unflatten(1, (self._kv_heads, -1))
        rows = groups.permute(1, 2, 0, 3).reshape(1, self._kv_heads, -1, self._head)
        mixed = F.scaled_dot_product_attention(rows, keys, values, attn_mask=mask)
        return mixed[0].unflatten(1, (-1, tokens)).permute(2, 0, 1, 3).reshape(tokens, -1)


Matrix = tuple[torch.Tensor, torch.Tensor | None]
"""The weight and the bias of a linear."""


class _Layer:
    """One layer's weights."""

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.attention_norm = layer.input_layernorm.weight
        self.qkv = _joined([attention.q_proj, attention.k_proj, attention.v_proj])
        self.head_norms = None
        if hasattr(attention, "q_norm"):
            self.head_norms = attention.q_norm.weight, attention.k_norm.weight
        self.o: Matrix = attention.o_proj.weight, attention.o_proj.bias
        self.mlp_norm = layer.post_attention_layernorm.weight
        self.gate_up = _joined([mlp.gate_proj, mlp.up_proj])
        self.down: Matrix = mlp.down_proj.weight, mlp.down_proj.bias


def _add(x: torch.Tensor, y: torch.Tensor, matrix: Matrix) -> None:
    """Adds a linear's output for ``y`` to ``x`` in place, within the product."""
    weight, bias = matrix
    x.addmm_(y, weight.t())
    if bias is not None:
        x += bias


def _joined(linears: list[nn.Linear]) -> Matrix:
    """One matrix whose output is the linears' outputs, concatenated. Their own weights become views
    of it, so that they are in memory once."""
    weight = torch.cat([m.weight.detach() for m in linears])
    sizes = [m.out_features for m in linears]
    for linear, part in zip(linears, weight.split(sizes), strict=True):
        linear.weight = nn.Parameter(part, requires_grad=False)
    biases = [m.bias for m in linears if m.bias is not None]
    return weight, torch.cat([b.detach() for b in biases]) if biases else None
