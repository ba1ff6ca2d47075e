"""A target's EAGLE-3 head, loaded and made as fast as the target itself is."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch

from ..forward import cuda_graphs, hidden_states, lean_eagle, static_eagle
from ..forward.cached_eagle import CachedEagle
from ..forward.eagle_head import EagleHead
from ..forward.tryouts import agree, tried, widest_rounding
from . import eagle_format, heads

Runs = EagleHead | lean_eagle.LeanEagle | static_eagle.StaticEagle
_READY: WeakKeyDictionary[Any, tuple[Any, Runs, EagleHead]] = WeakKeyDictionary()
"""For a target: which file its head was read from, the head as it runs, and as it was read."""


def ready(target: Any, name: str) -> tuple[Runs, EagleHead]:
    """The head of a target called ``name``, as it runs, and the module that it computes. Raises
    InputError where there is none, or it cannot be used."""
    found = heads.load("eagle", target, name)
    known = _READY.get(target)
    if known is None or known[0] != found.stamp:
        module = opened(found, target)
        known = _READY[target] = found.stamp, _quicker(module, target), module
    return known[1:]


def _quicker(module: EagleHead, target: Any) -> Runs:
    """Our own pass on a CPU; on a GPU one that is replayed, if its logits are the same."""
    if lean_eagle.fits(module, target):
        return lean_eagle.LeanEagle(module)
    graphs = cuda_graphs.of(target)
    if graphs is None:
        return module
    static = static_eagle.StaticEagle(module, graphs.recorder)
    try:
        ours, stock = tried(lambda: _logits(static)), tried(lambda: _logits(module))
        same = agree(ours, stock, widest_rounding(target.dtype))
    except torch.OutOfMemoryError:
        same = False
    return static if same else module


def _logits(head: EagleHead | static_eagle.StaticEagle) -> torch.Tensor:
    """[7, vocabulary]: after a text, what follows it, and a draft in a chain and in a tree."""
    weight, shape = head.weight, head.shape
    size = 5, len(shape.features), shape.feature_width
    numbers = torch.arange(5 * size[1] * size[2], device=weight.device)
    features = torch.sin(numbers.float()).view(size).to(weight.dtype)
    cached, rows = CachedEagle(head), list[torch.Tensor]()
    for start, end in ((0, 3), (3, 5)):
        cached.take(features[start:end], end)
        row = cached.logits([*range(end + 1)])
        assert row is not None
        rows.append(row[None])
    rows.append(cached.branches([1, 2], [-1, -1]))
    rows.append(cached.branches([3, 4, 5], [1, 0, 1]))
    return torch.cat(rows)


def opened(found: heads.Head, target: Any) -> EagleHead:
    """The head, filled, on the target's device and in its dtype. Raises InputError if damaged."""
    shape = eagle_format.shape_of(found.config, target, found.folder)
    tokens = target.config.get_text_config().vocab_size
    tensors = eagle_format.completed(found.tensors, shape.vocabulary, tokens)
    own = "embed_tokens.weight" in tensors
    with torch.device("meta"):  # random weights would take longer than reading the file
        blank = EagleHead(shape, tokens, own)
    module: EagleHead = found.fill(blank, target, tensors)
    found.check_ids(module.ids, tokens, "its d2t names")
    if not own:
        module.embedding = hidden_states.embedding(target)
    return module
