"""Encoder-decoder models (T5, BART), called as models that only decode.

The setting of the paper that stairs come from (arXiv 2407.19947: T5). The text stays what it is for
others: the prompt, which here the encoder reads, and the new tokens, which the decoder writes after
a token that says it starts. The encoder runs once for a prompt, at the first pass, and the stairs
stand on the decoder's side.
"""

from __future__ import annotations

from functools import cached_property
from types import SimpleNamespace
from typing import Any

import torch
from transformers import Cache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from .errors import InputError
from .kv import KV, argument
from .ropes import UNLIMITED, bound


class Encoded:
    """An encoder-decoder model that has one prompt to read. Called with the decoder's tokens."""

    def __init__(self, model: Any, prompt_ids: list[int], first: int | None = None) -> None:
        """``first``: what its decoder begins with, in place of its own choice."""
        self._model, self._prompt_ids = model, prompt_ids
        self.config, self.device, self.dtype = model.config, model.device, model.dtype
        self._start = start_ids(model, first)
        self._pad = model.config.pad_token_id if _counts_pads(model) else None
        self._cross = _Cross()

    def decoder_ids(self, ids: list[int]) -> list[int]:
        """What the decoder reads when the text is ``ids``, the prompt's first."""
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
        """``logits``: [rows, tokens, vocabulary]. The decoder counts its own positions, from what
        the cache holds: ``position_ids`` that say anything else are not followed.
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
        """Where the parts of a pass end: after a token that takes a place for which a model that
        counts places by tokens would not count one, as it does when it reads them one by one."""
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
        if cache is not None:
            self._cross.widen(rows)
            cache = EncoderDecoderCache(cache, self._cross)
        return self._model(
            encoder_outputs=BaseModelOutput(self._states.expand(rows, -1, -1)),  # type: ignore[arg-type]
            decoder_input_ids=input_ids,
            decoder_attention_mask=attention_mask,
            use_cache=use_cache,
            **{argument(self._model): cache},
        )

    @cached_property
    def _states(self) -> torch.Tensor:
        """[1, prompt, width]: what the encoder makes of the prompt."""
        prompt = torch.tensor([self._prompt_ids], device=self.device)
        return self._model.get_encoder()(input_ids=prompt).last_hidden_state


class _Cross(Cache):
    """Every layer's keys and values of the prompt: one row, shown as as many as a pass has."""

    def __init__(self) -> None:
        super().__init__(layers=[])
        self._rows = 1

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_, **__
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """All are [rows, heads, prompt, head]. Called once a layer: models read them thereafter."""
        self.layers.append(SimpleNamespace(keys=key_states, values=value_states))  # type: ignore[arg-type]
        return key_states, value_states

    def widen(self, rows: int) -> None:
        """Views, not copies."""
        for layer in self.layers if rows != self._rows else ():
            layer.keys = layer.keys[:1].expand(rows, -1, -1, -1)  # type: ignore[index]
            layer.values = layer.values[:1].expand(rows, -1, -1, -1)  # type: ignore[index]
        self._rows = rows

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.layers[layer_idx].keys.shape[2]  # type: ignore[union-attr]


def reads_apart(model: Any) -> bool:
    """Whether an encoder reads the prompt."""
    return model.config.is_encoder_decoder


def bind(model: Any, prompt_ids: list[int], first: int | None = None) -> Any:
    """A model to be called by a lane on texts that begin with ``prompt_ids``."""
    if reads_apart(model):
        return Encoded(model, prompt_ids, first)
    return bound(model, len(prompt_ids))


def _counts_pads(model: Any) -> bool:
    """Whether a token's place is how many stand before it in its pass that are no padding (M2M100,
    NLLB): a text that holds such a token is then read otherwise in one pass than one by one."""
    places = getattr(model.get_decoder(), "embed_positions", None)
    return hasattr(places, "create_position_ids_from_input_ids")


def start_ids(model: Any, first: int | None = None) -> list[int]:
    """What the decoder reads before the first new token: the token that starts it and, where the
    model's generation config forces a first one (BART's begin of sentence, mBART's language), that
    one too; ``first`` stands in its place. A forced last token is not written: a text ends where
    the target or the budget ends it.
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
    """Tokens that the ``encoder`` or the ``decoder`` can read; T5 has no limit."""
    config = model.config.get_text_config()
    names = (f"max_{side}_position_embeddings", "max_position_embeddings")
    return next((n for name in names if (n := getattr(config, name, None))), UNLIMITED)
