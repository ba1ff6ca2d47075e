"""A model's hidden states, its embedding and its output layer, for heads trained on the model.

A layer's hidden states are named by how many layers have run: 1 is the first layer's output, and
the number of layers is the last one's, before the final norm. Stock models are read by hooks that
exist during one pass; a model of our own (``LeanLlama``) keeps them in its loop.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from ..errors import InputError, Use
from ..settings.methods import FREE

SAMPLE = 64
"""Numbers of every weight that go into a fingerprint."""


@contextlib.contextmanager
def caught(model: Any, layers: Sequence[int]) -> Iterator[dict[int, torch.Tensor]]:
    """Passes of ``model`` inside put the output of these layers, [rows, tokens, width] each, into
    the dict that this yields. Does nothing when ``layers`` is empty."""
    found: dict[int, torch.Tensor] = {}
    if not layers:
        yield found
        return
    if own := getattr(model, "catching", None):  # a model of ours
        with own(layers, found):
            yield found
        return

    def keep(layer: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            found[layer] = output[0] if isinstance(output, tuple) else output

        return hook

    modules = decoder_layers(model)
    hooks = [modules[layer - 1].register_forward_hook(keep(layer)) for layer in layers]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def decoder_layers(model: Any) -> nn.ModuleList:
    """A stock model's list of layers. Raises InputError where it is not clear which list it is."""
    count = model.config.get_text_config().num_hidden_layers
    found = [
        module
        for module in model.get_decoder().modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]
    if len(found) != 1 or model.config.is_encoder_decoder:
        raise InputError(
            f"The hidden states of {model.config.model_type} cannot be read here: ",
            Use(drafter=FREE),
            ".",
        )
    return found[0]


def output_layer(model: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """The model's final norm and output matrix: from the last layer's output, [..., width], to
    logits, [..., vocabulary]."""
    if own := getattr(model, "output", None):  # a model of ours
        return own
    final = getattr(model.get_decoder(), "norm", None)
    if not isinstance(final, nn.Module):
        raise InputError(
            f"The final norm of {model.config.model_type} was not found, and heads need it: ",
            Use(drafter=FREE),
            ".",
        )
    head = model.get_output_embeddings()
    return lambda hidden: head(final(hidden))


def embedding(model: Any) -> torch.Tensor:
    """[vocabulary, width]: the model's token embeddings."""
    return model.get_input_embeddings().weight.detach()


def spread(logits: torch.Tensor, ids: torch.Tensor, width: int) -> torch.Tensor:
    """[..., width], over all tokens: ``logits`` [..., n] of the tokens ``ids`` [n], and -inf for
    the others, so that they have no chance."""
    found = logits.new_full((*logits.shape[:-1], width), float("-inf"))
    return found.index_copy_(-1, ids, logits)


def fingerprint(model: Any) -> str:
    """A digest of a sample of every weight, the same in every dtype. Computed once for a model,
    before its weights are packed."""
    known = vars(model).get("weights_fingerprint")
    if known is None:
        digest = hashlib.sha256()
        for name, weight in model.named_parameters():
            flat = weight.detach().reshape(-1)
            some = flat[:: max(1, len(flat) // SAMPLE)][:SAMPLE]
            digest.update(name.encode())
            digest.update(some.to(torch.bfloat16).cpu().view(torch.int16).numpy().tobytes())
        known = model.weights_fingerprint = digest.hexdigest()[:32]
    return known


class Unused:
    """Hidden states that a drafter was handed and has not used yet: it may draft nothing for some
    steps. They always belong to consecutive positions."""

    def __init__(self) -> None:
        self._rows: torch.Tensor | None = None
        self._end = 0

    def add(self, hidden: torch.Tensor | None, end: int) -> None:
        """Those of a step, [tokens, layers, width], the last one at position ``end`` - 1. Without
        the earlier ones if they do not follow those, as in the first step of another text."""
        if hidden is None:
            return
        joins = self._rows is not None and self._end == end - len(hidden)
        self._rows = torch.cat([self._rows, hidden]) if joins else hidden  # type: ignore[list-item]
        self._end = end

    def take(self, end: int) -> tuple[torch.Tensor, int] | None:
        """All of them and the position of the first one; None where the last one is not at
        position ``end`` - 1."""
        rows, self._rows = self._rows, None
        return None if rows is None or self._end != end else (rows, end - len(rows))
