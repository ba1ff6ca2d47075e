"""What a chat model's heads are trained on: prompts in its template, answered by the model itself.

At first a quarter of the prompts come from a file. The others the model writes too: sampled after
the words of its template that say "now the user speaks" (Xu et al. 2024, Magpie, arXiv 2406.08464).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch

from ...errors import InputError
from .generate import ends_of, generate

MARK = "(here the user speaks)"
OWN_TOKENS = 64
"""The most tokens of a prompt that the model writes; longer ones are dropped."""
OWN_TEMPERATURE = 0.9
"""At 1, a model of 135 M writes many prompts without sense."""
TRIES = 16


class ChatTexts:
    """``prompts``: the lines of a file. ``longest``: the most tokens of a text up to where the
    answer begins. Raises InputError for a model without a template, and for long prompts alone."""

    def __init__(self, model: Any, tokenizer: Any, prompts: Sequence[str], longest: int) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise InputError("The target has no chat template: give --corpus, not --prompts.")
        whole = tokenizer.apply_chat_template(
            [{"role": "user", "content": MARK}], tokenize=False, add_generation_prompt=True
        )
        before, _, after = whole.partition(MARK)
        self._model, self._tokenizer, self._longest = model, tokenizer, longest
        self._before, self._after = self._encoded(before), self._encoded(after)
        self._prompts = self._fitting(prompts)
        if not self._prompts:
            raise InputError(
                f"No prompt of the file, in the chat template, has at most {longest} tokens: give "
                "shorter ones, or a larger --length."
            )

    def openings(self, count: int, seed: int, *, own: bool) -> list[list[int]]:
        """The tokens of ``count`` texts up to where the answer begins. ``own``: from prompts that
        the model writes."""
        if not own:
            return random.Random(seed).choices(self._prompts, k=count)
        found: list[list[int]] = []
        for again in range(TRIES):
            found += self._fitting(self._sampled(count, seed + 1000 * again))
            if len(found) >= count:
                return found[:count]
        raise InputError(
            "The target writes no prompts that end: was it trained with its chat template?"
        )

    def _fitting(self, prompts: Sequence[str]) -> list[list[int]]:
        texts = [self._before + self._encoded(prompt) + self._after for prompt in prompts]
        return [text for text in texts if len(text) <= self._longest]

    def _sampled(self, count: int, seed: int) -> list[str]:
        openings = torch.tensor([self._before] * count)
        mask, ends = torch.ones_like(openings), {*ends_of(self._model)}
        ids = generate(self._model, openings, mask, OWN_TOKENS, OWN_TEMPERATURE, seed)
        texts = []
        for row in ids[:, openings.shape[1] :].tolist():
            at = next((i for i, token in enumerate(row) if token in ends), 0)
            text = self._tokenizer.decode(row[:at], skip_special_tokens=True).strip()
            if len(text.split()) >= 3:
                texts.append(text)
        return texts

    def _encoded(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False)
