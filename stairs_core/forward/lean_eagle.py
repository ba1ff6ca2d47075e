"""An EAGLE-3 head's pass in few operator calls, for CPUs: what ``lean_llama`` is to a Llama.

The same function as ``EagleHead``, called the same way. Besides what ``lean_llama`` does: the
queries, keys and values of a token's embedding depend on the token alone, so they are worked out
once for the whole vocabulary where that fits into ``TABLE_BYTES``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .eagle_head import EagleHead, Tree
from .lean_llama import LeanLlama, _angles, _interleaved, _like, _scaled
from .packed_linear import PackedLinear

TABLE_BYTES = 64 * 2**20


def fits(head: EagleHead, target: Any) -> bool:
    """Whether the head has no parts that this file does not implement, beside a target for which
    packed weights are faster."""
    shape = head.shape
    rope = shape.rope.get("rope_type", "default")
    odd = shape.head_norms or shape.norm_before_fc or shape.norm_output
    return isinstance(target, LeanLlama) and not odd and rope in ("default", "linear", "llama3")


class LeanEagle:
    """Called like the head that it was made from."""

    @torch.inference_mode()
    def __init__(self, head: EagleHead) -> None:
        shape, layer = head.shape, head.layer
        attention, width = layer.self_attn, shape.width
        self._shape, self._eps = shape, shape.layer.rms_norm_eps
        self._heads, self._kv_heads = int(attention.heads), int(attention.kv_heads)
        self._head = shape.head
        self._rotary = head.rotary[0]
        self._turns = _angles(self._rotary, shape.layer.max_position_embeddings)
        norms = head.fc_norm
        self._fc = PackedLinear(head.fc if norms is None else _normed_fc(head.fc, norms))
        turned = [_interleaved(p, shape.head) for p in (attention.q_proj, attention.k_proj)]
        halves = [_halves(linear, width) for linear in (*turned, attention.v_proj)]
        self._qkv = PackedLinear.joined([_scaled(h, layer.hidden_norm) for _, h in halves])
        self._embedding = head.embedding if head.embed_tokens is None else head.embed_tokens.weight
        self._of_token = PackedLinear.joined([_scaled(e, layer.input_layernorm) for e, _ in halves])
        rows = len(self._embedding)
        small = rows * self._of_token.out_features * 4 <= TABLE_BYTES
        self._table = self._embedded(torch.arange(rows)) if small else None
        self._gain = layer.hidden_norm.weight * math.sqrt(width)
        self._o = PackedLinear(attention.o_proj)
        self._gate = PackedLinear(_scaled(layer.mlp.gate_proj, layer.post_attention_layernorm))
        self._up = PackedLinear(_scaled(layer.mlp.up_proj, layer.post_attention_layernorm))
        self._down = PackedLinear(layer.mlp.down_proj)
        self._lm_head = PackedLinear(_scaled(head.lm_head, head.norm))

    def combine(self, features: torch.Tensor) -> torch.Tensor:
        """[tokens, width], from the target's hidden states, [tokens, layers, feature width]."""
        if self._shape.fc_norm:
            features = self._normed(features)
        return self._fc.forward(features.flatten(1))

    def step(
        self, ids: torch.Tensor, hidden: torch.Tensor, cache: Any, tree: Tree | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As ``EagleHead.step``."""
        of_token = self._embedded(ids) if self._table is None else F.embedding(ids, self._table)
        normed = self._normed(hidden)
        start, tokens = cache.length, len(ids)
        turns = self._turns_to(start + tokens)
        angles = turns.narrow(0, start, tokens) if tree is None else turns[tree[0]]
        q, k, v = self._heads_of(self._qkv.forward(normed, add=of_token), angles)
        keys, values = cache.update(k, v)
        mask = None if tree is None else tree[1]
        if mask is None:  # the last one sees all of them; nobody asks for the others' outputs
            q, normed, hidden = q[:, :, -1:], normed[-1:], hidden[-1:]
        mixed = F.scaled_dot_product_attention(
            q, keys, values, attn_mask=mask, enable_gqa=self._heads != self._kv_heads
        )
        residual = normed * self._gain if self._shape.norm_before_residual else hidden
        mixed = mixed.transpose(1, 2).reshape(len(normed), -1)
        x = self._o.forward(mixed, add=residual)
        normed = self._normed(x)
        gate = self._gate.forward(normed, "swish")
        x = self._down.forward(self._up.forward(normed, times=gate), add=x)
        return x, self._lm_head.forward(self._normed(x))

    def _normed(self, x: torch.Tensor) -> torch.Tensor:
        """RMSNorm without its weight and the root of the width, which are in the next matrix."""
        eps = self._eps * x.shape[-1]
        return x * torch.linalg.vecdot(x, x).add_(eps).rsqrt_().unsqueeze(-1)

    def _embedded(self, ids: torch.Tensor) -> torch.Tensor:
        """[tokens, queries, keys and values]: what tokens add to those of a hidden state."""
        return self._of_token.forward(self._normed(F.embedding(ids, self._embedding)))

    def _turns_to(self, positions: int) -> torch.Tensor:
        """Angles of at least so many positions."""
        if positions > len(self._turns):
            self._turns = _angles(self._rotary, 2 * positions)
        return self._turns

    def _heads_of(self, qkv: torch.Tensor, angles: torch.Tensor) -> list[torch.Tensor]:
        """Queries, keys and values, [1, heads, tokens, head]; the first two rotated."""
        tokens, width = qkv.shape
        plain = self._kv_heads * self._head
        pairs = qkv.narrow(1, 0, width - plain).view(tokens, -1, self._head // 2, 2)
        rotated = torch.view_as_real(torch.view_as_complex(pairs) * angles)
        q, k = (
            rotated.view(1, tokens, -1, self._head)
            .transpose(1, 2)
            .split_with_sizes([self._heads, self._kv_heads], 1)
        )
        v = qkv.narrow(1, width - plain, plain).view(1, tokens, -1, self._head)
        return [q, k, v.transpose(1, 2)]


def _halves(linear: nn.Linear, width: int) -> tuple[nn.Linear, nn.Linear]:
    """The part of a linear that reads the embedding, which has the bias, and the rest."""
    embedding, hidden = linear.weight.split([width, width], 1)
    return _part(linear, embedding, linear.bias), _part(linear, hidden, None)


def _part(linear: nn.Linear, weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    part = _like(linear, weight.contiguous(), bias)
    part.in_features = weight.shape[1]
    return part


def _normed_fc(fc: nn.Linear, norms: nn.ModuleList) -> nn.Linear:
    """``fc`` for features after ``LeanEagle._normed`` instead of after ``norms``."""
    gains = torch.cat([n.weight * math.sqrt(len(n.weight)) for n in norms])  # type: ignore[arg-type]
    return _like(fc, fc.weight * gains, None)
