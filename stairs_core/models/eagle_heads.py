"""A target's EAGLE-3 head, loaded and made as fast as the target itself is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from ..forward import hidden_states, lean_eagle, static_eagle
from ..forward.eagle_head import EagleHead
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
    if lean_eagle.fits(module, target):
        return lean_eagle.LeanEagle(module)
    return static_eagle.build(module, target)


def opened(found: heads.Head, target: Any) -> EagleHead:
    """The head, filled, on the target's device and in its dtype. Raises InputError if damaged."""
    shape = eagle_format.shape_of(found.config, target, found.folder)
    tokens = target.config.get_text_config().vocab_size
    tensors = eagle_format.completed(found.tensors, shape.vocabulary, tokens)
    own = "embed_tokens.weight" in tensors
    module: EagleHead = replace(found, tensors=tensors).fill(EagleHead(shape, tokens, own), target)
    found.check_ids(module.ids, tokens, "its d2t names")
    if not own:
        module.embedding = hidden_states.embedding(target)
    return module
