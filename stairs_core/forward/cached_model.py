"""A model with its KV cache and the ids in it. Nothing else touches a cache.

Called with a text, it keeps the longest common prefix of the text and the cached ids, crops the
rest, and feeds the remaining tokens. So no caller has to count rejected tokens. The same rule
serves the target, the draft model, and a run that was left halfway.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import torch

from ..protocols import Sampler
from . import cuda_graphs, hidden_states, token_trees
from .experts import evenly
from .kv_cache import BLOCK, KV, argument, begins_anew
from .rotary import UNLIMITED
from .sliding_windows import Windows

WIDTH = 8
"""Tokens of every strict pass; longer inputs take several passes.

A model may have another ``strict_width``. MKL rounds all rows of a matrix product alike only when
their number is a multiple of four.
"""


class CachedModel:
    """``cached=False`` keeps nothing between calls: every pass starts from the first token.

    ``strict``: every pass has exactly ``WIDTH`` tokens, padded and masked, and sees a whole number
    of cache blocks that depends on its position alone. So the logits at a position are
    bit-identical however tokens were grouped into passes.
    """

    def __init__(self, model: Any, *, cached: bool = True, strict: bool = False) -> None:
        self._model = model
        self._cached, self._strict = cached, strict
        self._width = getattr(model, "strict_width", WIDTH)
        self._trims = model._supports_logits_to_keep()
        self._cache_argument = argument(model)
        # Where an encoder reads the prompt, the cached ids are the decoder's.
        self._reads = getattr(model, "decoder_ids", lambda ids: ids)
        self._windows = Windows(model.config)
        # Where rotary angles depend on the text's length: the angles, and the length beyond which
        # the whole text must be fed again, because the cached keys have the old angles.
        self._turns = getattr(model, "turns", None)
        lengths = self._turns.lengths if self._turns else []
        self._switch = next((n for n in lengths if begins_anew(model, n)), UNLIMITED)
        self._switched = False
        # Strict passes have a shape of their own already, and masks that graphs do not.
        self._graphs = cuda_graphs.of(model) if cached and not strict else None
        self._static: cuda_graphs.StaticCache | None = None  # lent by the graphs, at the first pass
        self._kv: KV | None = None
        self._held: list[int] = []
        self._nodes: list[tuple[int, int]] = []  # a tree after ``_held``: (token, parent)
        self._states = States()

    @torch.inference_mode()
    def logits(self, ids: list[int], last: int) -> torch.Tensor:
        """[last, vocabulary]: logits at the last positions of ``ids``, in one causal pass; in two
        where the whole text must be fed again between them (see ``_switch``)."""
        ids = self._reads(ids)
        if (over := len(ids) - self._switch) > 0 and over < last:
            early = self.logits(ids[: self._switch], last - over)
            return torch.cat([early, self.logits(ids, over)])
        kept = self._keep(ids, len(ids) - last)
        if self._strict:
            out = self._in_chunks(ids, kept, len(ids) - last)
        else:
            out = self._forward(torch.tensor([ids[kept:]]), last)[0]
        self._states.are_of(ids, kept)
        self._held = ids[:] if self._cached else []
        return out

    @torch.inference_mode()
    def write(
        self,
        context: list[int],
        count: int,
        sampler: Sampler,
        eos_ids: Collection[int] = (),
        keep_drafting: Callable[[float], bool] | None = None,
    ) -> tuple[list[int], torch.Tensor | None, list[torch.Tensor]]:
        """Writes at most ``count`` tokens after ``context``, one pass each, up to and with an EOS.

        Returns the N tokens; q [N, vocabulary], the distributions that they were sampled from,
        where ``sampler`` gives them; and for each token the logits [vocabulary] that it was chosen
        from. ``keep_drafting``: called after each token with its probability; returns whether to
        write another. Without it, the CPU never waits for a single token. Not for strict models.
        """
        if not count:
            return [], None, []
        found: list[torch.Tensor] = []
        probs: list[torch.Tensor] = []
        rows = [row := self.logits(context, 1)[0]]
        while True:
            token, q = sampler.sample(lambda: context + [int(t) for t in found], row)
            found.append(token)
            probs += [] if q is None else [q]
            if keep_drafting and not keep_drafting(
                float((row.softmax(-1) if q is None else q)[token])
            ):
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
        return tokens[:end], torch.stack(probs[:end]) if probs else None, rows[:end]

    @torch.inference_mode()
    def tree(
        self, context: list[int], tokens: list[int], parents: list[int], last: int
    ) -> torch.Tensor:
        """[last, vocabulary]: the last of N + 1 rows: logits after ``context``, then after each of
        the N tokens on its branch. One pass, with a mask that hides other branches.

        Only tokens that were not in the last call's tree are fed. Not for strict models: a tree's
        tokens are not at the cache positions that they will have in the text.
        """
        context = self._reads(context)
        if self._straddles(context, parents):
            return self._one_by_one(context, tokens, parents)[-last:]
        nodes = [*zip(tokens, parents, strict=True)]
        first = self._keep_tree(context, nodes, len(context) + len(tokens) - last)
        batch = torch.tensor([(context + tokens)[first:]])
        out = self._forward(batch, last, (len(context), parents, first))[0]
        self._states.are_of(context, first, nodes)
        if self._cached:
            self._held, self._nodes = context[:], nodes
        return out

    @torch.inference_mode()
    def stairs(self, context: list[int], tokens: list[int], parents: list[int]) -> torch.Tensor:
        """[N + 1, vocabulary]: the same as ``tree``, from a batch of N + 1 rows padded on the
        right.

        Row 0 is ``context``; row i + 1 is ``context`` and the branch up to token i. Causal
        attention hides the padding, since it comes after a row's end.
        """
        context = self._reads(context)
        if self._straddles(context, parents):
            return self._one_by_one(context, tokens, parents)
        rows = [[], *([tokens[i] for i in path] for path in token_trees.paths(parents))]
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
            # In a chain the longest row contains all others; in a tree it is the one most likely
            # used.
            self._kv.select(deepest)
        self._states.are_of(longest, kept, row=deepest)
        self._held = longest if self._cached else []
        return every[torch.arange(len(rows)), torch.tensor([len(row) for row in rows])]

    def read_layers(self, layers: Sequence[int]) -> None:
        """From now on, passes keep the hidden states of these layers, for ``hidden``."""
        self._states.layers = tuple(layers)

    def hidden(self, context: list[int], more: list[int], first: int) -> torch.Tensor | None:
        """[tokens, layers, width]: hidden states at the positions from ``first`` on of ``context``
        and, after it, ``more``; None where no layers are read.

        Where the last pass read these tokens, in a chain or along a branch of its tree, they are
        already there. Otherwise another pass reads them now: for a branch that is not the longest
        row of ``stairs``, or for a text whose beginning was in the cache from another run.
        """
        if not self._states.layers:
            return None
        text = context + more
        found = self._states.of(text, first)
        if found is None:
            if first < len(self._held):
                self._held, self._nodes = self._held[:first], []
            self.logits(text, 1)
            found = self._states.of(text, first)
        return found

    def stretch(self, length: int, loud: int) -> list[int]:
        """Extends the cache to ``length`` tokens by repeating its content, and returns their ids.

        For trying a model out beyond a sliding window at no cost. See ``KV.stretch``."""
        assert self._kv is not None
        self._kv.stretch(length, loud)
        self._held = [self._held[i % len(self._held)] for i in range(length)]
        self._switched = length > self._switch
        return self._held[:]

    def _straddles(self, context: list[int], parents: list[int]) -> bool:
        """Whether the whole text must be fed again (``_switch``) between rows of this tree."""
        return (
            len(context)
            <= self._switch
            <= len(context) + max(token_trees.depths(parents), default=-1)
        )

    def _one_by_one(
        self, context: list[int], tokens: list[int], parents: list[int]
    ) -> torch.Tensor:
        """[N + 1, vocabulary]: the rows of ``tree`` and ``stairs``, from one pass each."""
        branches = [[], *([tokens[i] for i in path] for path in token_trees.paths(parents))]
        # Short ones first, so that the whole text is fed again only once.
        order = sorted(range(len(branches)), key=lambda i: len(branches[i]))
        rows = {i: self.logits(context + branches[i], 1)[0] for i in order}
        return torch.stack([rows[i] for i in range(len(branches))])

    def _keep(self, ids: list[int], at_most: int) -> int:
        """Crops the cache to its common prefix with ``ids``; returns how many tokens remain."""
        self._states.begin()
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
        """The same for a tree after ``context``, part of which may be cached."""
        self._states.begin()
        if self._kv is None or self._held != context:
            return self._keep(context, min(at_most, len(context)))
        kept = min(len(context) + _common_prefix(self._nodes, nodes), at_most)
        self._nodes = []
        self._kv.keep(kept)
        return kept

    def _settle(self, ids: list[int]) -> None:
        """If the cache holds a tree, keeps only the branch that ``ids`` continues with."""
        nodes, self._nodes, length = self._nodes, [], len(self._held)
        if nodes and self._kv is not None:
            tokens, parents = [token for token, _ in nodes], [parent for _, parent in nodes]
            goes_on = ids[:length] == self._held
            branch = token_trees.follow(tokens, parents, ids[length:]) if goes_on else []
            self._kv.gather(length, [length + i for i in branch])
            self._held = self._held + [nodes[i][0] for i in branch]

    def _in_chunks(self, ids: list[int], start: int, wanted: int) -> torch.Tensor:
        """[tokens from ``wanted`` on, vocabulary]: strict passes over the tokens from ``start`` on.

        No pass crosses a block's end, so that a position always sees the same number of keys.
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
        # Padding gets the last token's position: a later one may not exist in the model.
        positions = slots.clamp(max=start + len(ids) - 1)
        seen = self._windows.masks(keys <= slots[:, None], slots, keys, self._model)
        with evenly(self._model):
            out = self._forward(
                torch.tensor([ids + [0] * (self._width - len(ids))]),
                self._width,
                position_ids=positions[None].to(self._model.device),
                attention_mask=seen,
            )
        kv.keep(start + len(ids))
        self._states.cut(len(ids))
        return out[0, : len(ids)]

    def _placed(self, length: int, parents: Sequence[int], first: int) -> dict[str, Any]:
        """The arguments that tell the model where a tree's tokens stand (``token_trees.mask``)."""
        seen = torch.from_numpy(token_trees.mask(length, parents, first))
        places = torch.tensor(token_trees.positions(length, parents, 0))
        return {
            "position_ids": places[None, first:].to(self._model.device),
            "attention_mask": self._windows.masks(seen, places[first:], places, self._model),
        }

    def _forward(
        self, batch: torch.Tensor, last: int, tree: cuda_graphs.Tree | None = None, **where: Any
    ) -> torch.Tensor:
        """[rows, last, vocabulary]: one forward pass, of a ``tree`` if one is given. If it is
        interrupted, the cache is left empty, so that it never disagrees with ``_held``."""
        kv, self._kv = self._kv, None
        self._held, self._nodes = [], []
        if kv is not None and self._graphs is not None:
            self._static = self._static or self._graphs.lend(self)
            kv = self._static.ready(kv if kv.layers else None, batch.shape[1], self._states.layers)
            if not where and len(batch) == 1 and self._static.takes(kv, batch.shape[1], tree):
                logits, hidden = self._static.run(kv, batch[0], self._states.layers, tree)
                self._states.add(hidden)
                self._kv = kv
                return logits[None, -last:].clone()
        where |= self._placed(*tree) if tree else {}
        with self._turned(), self._states.kept(self._model):
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
        """A context in which rotary angles are those that ``generate`` would use (see
        ``rotary``)."""
        if self._turns is None:
            return contextlib.nullcontext()
        first = self._turns.prompt_length
        return self._turns.over(max(first, self._switch + 1) if self._switched else first)


