"""Helpers to try a model out: ordinary tokens, a call that may fail, and a tolerant comparison."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..errors import InputError

_MARKS = ("pad", "bos", "eos", "sep", "cls", "unk", "mask", "decoder_start", "forced_bos")


_ROUNDING = {torch.bfloat16: 0.25, torch.float16: 0.1}
"""How far rounding may move logits, as a share of their spread; 3e-4 in other dtypes. Measured:
passes of SmolLM2, a noisy model of 30 layers, are 0.1 apart in bfloat16 and 0.03 in float16, and
a tree with one branch misplaced 0.2 to 3."""
_ODD = 1e4
"""Larger logits stand for tokens that are never chosen."""


def tokens(model: Any, count: int) -> list[int]:
    """Ids of ordinary tokens; the first begins a text, where the model has such a token.

    Special ones may be treated differently (M2M100 gives a pad no position). Without its first
    token, and over tokens that it was never trained on, as a vocabulary's first and last often are,
    a model may blow up rounding until right passes look wrong.
    """
    config = model.config.get_text_config(decoder=True)
    named = [getattr(config, f"{name}_token_id", None) for name in _MARKS]
    marks = {i for ids in named for i in (ids if isinstance(ids, list) else [ids])}
    ordinary = [i for i in range(config.vocab_size) if i not in marks] or [0]
    size, apart = len(ordinary), max(len(ordinary) // 128, 1)
    ids = [ordinary[(size // 8 + i * apart) % size] for i in range(count)]
    begins: Any = getattr(config, "bos_token_id", None)
    decoder_alone = not getattr(model.config, "is_encoder_decoder", False)
    inside = isinstance(begins, int) and 0 <= begins < config.vocab_size
    if decoder_alone and inside and begins != getattr(config, "pad_token_id", None):
        return [begins, *ids[1:]]
    return ids


def tried(what: Callable[[], torch.Tensor]) -> torch.Tensor | None:
    """The result of ``what``, or None where the model fails, as ``outcome``."""
    found = outcome(what)
    return None if isinstance(found, Exception) else found


def outcome(what: Callable[[], torch.Tensor]) -> torch.Tensor | Exception:
    """The result of ``what``, or its exception where the model fails: models may raise any.

    InputError and OutOfMemoryError are raised: they do not mean that the model cannot do it.
    """
    try:
        return what()
    except (InputError, torch.OutOfMemoryError):
        raise
    except Exception as e:
        return e


def sentence(error: Exception) -> str:
    """The first sentence of an error's text, without its full stop; its kind where it has none."""
    message = " ".join(str(error).split()) or type(error).__name__
    return message.split(". ")[0][:200].rstrip(".")


def agree(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    """Whether both logits, [rows, vocabulary], are given and equal up to rounding, row by row. NaN
    in both counts as equal, since a run reports NaN itself."""
    if a is None or b is None:
        return False
    same = (a == b) | (a.isnan() & b.isnan())
    apart = (a.float() - b.float()).masked_fill(same, 0).norm(dim=-1)
    usual = b.abs() < _ODD
    mean = b.float().where(usual, 0).sum(-1, keepdim=True) / usual.sum(-1, keepdim=True).clamp(1)
    spread = (b.float() - mean).where(usual, 0).norm(dim=-1)
    return bool((apart <= _ROUNDING.get(a.dtype, 3e-4) * spread).all())
