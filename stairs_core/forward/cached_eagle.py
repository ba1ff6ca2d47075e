"""An EAGLE head with its KV cache: what ``CachedModel`` is to a model.

The cache holds the text as the head read it from the target's features. Behind that it holds, while
a draft is written, the drafted tokens, which the head read from its own outputs; they are dropped
when the text goes on.
"""

from __future__ import annotations

import numpy as np
import torch

from ..protocols import Outcome
from .eagle_head import EagleHead
from .kv_cache import Layer
from .lean_eagle import LeanEagle
from .static_eagle import StaticEagle


class CachedEagle:
    """Gets the features of a text as the target reads it, and gives logits after it."""

    def __init__(self, head: EagleHead | LeanEagle | StaticEagle) -> None:
        self._head = head
        own = isinstance(head, StaticEagle)
        self._cache = head.lend(self) if own else Layer(whole_blocks=False)
        self._length = 0  # of the text that a step begins with
        self._read = 0  # positions of the text in the cache
        self._new: list[torch.Tensor] = []  # [tokens, layers, width]: features not read yet
        self._outputs = torch.empty(0)  # [1 + drafted, width]: after the text and drafted tokens
        self._above: list[list[int]] = []  # of each token of a tree: those on its branch, and it

    def begin(self, text: list[int], *, wanted: bool) -> torch.Tensor | None:
        """Begins a step; what ``logits`` gives after ``text``, if that is ``wanted``."""
        self._length = len(text)
        return self.logits(text) if wanted else None

    def observe(self, outcome: Outcome) -> None:
        """Takes the features of what the target has read in the step that was begun last."""
        if outcome.hidden is not None:
            self.take(outcome.hidden, self._length + len(outcome.committed) - 1)

    def take(self, features: torch.Tensor, positions: int) -> None:
        """``features`` [tokens, layers, width]: at the last of the ``positions`` that the target
        has read of the text; at all of them where a text begins."""
        if len(features) == positions:
            self._read, self._new = 0, []
        self._new.append(features)

    @torch.inference_mode()
    def logits(self, text: list[int]) -> torch.Tensor | None:
        """[vocabulary of the head]: after ``text``. None unless the features of all its tokens but
        the last were given."""
        unread = sum(map(len, self._new))
        if not unread or self._read + unread != len(text) - 1:
            return None
        features = torch.cat(self._new)
        self._cache.length, self._new = self._read, []
        self._read += unread
        ids = torch.tensor(text[-unread:], device=features.device)
        self._outputs, logits = self._head.step(ids, self._head.combine(features), self._cache)
        self._above = []
        return logits[0]

    @torch.inference_mode()
    def then(self, token: int) -> torch.Tensor:
        """[vocabulary of the head]: after one more drafted token."""
        ids = torch.tensor([token], device=self._outputs.device)
        self._outputs, logits = self._head.step(ids, self._outputs, self._cache)
        return logits[0]

    @torch.inference_mode()
    def branches(self, tokens: list[int], parents: list[int]) -> torch.Tensor:
        """[tokens, vocabulary of the head]: after each of some more tokens of a tree. ``parents``:
        the index of the token that each follows, among those given since ``logits`` and not among
        these; -1 for the text."""
        device, held = self._outputs.device, len(self._above)
        own = [self._above[p] if p >= 0 else [] for p in parents]
        self._above += [[*branch, held + i] for i, branch in enumerate(own)]
        mask = np.zeros((len(tokens), self._read + len(self._above)), dtype=bool)
        mask[:, : self._read] = True
        for i, branch in enumerate(self._above[held:]):
            mask[i, [self._read + at for at in branch]] = True
        places = torch.tensor([self._read + len(branch) for branch in own], device=device)
        hidden = self._outputs[[p + 1 for p in parents]]
        tree = places, torch.from_numpy(mask).to(device)
        out, logits = self._head.step(
            torch.tensor(tokens, device=device), hidden, self._cache, tree
        )
        self._outputs = torch.cat([self._outputs, out])
        return logits
