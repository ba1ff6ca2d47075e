"""Trains the maps of Hidden Transfer and of FIRP, by distillation through the target's own layers.

What the target's output layer says after a pseudo token is to be what the target says after the
true token in its place. Everything but the maps stays as it is. The maps start from the linear
regression of true hidden states, which takes seconds and is most of what they learn.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from ...forward import hidden_states, upper_layers
from ...forward.pseudo_states import PseudoStates
from .ahead import Ahead
from .features import usual_layers
from .loop import Batch, Batches, Loss

CUTS = 24
"""Positions of each text, the same for all texts of a step, after which tokens are guessed."""
FITTED = 24
"""Steps whose texts the regression reads."""
FIRST = 2
"""Positions at a text's start that it leaves out: hidden states there are unlike all others."""


def new_hidden_transfer(
    model: Any, files: Sequence[Path], layers: tuple[int, ...], options: Namespace
) -> tuple[PseudoStates, dict[str, Any]]:
    """Untrained maps, and what their config says of them: pseudo tokens enter at a low, a middle
    and a high layer (the first three of ``layers``), the nearest token lowest. Raises InputError
    for a target whose upper layers cannot be run alone."""
    spread = [layers[i * 3 // max(3, options.heads)] for i in range(options.heads)]
    return _new("hidden-transfer", model, spread)


def new_firp(
    model: Any, files: Sequence[Path], layers: tuple[int, ...], options: Namespace
) -> tuple[PseudoStates, dict[str, Any]]:
    """The same, with all pseudo tokens at the middle one of these layers."""
    return _new("firp", model, [layers[1]] * options.heads)


def _new(kind: str, model: Any, entries: list[int]) -> tuple[PseudoStates, dict[str, Any]]:
    upper_layers.check(model)
    width = model.config.get_text_config().hidden_size
    return PseudoStates(width, entries), {"stairs_head": kind, "pseudo_layers": entries}


def begin(module: PseudoStates, model: Any, batches: Batches) -> None:
    """Sets the maps to the linear regression of the true hidden states, over the texts of the
    first steps."""
    width = model.config.get_text_config().hidden_size
    device, kept = model.device, usual_layers(model)
    sums = torch.zeros(len(module.maps), width + 1, 2 * width + 1, device=device)
    for step in range(min(FITTED, batches.steps)):
        batch = batches.complete(batches(step))
        lengths = batch["lengths"].to(device)
        for number, layer in enumerate(module.layers):
            states = batch["hidden"][:, FIRST:, kept.index(layer)].to(device, torch.float32)
            read, true = states[:, : -1 - number], states[:, 1 + number :]
            places = FIRST + 1 + number + torch.arange(true.shape[1], device=device)
            there = places < lengths[:, None]
            x = F.pad(read[there], (0, 1), value=1.0)
            sums[number] += x.T @ torch.cat([x, (true - read)[there]], 1)
    for linear, found in zip(module.maps, sums.double(), strict=True):
        squares, products = found[:, : width + 1], found[:, width + 1 :]
        squares.diagonal().add_(1e-3 * squares.diagonal().mean().clamp(min=1e-6))
        fitted = torch.linalg.solve(squares, products).T
        with torch.no_grad():
            linear.weight.copy_(fitted[:, :width])  # type: ignore[operator]
            linear.bias.copy_(fitted[:, width])  # type: ignore[operator]


def loss_of(module: PseudoStates, model: Any, dtype: torch.dtype) -> Loss:
    """The divergence of what the target says after pseudo tokens from what it says after the
    true ones, and how often its likeliest token is the text's."""
    output, device = hidden_states.output_layer(model), model.device
    place = usual_layers(model).index(module.layers[0])
    later = 1 + torch.arange(len(module.maps), device=device)

    def loss(batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        texts, length = batch["ids"].shape
        cuts = cuts_of(batch["ids"], device)
        rows = torch.arange(texts, device=device).repeat_interleave(len(cuts))
        ahead = Ahead.after(batch, len(later), rows, cuts.repeat(texts))
        hidden = batch["hidden"].to(device, dtype)
        after = (ahead.at[:, None] + later).clamp(max=length - 1)
        with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
            with torch.no_grad():
                wanted = output(hidden[rows[:, None], after, -1]).float().log_softmax(-1)
            said = output(module(model, hidden[:, :, place], cuts).flatten(0, 1)).float()
        nats = (wanted.exp() * (wanted - said.log_softmax(-1))).sum(-1)
        return ahead.mean(nats), ahead.right(said)

    return loss


def cuts_of(ids: torch.Tensor, device: torch.device) -> torch.Tensor:
    """[cuts]: at most so many positions at equal distances, but for the last two, which have
    nothing to guess. Where they begin depends on the texts, so it differs from step to step."""
    length = ids.shape[1] - 2
    stride = -(-length // CUTS)
    return torch.arange(int(ids.sum()) % stride, length, stride, device=device)
