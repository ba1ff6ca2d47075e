"""A Llama's forward pass in few operator calls, for CPUs, where every call costs microseconds.

The same function as ``transformers``' own class, from the same weights, called the same way. The
differences: linear weights are packed once (``packed_linear``); linears with the same input are one
matrix; activation and residual are part of a linear's call; rotation is one complex product.
``fits`` says for which models this is known to be right.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Collection, Iterator
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .hidden_states import fingerprint
from .packed_linear import PackedLinear
from .sliding_windows import Windows
from .small_draft import output_rows

FAMILIES = ("llama", "mistral", "qwen2")
_ROPES = ("default", "linear", "llama3", "yarn")  # angles depend on the position alone


def is_plain(model: Any, families: Collection[str] = FAMILIES) -> bool:
    """Whether the model is of one of the families, and has no parts beyond the usual ones."""
    config = model.config
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        config.model_type in families
        and rope.get("rope_type") in _ROPES
        and not Windows(config).any
        and config.hidden_act == "silu"
        and config._attn_implementation == "sdpa"
    )


def fits(model: Any) -> bool:
    """Whether this file implements all of the model, on its device and in its dtype."""
    return is_plain(model) and model.dtype == torch.float32 and model.device.type == "cpu"


class LeanLlama:
    """Called like the model that it was made from."""

    strict_width = 7  # oneDNN rounds all rows alike, and seven cost little more than one

    def __init__(self, model: Any, *, consume: bool = False) -> None:
        """``consume``: frees the model's layers one by one, so that weights are in memory only
        once."""
        self.config, self.device, self.dtype = model.config, model.device, model.dtype
        self.generation_config = model.generation_config
        self.weights_fingerprint = fingerprint(model)
        self._caught: tuple[Collection[int], dict[int, torch.Tensor]] = (), {}
        config = model.config
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._head = model.model.layers[0].self_attn.head_dim
        self._eps = config.rms_norm_eps * config.hidden_size
        self._embedding = model.model.embed_tokens.weight.detach()
        self._rotary = model.model.rotary_emb
        self._angles = _angles(self._rotary, config.max_position_embeddings)
        self._layers: list[tuple[_Attention | None, _MLP | None]] = []
        for index, layer in enumerate(model.model.layers):
            self._layers.append((_Attention(layer, self._head), _MLP(layer)))
            if consume:
                model.model.layers[index] = nn.Identity()
        rows, self._spread = output_rows(model.lm_head)
        # Not ``_scaled``: for a moment that would take as much memory as the largest matrix again.
        self._lm_head = PackedLinear(rows)
        self._gain = model.model.norm.weight.detach() * math.sqrt(rows.in_features)

    def without(self, attentions: Collection[int], mlps: Collection[int]) -> LeanLlama:
        """A view of this model without the sublayers of these layers, sharing its weights."""
        view = copy.copy(self)
        view._layers = [
            (None if i in attentions else attention, None if i in mlps else mlp)
            for i, (attention, mlp) in enumerate(self._layers)
        ]
        return view

    def _supports_logits_to_keep(self) -> bool:
        return True

    @torch.inference_mode()
    def __call__(
        self,
        input_ids: torch.Tensor | None = None,
        cache: Any = None,
        use_cache: bool = True,
        logits_to_keep: int = 0,
        position_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> SimpleNamespace:
        """``logits``: [rows, tokens kept, vocabulary]. ``attention_mask``: [1, 1, tokens, keys].
        ``inputs_embeds``: [rows, tokens, width], in place of ``input_ids``."""
        x = inputs_embeds
        if x is None:
            assert input_ids is not None
            x = F.embedding(input_ids, self._embedding)
        rows, tokens = x.shape[:2]
        if position_ids is None:
            start = cache.get_seq_length() if cache is not None else 0
            angles = self._angles_to(start + tokens).narrow(0, start, tokens)
        else:
            angles = self._angles_to(int(position_ids.max()) + 1)[position_ids[0]]
        x = self._run(x, (0, len(self._layers)), angles, attention_mask, cache)
        return SimpleNamespace(logits=self.output(x[:, -logits_to_keep:]))

    @torch.inference_mode()
    def through(
        self,
        x: torch.Tensor,
        layers: tuple[int, int],
        places: torch.Tensor,
        seen: torch.Tensor,
        cache: Any,
    ) -> torch.Tensor:
        """Some of the layers alone: see ``upper_layers.through``."""
        angles = self._angles_to(int(places.max()) + 1)[places]
        return self._run(x, layers, angles, seen[None, None], cache)

    def _run(
        self,
        x: torch.Tensor,
        layers: tuple[int, int],
        angles: torch.Tensor,
        mask: torch.Tensor | None,
        cache: Any,
    ) -> torch.Tensor:
        """[rows, tokens, width]: layer ``layers[1]``'s output; ``x``: that of ``layers[0]``."""
        rows, tokens, _ = x.shape
        for index in range(*layers):
            attention, mlp = self._layers[index]
            if attention is not None:
                q, k, v = self._heads_of(attention.qkv.forward(self._normed(x)), angles)
                if cache is not None:
                    k, v = cache.update(k, v, index)
                mixed = self._attend(q, k, v, mask)
                x = attention.o.forward(mixed.transpose(1, 2).reshape(rows, tokens, -1), add=x)
            if mlp is not None:
                normed = self._normed(x)
                gate = mlp.gate.forward(normed, "swish")
                x = mlp.down.forward(mlp.up.forward(normed, times=gate), add=x)
            if index + 1 in self._caught[0]:
                self._caught[1][index + 1] = x
        return x

    @contextlib.contextmanager
    def catching(self, layers: Collection[int], found: dict[int, torch.Tensor]) -> Iterator[None]:
        """Passes inside put the output of these layers into ``found``: see
        ``hidden_states.caught``."""
        self._caught = layers, found
        try:
            yield
        finally:
            self._caught = (), {}

    def output(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, [..., vocabulary], from the last layer's output."""
        return self._spread(self._lm_head.forward(self._normed(x) * self._gain))

    def get_input_embeddings(self) -> nn.Embedding:
        return nn.Embedding.from_pretrained(self._embedding)

    def _angles_to(self, positions: int) -> torch.Tensor:
        """Angles of at least so many positions: a text may be longer than the model was made
        for."""
        if positions > len(self._angles):
            self._angles = _angles(self._rotary, 2 * positions)
        return self._angles

    def _normed(self, x: torch.Tensor) -> torch.Tensor:
        """RMSNorm without its weight and the root of the width: the next linear's weights include
        both."""
        return x * torch.linalg.vecdot(x, x).add_(self._eps).rsqrt_().unsqueeze(-1)

    def _heads_of(self, qkv: torch.Tensor, angles: torch.Tensor) -> list[torch.Tensor]:
        """Queries, keys and values, [rows, heads, tokens, head]; the first two rotated."""
        rows, tokens, width = qkv.shape
        plain = self._kv_heads * self._head
        pairs = qkv.narrow(2, 0, width - plain).view(rows, tokens, -1, self._head // 2, 2)
        rotated = torch.view_as_real(torch.view_as_complex(pairs) * angles)
        q, k = (
            rotated.view(rows, tokens, -1, self._head)
            .transpose(1, 2)
            .split_with_sizes([self._heads, self._kv_heads], 1)
        )
        v = qkv.narrow(2, width - plain, plain).view(rows, tokens, -1, self._head)
        return [q, k, v.transpose(1, 2)]

    def _attend(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        new, held = q.shape[2], k.shape[2]
        if mask is None and 1 < new < held:
            mask = torch.ones(new, held, dtype=torch.bool).tril(held - new)
        return F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            is_causal=mask is None and new > 1,
            enable_gqa=self._heads != self._kv_heads,
        )


class _Attention:
    """One layer's attention weights, packed."""

    def __init__(self, layer: Any, head: int) -> None:
        attention = layer.self_attn
        rotated = [_interleaved(p, head) for p in (attention.q_proj, attention.k_proj)]
        qkv = [_scaled(p, layer.input_layernorm) for p in (*rotated, attention.v_proj)]
        self.qkv = PackedLinear.joined(qkv)
        self.o = PackedLinear(attention.o_proj)


class _MLP:
    """One layer's MLP weights, packed."""

    def __init__(self, layer: Any) -> None:
        mlp = layer.mlp
        self.gate = PackedLinear(_scaled(mlp.gate_proj, layer.post_attention_layernorm))
        self.up = PackedLinear(_scaled(mlp.up_proj, layer.post_attention_layernorm))
        self.down = PackedLinear(mlp.down_proj)


def _scaled(linear: nn.Linear, norm: Any) -> nn.Linear:
    """A linear that takes the output of ``LeanLlama._normed`` instead of the output of ``norm``."""
    # One product: another matrix of that size takes longer to get than to compute.
    scale = norm.weight * math.sqrt(linear.in_features)
    return _like(linear, linear.weight * scale, linear.bias)


def _interleaved(linear: nn.Linear, head: int) -> nn.Linear:
    """A linear with the same outputs in another order: numbers that are rotated together adjacent.

    ``transformers`` keeps them half a head apart. Queries and keys are reordered alike, so their
    dot products do not change.
    """

    def reorder(weight: torch.Tensor) -> torch.Tensor:
        halves = weight.view(-1, 2, head // 2, *weight.shape[1:])
        return halves.transpose(1, 2).reshape(weight.shape)

    bias = None if linear.bias is None else reorder(linear.bias)
    return _like(linear, reorder(linear.weight), bias)


def _like(linear: nn.Linear, weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    with torch.device("meta"):
        out = nn.Linear(linear.in_features, linear.out_features, bias=bias is not None)
    out.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        out.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return out


@torch.inference_mode()
def _angles(rotary: nn.Module, positions: int) -> torch.Tensor:
    """[positions, 1, head / 2] complex numbers: the rotation of each pair at each position."""
    where = torch.arange(positions)[None]
    cos, sin = rotary(torch.empty(1, dtype=torch.float32), where)
    half = cos.shape[-1] // 2
    return torch.complex(cos[0, :, :half], sin[0, :, :half])[:, None]
