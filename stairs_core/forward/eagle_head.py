"""EAGLE-3's head (Li et al. 2025, arXiv 2503.01840): one layer on the features of three of the
target's.

At position t the head reads the target's hidden states there, joined by a matrix ``fc``, and the
embedding of token t + 1, which is in the text already; it predicts token t + 2. For a token that
the target has not read there are no features: the head's own output at the position before takes
their place. It has an output matrix of its own, over the tokens that the target writes most
(``d2t``: the target's id minus the draft's). Parts and names are those of vLLM's ``speculators``
library, version 0.9.0, ``models/eagle3``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from .hidden_states import spread

Logits = Callable[[torch.Tensor], torch.Tensor]
Tree = tuple[torch.Tensor, torch.Tensor]
"""Positions in the text [tokens] and a mask [tokens, keys]: which keys each token sees."""


@dataclass(frozen=True)
class EagleShape:
    """What the head consists of. ``layer``: the config of its one layer, Llama's names.

    ``features``: the layers of the target that it reads, by how many have run. ``feature_width``:
    theirs. ``vocabulary``: tokens that it can guess. ``norm_before_residual``: the layer adds to
    the normalised hidden state, not to the raw one. ``norm_before_fc`` or ``fc_norm``: features
    are normalised, joined or each layer's for itself. ``norm_output``: the output is fed back after
    the last norm. ``head_norms``: queries and keys are normalised, as in Qwen 3.
    """

    layer: LlamaConfig
    features: tuple[int, ...]
    feature_width: int
    vocabulary: int
    norm_before_residual: bool = False
    norm_before_fc: bool = False
    fc_norm: bool = False
    norm_output: bool = False
    head_norms: bool = False

    @property
    def width(self) -> int:
        return self.layer.hidden_size

    @property
    def head(self) -> int:
        """Numbers of an attention head."""
        return getattr(self.layer, "head_dim", None) or self.width // self.layer.num_attention_heads

    @property
    def rope(self) -> dict[str, Any]:
        """The parameters of the rotary embedding."""
        return dict(self.layer.rope_parameters or {})  # type: ignore[call-overload]


class EagleAttention(nn.Module):
    """Attention over [norm(embedding); hidden_norm(hidden)], twice the width."""

    def __init__(self, shape: EagleShape) -> None:
        super().__init__()
        config, head = shape.layer, shape.head
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads or self.heads
        self.head = head
        bias = bool(getattr(config, "attention_bias", False))
        self.q_proj = nn.Linear(2 * shape.width, self.heads * head, bias)
        self.k_proj = nn.Linear(2 * shape.width, self.kv_heads * head, bias)
        self.v_proj = nn.Linear(2 * shape.width, self.kv_heads * head, bias)
        # Llama's fourth matrix has a bias where the others do; Qwen 3's has the same rule.
        self.o_proj = nn.Linear(self.heads * head, shape.width, bias)
        if shape.head_norms:
            self.q_norm = nn.RMSNorm(head, config.rms_norm_eps)
            self.k_norm = nn.RMSNorm(head, config.rms_norm_eps)

    def heads_of(
        self, x: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries, keys and values, [rows, heads, tokens, head]; the first two rotated."""
        shape = (*x.shape[:2], -1, self.head)
        q, k, v = (p(x).view(shape) for p in (self.q_proj, self.k_proj, self.v_proj))
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = apply_rotary_pos_emb(q.transpose(1, 2), k.transpose(1, 2), *angles)
        return q, k, v.transpose(1, 2)


