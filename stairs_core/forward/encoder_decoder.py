"""Encoder-decoder models (T5, BART), called like decoder-only models.

This is the setting of the paper behind Stairs (arXiv 2407.19947: T5). A text is the prompt and the
new tokens, as elsewhere; here the encoder reads the prompt, once, in the first pass, and the
decoder writes the new tokens after its start token.
"""

from __future__ import annotations

import copy
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers import Cache, EncoderDecoderCache

from ..errors import InputError
from .kv_cache import KV, argument
from .rotary import UNLIMITED, bound


class Encoded:
    """An encoder-decoder model bound to one prompt. Called with the decoder's tokens."""

    def __init__(self, model: Any, prompt_ids: list[int], first: int | None = None) -> None:
        """``first``: the first token that the decoder is given, in place of the model's default."""
        self._model, self._prompt_ids = model, prompt_ids
        self.config, self.device, self.dtype = model.config, model.device, model.dtype
        self._start = start_ids(model, first)
        self._pad = model.config.pad_token_id if _counts_pads(model) else None
        self._cross = _Cross()

    def decoder_ids(self, ids: list[int]) -> list[int]:
        """The decoder's ids for the text ``ids``, which begins with the prompt."""
        return self._start + ids[len(self._prompt_ids) :]

    def _supports_logits_to_keep(self) -> bool:
        return False

    @torch.inference_mode()
    def __call__(
        self,
        input_ids: torch.Tensor,
        cache: Any = None,
        use_cache: bool = True,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
    ) -> Any:
        """``logits``: [rows, tokens, vocabulary]. ``position_ids`` are ignored: the decoder counts
        positions itself, from the length of its cache.
        """
        ends = self._ends(input_ids)
        if len(ends) == 1:
            return self._pass(input_ids, cache, use_cache, attention_mask)
        cache = KV() if cache is None else cache
        found = [
            self._pass(t, cache, True, None).logits for t in input_ids.tensor_split(ends[:-1], 1)
        ]
        return SimpleNamespace(logits=torch.cat(found, 1))

    def _ends(self, input_ids: torch.Tensor) -> list[int]:
        """Where to split a pass: after each pad token, for models that do not count those as
        positions within a pass (``_counts_pads``)."""
        last = input_ids.shape[1]
        if self._pad is None or last == 1:
            return [last]
        pads = (input_ids[:, :-1] == self._pad).any(0).nonzero()[:, 0] + 1
        return [*pads.tolist(), last]

    def _pass(
        self,
        input_ids: torch.Tensor,
        cache: Any,
        use_cache: bool,
        attention_mask: torch.Tensor | None,
    ) -> Any:
        rows = len(input_ids)
        encoded = copy.copy(self._encoded)  # its own kind: some models read more of it
        encoded["last_hidden_state"] = encoded["last_hidden_state"].expand(rows, -1, -1)
        if cache is not None:
            self._cross.widen(rows)
            cache = EncoderDecoderCache(cache, self._cross)
        return self._model(
            encoder_outputs=encoded,
            decoder_input_ids=input_ids,
            decoder_attention_mask=attention_mask,
            use_cache=use_cache,
            **{argument(self._model): cache},
        )

    @cached_property
    def _encoded(self) -> Any:
        """The encoder's output for the prompt; its last hidden state is [1, prompt, width]."""
        prompt = torch.tensor([self._prompt_ids], device=self.device)
        return self._model.get_encoder()(input_ids=prompt)


class _Cross(Cache):
    """The cross-attention cache: every layer's keys and values of the prompt, expanded to the
    number of rows of a pass."""

    def __init__(self) -> None:
        super().__init__(layers=[])
        self._rows = 1

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_, **__
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """All are [rows, heads, prompt, head]. Called once a layer; later passes read
        ``layers``."""
        self.layers.append(SimpleNamespace(keys=key_states, values=value_states))  # type: ignore[arg-type]
        return key_states, value_states

    def widen(self, rows: int) -> None:
        """Expands all layers to ``rows`` rows, as views."""
        for layer in self.layers if rows != self._rows else ():
            layer.keys = layer.keys[:1].expand(rows, -1, -1, -1)  # type: ignore[index]
            layer.values = layer.values[:1].expand(rows, -1, -1, -1)  # type: ignore[index]
        self._rows = rows

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.layers[layer_idx].keys.shape[2]  # type: ignore[union-attr]


def reads_apart(model: Any) -> bool:
    """Whether an encoder reads the prompt: whether it is an encoder-decoder model."""
    return model.config.is_encoder_decoder


def bind(model: Any, prompt_ids: list[int], first: int | None = None) -> Any:
    """The model for texts that begin with ``prompt_ids``, to be given to a ``CachedModel``."""
    if own := getattr(model, "for_prompt", None):  # a model of ours (``models.slm``)
        return own(prompt_ids)
    if reads_apart(model):
        return Encoded(model, prompt_ids, first)
    return bound(model, len(prompt_ids))


def _counts_pads(model: Any) -> bool:
    """Whether the model does not count pad tokens as positions within a pass (M2M100, NLLB). A text
    that contains one is then read differently in one pass than token by token."""
    places = getattr(model.get_decoder(), "embed_positions", None)
    return hasattr(places, "create_position_ids_from_input_ids")


def start_ids(model: Any, first: int | None = None) -> list[int]:
    """The decoder's ids before the first new token: its start token and, where the model's
    generation config forces a first token (BART's BOS, mBART's language), that one or, in its
    place, ``first``. A forced last token is not supported: a text ends where the target or the
    budget ends it.
    """
    config = model.generation_config
    start = config.decoder_start_token_id
    start = config.bos_token_id if start is None else start
    if start is None:
        raise InputError(
            f"This {model.config.model_type} model has no token that starts its decoder: set "
            "decoder_start_token_id in its generation_config.json."
        )
    forced = config.forced_bos_token_id if first is None else first
    return [start] if forced is None else [start, forced]


def positions(model: Any, side: str) -> int:
    """The most tokens that the ``encoder`` or the ``decoder`` reads; T5 has no limit."""
    config = model.config.get_text_config()
    # MPT's name is the third.
    names = (f"max_{side}_position_embeddings", "max_position_embeddings", "max_seq_len")
    told = next((n for name in names if (n := getattr(config, name, None))), UNLIMITED)
    return min(told, _counted_from_pads(model, side))


def _counted_from_pads(model: Any, side: str) -> int:
    """The places of a table of positions that begin after the pad token's id, as RoBERTa's do."""
    if not isinstance(model, nn.Module):  # ours, of families that have no tables
        return UNLIMITED
    part = getattr(model, f"get_{side}")() if reads_apart(model) else model
    tables = [
        module.num_embeddings - module.padding_idx - 1
        for name, module in part.named_modules()
        if name.endswith("position_embeddings")
        and isinstance(module, nn.Embedding)
        and module.padding_idx is not None
    ]
    return min(tables, default=UNLIMITED)
