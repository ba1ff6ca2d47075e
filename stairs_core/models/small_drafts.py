"""The small draft that was trained on a target (``stairs train head --kind draft``), ready to run.

It comes along as heads do and is found like one, and it is the pair's draft where none is named.
"""

from __future__ import annotations

from typing import Any

import torch

from ..errors import InputError
from ..forward import layer_skip_view, quantised_weights
from ..forward.small_draft import SmallDraft
from . import heads

KIND = "draft"


def of(target: Any, name: str) -> Any | None:
    """The draft of a stock target called ``name``; None where it has none, or is quantised,
    compiled or spread over devices. Raises InputError for a damaged one."""
    bound = layer_skip_view.is_replaced(target) or getattr(target, "hf_device_map", None)
    if bound or quantised_weights.label(target.config) or not heads.find(KIND, target):
        return None
    found = heads.load(KIND, target, name)
    layers, size = found.number("layers"), found.number("vocabulary")
    tokens = target.config.get_text_config().vocab_size
    if layers > target.config.get_text_config().num_hidden_layers or size > tokens:
        raise InputError(f"{found.folder} is damaged: it is larger than its target.")
    blank = SmallDraft(target, layers, torch.zeros(size, dtype=torch.long, device=target.device))
    draft: SmallDraft = found.fill(blank, target)
    found.check_ids(draft.ids, tokens, "its ids name")
    return draft.joined(target).eval()
