"""Chimera's heads (Zeng et al. 2024, arXiv 2402.15758): they see what was guessed before.

A trigram encoder makes one vector of the embeddings of three tokens, ``x + SiLU(Linear(x))`` and a
linear to one width. Then one Llama layer reads the target's last hidden states of the text,
followed by the trigram vectors of the tokens that the target has not read: the text's last token
and the guesses. Head i joins the target's hidden state at the last position that it has read with
the layer's output at the i-th of those tokens, and predicts the token after it. Every head ends in
the target's own final norm and output matrix; in the paper each has an output matrix of its own.
Embeddings and hidden states are scaled to a root mean square of one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .kv_cache import Layer

TRIGRAM = 3
THETA = 10000.0
"""Base of the layer's rotary embedding."""


class ChimeraHeads(nn.Module):
    """``count`` heads for hidden states of ``width``; ``attention_heads``: of the layer, each of
    an even width; ``inner``: width of the layer's MLP."""

    def __init__(self, width: int, count: int, attention_heads: int, inner: int) -> None:
        super().__init__()
        self.attention_heads = attention_heads
        three = TRIGRAM * width
        self.mix, self.join = nn.Linear(three, three), nn.Linear(three, width)
        self.input_norm, self.mlp_norm = nn.RMSNorm(width, 1e-6), nn.RMSNorm(width, 1e-6)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate, self.up = (nn.Linear(width, inner, bias=False) for _ in range(2))
        self.down = nn.Linear(inner, width, bias=False)
        self.heads = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(count))
        for linear in self.heads:  # At first both are added, as in the authors' code.
            with torch.no_grad():
                linear.weight.copy_(torch.eye(width).repeat(1, 2))  # type: ignore[operator]
                linear.bias.zero_()  # type: ignore[operator]

    def trigrams(self, embedded: torch.Tensor) -> torch.Tensor:
        """[..., width] from the embeddings of three tokens, [..., 3, width], the newest last."""
        x = F.rms_norm(embedded, embedded.shape[-1:], eps=1e-6).flatten(-2)
        return self.join(x + F.silu(self.mix(x)))

    def keys(self, x: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values, [rows, heads, tokens, head] each, of the layer's inputs ``x`` [rows,
        tokens, width] at the positions ``places`` [tokens]."""
        x = self.input_norm(x)
        values = self._split(self.v(x))
        return rotated(self._split(self.k(x)), places).to(values.dtype), values

    def queries(self, x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """[rows, heads, tokens, head] of the layer's inputs ``x`` [rows, tokens, width]."""
        queries = self._split(self.q(self.input_norm(x)))
        return rotated(queries, places).to(queries.dtype)

    def rest(self, x: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        """[..., width]: the layer's output; ``x``: its input, ``mixed``: its mixed values."""
        x = x + self.o(mixed)
        y = self.mlp_norm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))

    def head(self, number: int, hidden: torch.Tensor, encoded: torch.Tensor) -> torch.Tensor:
        """[..., width], to be given to the target's output layer; ``hidden`` [..., width]: the
        target's; ``encoded`` [..., width]: the layer's output."""
        known = F.rms_norm(hidden, hidden.shape[-1:], eps=1e-6)
        return self.heads[number](torch.cat([known, encoded], -1))

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.attention_heads, -1)).transpose(-2, -3)


class ChimeraText:
    """The heads over one text: keys and values of what the target has read, kept between steps."""

    def __init__(self, heads: ChimeraHeads) -> None:
        self._module, self._cache = heads, Layer(whole_blocks=False)
        self.read = 0
        """Tokens of the text whose hidden states have been given."""
        self._last: torch.Tensor | None = None  # [width]

    def add(self, hidden: torch.Tensor, start: int) -> None:
        """Hidden states [tokens, width] of the target, from position ``start`` of the text on.
        What was there before is dropped."""
        self._cache.length = start
        places = torch.arange(start, start + len(hidden), device=hidden.device)
        self._cache.update(*self._module.keys(hidden[None], places))
        self.read, self._last = start + len(hidden), hidden[-1]

    def next(self, embedded: torch.Tensor, number: int) -> torch.Tensor:
        """[width], to be given to the target's output layer: what head ``number`` says after the
        tokens whose embeddings are ``embedded``, [3, width]. Heads are asked in turn, from 0."""
        assert self._last is not None
        self._cache.length = self.read + number  # without what was guessed in an earlier step
        places = torch.tensor([self.read + number], device=embedded.device)
        x = self._module.trigrams(embedded)[None, None]  # [1, 1, width]
        keys, values = self._cache.update(*self._module.keys(x, places))
        mixed = F.scaled_dot_product_attention(self._module.queries(x, places), keys, values)
        encoded = self._module.rest(x, mixed.transpose(1, 2).flatten(-2))
        return self._module.head(number, self._last, encoded[0, 0])


def rotated(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Rotary embedding, float32, of ``x`` [..., tokens, head] at ``places`` [tokens]."""
    half = x.shape[-1] // 2
    powers = torch.arange(half, device=x.device) / half
    angles = places[:, None] * THETA**-powers
    one, two = x.float().chunk(2, -1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([one * cos - two * sin, two * cos + one * sin], -1)
