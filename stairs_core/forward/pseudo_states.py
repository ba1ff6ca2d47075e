"""Pseudo hidden states of tokens that are not known yet, put in at middle layers of the target.

Hidden Transfer (Wu et al. 2024, arXiv 2404.12022) and FIRP (Shen et al. 2024, arXiv 2410.20488): a
linear map turns the hidden state of the last token that was read, at a middle layer, into the
hidden state that a later token would have there. That goes on through the remaining layers as one
more position, which sees the text and the pseudo tokens before it, and the target's output layer
says which token comes after it. In Hidden Transfer every pseudo token has a layer of its own; in
FIRP all enter at the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from .kv_cache import KV
from .upper_layers import through


class PseudoStates(nn.Module):
    """One map for each pseudo token; ``layers``: where each enters, by how many layers have run,
    in ascending order. An untrained map gives the hidden state that it reads."""

    def __init__(self, width: int, layers: Sequence[int]) -> None:
        super().__init__()
        self.layers = [*layers]
        self.maps = nn.ModuleList(nn.Linear(width, width) for _ in layers)
        for linear in self.maps:
            nn.init.zeros_(linear.weight)  # type: ignore[arg-type]
            nn.init.zeros_(linear.bias)  # type: ignore[arg-type]

    def forward(
        self, model: Any, text: torch.Tensor, cuts: torch.Tensor, start: int = 0, kv: Any = None
    ) -> torch.Tensor:
        """[rows, cuts, maps, width], to be given to the target's output layer: what the last layer
        makes of the pseudo tokens. The one of map j stands j + 1 positions after its cut.

        ``text``: [rows, tokens, width], the output of layer ``layers[0]`` of the target ``model``
        at the positions from ``start`` on. ``cuts``: [cuts], the tokens of ``text`` whose hidden
        states are mapped, each as if the text ended there. ``kv``: keys and values of the layers
        above, for the text before ``start``; those of ``text`` and pseudo tokens are added.
        """
        tokens, count = text.shape[1], len(cuts)
        x, places = text, start + torch.arange(tokens, device=text.device)
        seen = seen_by(tokens, cuts, len(self.maps), start)
        last = model.config.get_text_config().num_hidden_layers
        ends = [*self.layers[1:], last]
        for number, (layer, end) in enumerate(zip(self.layers, ends, strict=True)):
            read = x[:, cuts]
            pseudo = read + self.maps[number](read)
            x = torch.cat([x, pseudo.to(x.dtype)], 1)
            places = torch.cat([places, start + cuts + 1 + number])
            if layer < end:
                visible = seen[: len(places), : start + len(places)]
                x = through(model, x, (layer, end), places, visible, kv)
        return x[:, tokens:].unflatten(1, (-1, count)).transpose(1, 2)


def seen_by(tokens: int, cuts: torch.Tensor, maps: int, start: int = 0) -> torch.Tensor:
    """[rows, keys] booleans: rows are so many ``tokens`` of a text, then, for one map after the
    other, a pseudo token for each of ``cuts``; keys are ``start`` earlier tokens, then the rows.

    >>> seen_by(2, torch.tensor([0, 1]), 1).int()  # the pseudo tokens do not see each other
    tensor([[1, 0, 0, 0],
            [1, 1, 0, 0],
            [1, 0, 1, 0],
            [1, 1, 0, 1]], dtype=torch.int32)
    """
    count = len(cuts)
    places = torch.arange(tokens, device=cuts.device)
    ends = torch.cat([places, cuts.repeat(maps)])
    on_text = places <= ends[:, None]
    order = torch.arange(maps, device=cuts.device).repeat_interleave(count)
    owner = cuts.repeat(maps)
    on_pseudo = (owner == owner[:, None]) & (order <= order[:, None])
    on_pseudo = torch.cat([on_pseudo.new_zeros(tokens, count * maps), on_pseudo])
    before = on_text.new_ones(len(ends), start)
    return torch.cat([before, on_text, on_pseudo], 1)


class PseudoText:
    """The upper layers over one text: their keys and values are kept between steps."""

    def __init__(self, maps: PseudoStates, model: Any) -> None:
        self._maps, self._model = maps, model
        self._kv = KV()

    def add(self, hidden: torch.Tensor, start: int) -> torch.Tensor:
        """[maps, width], to be given to the target's output layer, after the text's hidden states
        at layer ``layers[0]``, [tokens, width], at the positions from ``start`` on. What was there
        before is dropped."""
        self._kv.keep(start)
        cut = torch.tensor([len(hidden) - 1], device=hidden.device)
        found = self._maps(self._model, hidden[None], cut, start, self._kv)
        self._kv.keep(start + len(hidden))
        return found[0, 0]
