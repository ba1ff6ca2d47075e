"""LLM-to-SLM (Bergner et al. 2024, arXiv 2402.16844, section 3): a small model reads a prompt with
a large one's help.

The large model (LLM) reads the prompt once. The hidden states of one of its layers, or its
encoder's output, go through a projector (Linear, ReLU, Linear) and are added to the small model's
(SLM's) embeddings of the prompt, or put in their place. All tokens after the prompt are the small
model's own. Where the tokenizers differ, each token of the small model gets the mean of the hidden
states of those tokens of the large one that share a character with it (ours, not the paper's).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .kv_cache import argument

INJECTIONS = ("add", "replace")
Span = tuple[int, int]
"""Where a token's characters begin and end in a text; empty for a special token."""


class Projector(nn.Module):
    """From the LLM's hidden states, scaled to a root mean square of one, to the SLM's width.

    ``zero``: begins with an output of zero, so that an SLM to which nothing was taught yet reads
    the prompt as it would alone.
    """

    def __init__(self, llm_width: int, inner: int, slm_width: int, *, zero: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(llm_width, inner)
        self.second = nn.Linear(inner, slm_width)
        if zero:
            nn.init.zeros_(self.second.weight)
            nn.init.zeros_(self.second.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., SLM width] from [..., LLM width]."""
        scaled = F.rms_norm(hidden, hidden.shape[-1:], eps=1e-6)
        return self.second(F.relu(self.first(scaled)))


def pooling(ours: Sequence[Span], theirs: Sequence[Span]) -> torch.Tensor:
    """[ours, theirs]: the weights of the mean, for each of our tokens, over those of theirs that
    share a character with it. A row of zeros for a token that shares none.

    >>> pooling([(0, 4), (4, 6)], [(0, 2), (2, 4), (4, 6)]).tolist()
    [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    """
    a, b = (torch.tensor(spans).reshape(-1, 2) for spans in (ours, theirs))
    ends = torch.minimum(a[:, None, 1], b[None, :, 1])
    both = (ends > torch.maximum(a[:, None, 0], b[None, :, 0])).float()
    return both / both.sum(1, keepdim=True).clamp(min=1)


def injected(embeddings: torch.Tensor, projected: torch.Tensor, how: str) -> torch.Tensor:
    """The prompt's embeddings, [..., prompt, SLM width], with what was projected added or put in
    their place (``how``: of ``INJECTIONS``)."""
    return projected if how == "replace" else embeddings + projected


class Prompted:
    """An SLM bound to one prompt: called like the SLM, it reads the prompt's tokens with what the
    LLM's hidden states became.

    ``projected``: gives [prompt, SLM width], for the first positions of every text; called once, in
    the first pass.
    """

    def __init__(self, model: Any, projected: Callable[[], torch.Tensor], how: str) -> None:
        self._model, self._project, self._how = model, projected, how
        self._embed = model.get_input_embeddings()
        self._argument = argument(model)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    @torch.inference_mode()
    def __call__(self, input_ids: torch.Tensor, **rest: Any) -> Any:
        """``input_ids``: [rows, tokens], which follow what is in the cache."""
        places = self._places(input_ids, rest)
        inside = places < len(self._projected)
        if not inside.any():
            return self._model(input_ids=input_ids, **rest)
        x = self._embed(input_ids)
        there = self._projected[places[inside]].to(x.dtype)
        x[:, inside] = injected(x[:, inside], there, self._how)
        return self._model(inputs_embeds=x, **rest)

    @cached_property
    def _projected(self) -> torch.Tensor:
        return self._project()

    def _places(self, input_ids: torch.Tensor, rest: dict[str, Any]) -> torch.Tensor:
        """[tokens]: the positions of the tokens of this pass."""
        given = rest.get("position_ids")
        if given is not None:
            return given[0]
        held = rest.get(self._argument)
        start = held.get_seq_length() if held is not None else 0
        return torch.arange(start, start + input_ids.shape[1], device=input_ids.device)