class States:
    """The hidden states of the text that was read last, in one pass or (strict numerics) several.

    ``layers``: the layers to keep them of, each named by how many layers have run. Usually none,
    and then nothing is kept.
    """

    def __init__(self) -> None:
        self.layers: tuple[int, ...] = ()
        self._new: list[torch.Tensor] = []  # [rows, tokens, layers, width], since ``are_of``
        self._rows: torch.Tensor | None = None  # [tokens, layers, width]
        self._start, self._text = 0, list[int]()
        self._nodes: list[tuple[int, int]] = []

    def begin(self) -> None:
        """Drops what an interrupted pass has left."""
        self._new = []

    @contextlib.contextmanager
    def kept(self, model: Any) -> Iterator[None]:
        """Keeps the hidden states of the one pass of the model that runs inside."""
        with hidden_states.caught(model, self.layers) as found:
            yield
        if self.layers:
            self._new.append(torch.stack([found[layer] for layer in self.layers], 2))

    def add(self, hidden: torch.Tensor | None) -> None:
        """Keeps the hidden states of one pass, [tokens, layers, width], as a copy."""
        if hidden is not None:
            self._new.append(hidden[None].clone())

    def cut(self, tokens: int) -> None:
        """Drops the states of the last pass after its first ``tokens``: those were padding."""
        if self._new:
            self._new[-1] = self._new[-1][:, :tokens]

    def are_of(
        self, text: list[int], start: int, nodes: Sequence[tuple[int, int]] = (), row: int = 0
    ) -> None:
        """Notes what the passes since the last call have read: ``text`` from ``start`` on, then the
        ``nodes`` of a tree, (token, parent) each. ``row``: where in the batch."""
        if self._new:
            self._rows = torch.cat([states[row] for states in self._new])
            self._new = []
            self._start, self._text, self._nodes = start, text[:], [*nodes]

    def of(self, text: list[int], first: int) -> torch.Tensor | None:
        """[tokens, layers, width]: at the positions of ``text`` from ``first`` on; None if some are
        missing."""
        count = min(len(self._text), len(text))
        if self._rows is None or first < self._start or text[:count] != self._text[:count]:
            return None
        tokens, parents = [token for token, _ in self._nodes], [parent for _, parent in self._nodes]
        path = token_trees.follow(tokens, parents, text[count:])
        if count + len(path) < len(text):
            return None
        places = [*range(first, count), *(len(self._text) + i for i in path)]
        if not path:
            return self._rows[first - self._start : count - self._start]
        return self._rows[[place - self._start for place in places]]


def _common_prefix(a: list, b: list) -> int:
    """Length of the longest common prefix, by bisection: comparing slices is faster than a loop."""
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