class EagleMLP(nn.Module):
    """Llama's gated MLP."""

    def __init__(self, shape: EagleShape) -> None:
        super().__init__()
        inner, bias = shape.layer.intermediate_size, bool(getattr(shape.layer, "mlp_bias", False))
        self.gate_proj = nn.Linear(shape.width, inner, bias)
        self.up_proj = nn.Linear(shape.width, inner, bias)
        self.down_proj = nn.Linear(inner, shape.width, bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class EagleLayer(nn.Module):
    """The layer's parts, under the names that files use."""

    def __init__(self, shape: EagleShape) -> None:
        super().__init__()
        eps = shape.layer.rms_norm_eps
        self.input_layernorm = nn.RMSNorm(shape.width, eps)
        self.hidden_norm = nn.RMSNorm(shape.width, eps)
        self.self_attn = EagleAttention(shape)
        self.post_attention_layernorm = nn.RMSNorm(shape.width, eps)
        self.mlp = EagleMLP(shape)


class EagleHead(nn.Module):
    """The head of a shape, for a target with ``tokens`` ids. ``own_embedding``: it has token
    embeddings of its own; otherwise ``embedding`` [tokens, width] must be set to the target's."""

    d2t: torch.Tensor  # [vocabulary]: the target's id minus the draft's
    t2d: torch.Tensor  # [tokens], bool: whether the draft can guess it

    def __init__(self, shape: EagleShape, tokens: int, own_embedding: bool = False) -> None:
        super().__init__()
        self.shape = shape
        eps, joined = shape.layer.rms_norm_eps, len(shape.features) * shape.feature_width
        self.fc = nn.Linear(joined, shape.width, bias=False)
        self.input_norm = nn.RMSNorm(joined, eps) if shape.norm_before_fc else None
        norms = [nn.RMSNorm(shape.feature_width, eps) for _ in shape.features if shape.fc_norm]
        self.fc_norm = nn.ModuleList(norms) if norms else None
        self.layers = nn.ModuleList([EagleLayer(shape)])
        self.norm = nn.RMSNorm(shape.width, eps)
        self.lm_head = nn.Linear(shape.width, shape.vocabulary, bias=False)
        self.embed_tokens = nn.Embedding(tokens, shape.width) if own_embedding else None
        self.embedding = torch.empty(0, shape.width)
        self._columns: torch.Tensor | None = None  # ``ids``, once they are final
        self.unroll = 1  # guesses in a row that it is trained for
        self.alone = 0.0  # the share of training in which it is one
        self.register_buffer("d2t", torch.zeros(shape.vocabulary, dtype=torch.long))
        self.register_buffer("t2d", torch.zeros(tokens, dtype=torch.bool))
        with torch.device("cpu"):  # its angles are worked out, where all else is on "meta" too
            self.rotary = [LlamaRotaryEmbedding(shape.layer)]  # in a list: it is no part of files

    @property
    def weight(self) -> torch.Tensor:
        """One of its matrices, of the device and dtype of all."""
        return self.fc.weight

    @property
    def layer(self) -> EagleLayer:
        return self.layers[0]  # type: ignore[return-value]

    @property
    def ids(self) -> torch.Tensor:
        """[vocabulary]: the target's id of each of the draft's."""
        return torch.arange(len(self.d2t), device=self.d2t.device) + self.d2t

    def output(self, narrow: bool) -> tuple[torch.Tensor | None, Logits]:
        """What makes of the head's logits [..., vocabulary] those to choose from, and the ids of
        their entries. ``narrow``: as they are; else [..., the target's vocabulary], whose ids need
        not be given (None), -inf for what the head cannot guess, so that it has no chance."""
        if self._columns is None:
            self._columns = self.ids
        columns, tokens = self._columns, len(self.t2d)
        if narrow:
            return columns, lambda logits: logits
        return None, lambda logits: spread(logits, columns, tokens)

    def embedded(self, ids: torch.Tensor) -> torch.Tensor:
        """[..., width]: embeddings of the target's ids."""
        own = self.embed_tokens
        return F.embedding(ids, self.embedding if own is None else own.weight)

    def angles(self, like: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The rotation at ``places`` [tokens], for tensors like ``like``."""
        rotary = self.rotary[0].to(like.device)
        cos, sin = rotary(like, places[None])
        return cos, sin

    def combine(self, features: torch.Tensor) -> torch.Tensor:
        """[..., width], from the target's hidden states, [..., layers, feature width]."""
        if self.fc_norm is not None:
            parts = zip(self.fc_norm, features.unbind(-2), strict=True)
            features = torch.stack([norm(part) for norm, part in parts], -2)
        joined = features.flatten(-2)
        return self.fc(joined if self.input_norm is None else self.input_norm(joined))

    def opened(self, ids: torch.Tensor, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The residual [..., width] and the attention's input [..., twice the width]."""
        layer = self.layer
        normed = layer.hidden_norm(hidden)
        residual = normed if self.shape.norm_before_residual else hidden
        embedded = layer.input_layernorm(self.embedded(ids).to(hidden.dtype))
        return residual, torch.cat([embedded, normed], -1)

    def closed(
        self, residual: torch.Tensor, mixed: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The output [rows, tokens, width], to be fed back, and the same after the last norm, from
        what attention gave, [rows, heads, tokens, head]."""
        layer = self.layer
        x = residual + layer.self_attn.o_proj(mixed.transpose(1, 2).flatten(2))
        x = x + layer.mlp(layer.post_attention_layernorm(x))
        normed = self.norm(x)
        return (normed if self.shape.norm_output else x), normed

    def step(
        self, ids: torch.Tensor, hidden: torch.Tensor, cache: Any, tree: Tree | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Reads the positions that follow those in the cache (a ``kv_cache.Layer``).

        ``ids`` [tokens]: of the token after each; ``hidden`` [tokens, width]: features joined by
        ``combine``, or the output at the position before. Returns outputs [n, width] and logits
        [n, vocabulary]: at the last position alone or, for a ``tree``, at every one.
        """
        residual, x = self.opened(ids[None], hidden[None])
        places = torch.arange(cache.length, cache.length + len(ids), device=x.device)
        places, mask = tree or (places, None)
        q, k, v = self.layer.self_attn.heads_of(x, self.angles(x, places))
        keys, values = cache.update(k, v)
        if mask is None:  # the last one sees all of them; nobody asks for the others' outputs
            q, residual = q[:, :, -1:], residual[:, -1:]
        mixed = F.scaled_dot_product_attention(
            q, keys, values, attn_mask=mask, enable_gqa=q.shape[1] != keys.shape[1]
        )
        out, normed = self.closed(residual, mixed)
        return out[0], self.lm_head(normed[0])
