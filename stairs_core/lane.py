"""One model, one KV cache, and the tokens that the cache holds. Nothing else touches a cache.

Nobody counts rejections: a lane that is asked about a sequence keeps the longest prefix that its
cache already holds, crops the rest and feeds the remainder. The same rule serves the target, the
draft model, and a run that was abandoned halfway.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from typing import Any

import torch

from . import trees
from .kv import BLOCK, KV, argument, begins_anew
from .protocols import Choice
from .ropes import UNLIMITED
from .windows import Windows

WIDTH = 8
"""Tokens of every strict pass; more are fed in several.

A model may name another ``strict_width``. MKL rounds the rows of a product alike only when they are
a multiple of four.
"""


class Lane:
    """``cached=False`` keeps nothing between calls: every pass starts from the first token.

    ``strict``: every pass has as many tokens (``WIDTH``), of which those that are not needed are
    masked, and sees a whole number of cache blocks that depends on its position alone. So a
    position's logits are the same bits, however the tokens were grouped into passes.
    """

    def __init__(self, model: Any, *, cached: bool = True, strict: bool = False) -> None:
        self._model = model
        self._cached, self._strict = cached, strict
        self._width = getattr(model, "strict_width", WIDTH)
        self._trims = model._supports_logits_to_keep()
        self._cache_argument = argument(model)
        # Where an encoder reads the prompt, what is held here is the decoder's side of the text.
        self._reads = getattr(model, "decoder_ids", lambda ids: ids)
        self._windows = Windows(model.config)
        # Where rotary angles depend on the text's length: how, and after how many tokens the
        # target's own text is read anew, because what was cached before holds no longer.
        self._turns = getattr(model, "turns", None)
        lengths = self._turns.lengths if self._turns else []
        self._switch = next((n for n in lengths if begins_anew(model, n)), UNLIMITED)
        self._switched = False
        self._kv: KV | None = None
        self._held: list[int] = []
        self._nodes: list[tuple[int, int]] = []  # of a tree after the tokens held: token and parent

    @torch.inference_mode()
    def logits(self, ids: list[int], last: int) -> torch.Tensor:
        """[last, vocabulary]: logits at the last positions of ``ids``, in one causal pass; in two
        where the text is read anew between them."""
        ids = self._reads(ids)
        if (over := len(ids) - self._switch) > 0 and over < last:
            early = self.logits(ids[: self._switch], last - over)
            return torch.cat([early, self.logits(ids, over)])
        kept = self._keep(ids, len(ids) - last)
        if self._strict:
            out = self._in_chunks(ids, kept, len(ids) - last)
        else:
            out = self._forward(torch.tensor([ids[kept:]]), last)[0]
        self._held = ids[:] if self._cached else []
        return out

    @torch.inference_mode()
    def write(
        self,
        context: list[int],
        count: int,
        choice: Choice,
        eos_ids: Collection[int] = (),
        go_on: Callable[[float], bool] | None = None,
    ) -> tuple[list[int], torch.Tensor | None, list[torch.Tensor]]:
        """At most ``count`` tokens that the model itself would write next, up to an end of text;
        the laws that they were drawn from, [N, vocabulary], where ``choice`` has them; and the
        logits behind each, [vocabulary].

        For a lane that keeps a cache and is not strict. ``go_on`` is asked after each, with its
        probability, whether to write another; without it nothing waits for a token to arrive.
        """
        if not count:
            return [], None, []
        found: list[torch.Tensor] = []
        laws: list[torch.Tensor] = []
        rows = [row := self.logits(context, 1)[0]]
        while True:
            token, law = choice.draw(lambda: context + [int(t) for t in found], row)
            found.append(token)
            laws += [] if law is None else [law]
            if go_on and not go_on(float((row.softmax(-1) if law is None else law)[token])):
                break
            if len(found) == count:
                break
            if not self._switched and len(context) + len(found) > self._switch:
                row = self.logits(context + [int(t) for t in found], 1)[0]
            else:
                row = self._forward(token.view(1, 1), 1)[0, 0]
            rows.append(row)
        tokens = torch.stack(found).tolist()
        self._held = self._reads(context) + tokens[:-1] if self._cached else []
        end = next((i for i, token in enumerate(tokens, 1) if token in eos_ids), len(tokens))
        return tokens[:end], torch.stack(laws[:end]) if laws else None, rows[:end]

    @torch.inference_mode()
    def tree(
        self, context: list[int], tokens: list[int], parents: list[int], last: int
    ) -> torch.Tensor:
        """[last, vocabulary]: the last of N + 1 rows, logits after ``context`` and after each of
        the N tokens on its own branch, from one pass whose mask hides the other branches.

        A tree that has grown since it was last asked about costs what is new in it. Not for strict
        lanes: a token of a tree does not stand where it would stand in the text.
        """
        context = self._reads(context)
        if self._straddles(context, parents):
            return self._one_by_one(context, tokens, parents)[-last:]
        nodes = [*zip(tokens, parents, strict=True)]
        first = self._keep_tree(context, nodes, len(context) + len(tokens) - last)
        seen = torch.from_numpy(trees.mask(len(context), parents, first))
        places = torch.tensor(trees.positions(len(context), parents, 0))
        out = self._forward(
            torch.tensor([(context + tokens)[first:]]),
            last,
            position_ids=places[None, first:].to(self._model.device),
            attention_mask=self._windows.masks(seen, places[first:], places, self._model),
        )[0]
        if self._cached:
            self._held, self._nodes = context[:], nodes
        return out

    @torch.inference_mode()
    def stairs(self, context: list[int], tokens: list[int], parents: list[int]) -> torch.Tensor:
        """[N + 1, vocabulary]: the same as ``tree``, from N + 1 rows padded on the right.

        Row 0 is ``context``, row i + 1 goes on with the branch of token i; causal attention keeps
        the padding, which stands after a row's end, from being seen.
        """
        context = self._reads(context)
        if self._straddles(context, parents):
            return self._one_by_one(context, tokens, parents)
        rows = [[], *([tokens[i] for i in path] for path in trees.paths(parents))]
        deepest = max(range(len(rows)), key=lambda i: len(rows[i]))
        depth = len(rows[deepest])
        longest = context + rows[deepest]
        kept = self._keep(longest, len(context) - 1)
        start = longest[kept : len(context)]
        batch = [start + row + [0] * (depth - len(row)) for row in rows]
        if self._kv is not None:
            self._kv.repeat(len(rows))
        every = self._forward(torch.tensor(batch), depth + 1)
        if self._kv is not None:
            # In a chain the longest row contains all the others; in a tree, most that is wanted.
            self._kv.select(deepest)
        self._held = longest if self._cached else []
        return every[torch.arange(len(rows)), torch.tensor([len(row) for row in rows])]

    def stretch(self, length: int, loud: int) -> list[int]:
        """The ids of a text of ``length`` tokens that the cache then stands in for, those it holds
        coming round again: a try-out's way past any window. See ``KV.stretch``."""
        assert self._kv is not None
        self._kv.stretch(length, loud)
        self._held = [self._held[i % len(self._held)] for i in range(length)]
        self._switched = length > self._switch
        return self._held[:]

    def _straddles(self, context: list[int], parents: list[int]) -> bool:
        """Whether the text is read anew between the rows of a tree, which no one pass can do."""
        return len(context) <= self._switch <= len(context) + max(trees.depths(parents), default=-1)

    def _one_by_one(
        self, context: list[int], tokens: list[int], parents: list[int]
    ) -> torch.Tensor:
        """[N + 1, vocabulary]: the rows of ``tree`` and ``stairs``, each from a pass of its own."""
        branches = [[], *([tokens[i] for i in path] for path in trees.paths(parents))]
        # The short ones first, so that the text is read anew once.
        order = sorted(range(len(branches)), key=lambda i: len(branches[i]))
        rows = {i: self.logits(context + branches[i], 1)[0] for i in order}
        return torch.stack([rows[i] for i in range(len(branches))])

    def _keep(self, ids: list[int], at_most: int) -> int:
        """Crop the cache to what it shares with ``ids``; returns how many tokens it then holds."""
        if self._switched != (len(ids) > self._switch):
            self._switched = not self._switched
            self._held, self._nodes = [], []
        self._settle(ids)
        kept = min(_common_prefix(self._held, ids), at_most)
        if self._kv is None and (self._cached or self._strict):
            self._kv = KV(self._strict)
            kept = 0
        if self._kv is not None:
            self._kv.keep(kept)
        return kept

    def _keep_tree(self, context: list[int], nodes: list[tuple[int, int]], at_most: int) -> int:
        """The same for a tree after ``context``, of which the cache may hold a part."""
        if self._kv is None or self._held != context:
            return self._keep(context, min(at_most, len(context)))
        kept = min(len(context) + _common_prefix(self._nodes, nodes), at_most)
        self._nodes = []
        self._kv.keep(kept)
        return kept

    def _settle(self, ids: list[int]) -> None:
        """Of a tree that the cache holds, keep the branch along which ``ids`` goes on."""
        nodes, self._nodes, length = self._nodes, [], len(self._held)
        if nodes and self._kv is not None:
            tokens, parents = [token for token, _ in nodes], [parent for _, parent in nodes]
            goes_on = ids[:length] == self._held
            branch = trees.follow(tokens, parents, ids[length:]) if goes_on else []
            self._kv.gather(length, [length + i for i in branch])
            self._held = self._held + [nodes[i][0] for i in branch]

    def _in_chunks(self, ids: list[int], start: int, wanted: int) -> torch.Tensor:
        """[tokens from ``wanted`` on, vocabulary]: strict passes over those from ``start`` on.

        None of them crosses a block's end, so that a position always sees as many keys.
        """
        rows = []
        while start < len(ids):
            end = min(start + self._width, len(ids), (start // BLOCK + 1) * BLOCK)
            out = self._strict_pass(ids[start:end], start)
            if end > wanted:
                rows.append(out[max(0, wanted - start) :])
            start = end
        return torch.cat(rows)

    def _strict_pass(self, ids: list[int], start: int) -> torch.Tensor:
        kv = self._kv
        assert kv is not None
        keys = torch.arange((start // BLOCK + 1) * BLOCK)
        slots = start + torch.arange(self._width)
        # Padding stands where the last token does: a position past the context may not exist.
        positions = slots.clamp(max=start + len(ids) - 1)
        out = self._forward(
            torch.tensor([ids + [0] * (self._width - len(ids))]),
            self._width,
            position_ids=positions[None].to(self._model.device),
            attention_mask=self._windows.masks(keys <= slots[:, None], slots, keys, self._model),
        )
        kv.keep(start + len(ids))
        return out[0, : len(ids)]

    def _forward(self, batch: torch.Tensor, last: int, **where: Any) -> torch.Tensor:
        """[rows, last, vocabulary]. An interrupted pass leaves an empty lane, not a torn one."""
        kv, self._kv = self._kv, None
        self._held, self._nodes = [], []
        with self._turned():
            out = self._model(
                input_ids=batch.to(self._model.device),
                use_cache=kv is not None,
                **{self._cache_argument: kv},
                **({"logits_to_keep": last} if self._trims else {}),
                **where,
            )
        self._kv = kv
        return out.logits[:, -last:]

    def _turned(self) -> contextlib.AbstractContextManager[None]:
        """While it lasts, rotary angles are those of the target's own text."""
        if self._turns is None:
            return contextlib.nullcontext()
        first = self._turns.prompt_length
        return self._turns.over(max(first, self._switch + 1) if self._switched else first)


def _common_prefix(a: list, b: list) -> int:
    """Length of the longest common prefix, by halves: lists compare fast, Python loops do not."""
    same, most = 0, min(len(a), len(b))
    if a[:most] == b[:most]:
        return most
    while same < most:
        middle = (same + most + 1) // 2
        if a[same:middle] == b[same:middle]:
            same = middle
        else:
            most = middle - 1
    return same
