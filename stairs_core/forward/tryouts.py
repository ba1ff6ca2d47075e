"""Helpers to try a model out: ordinary tokens, a call that may fail, and a tolerant comparison."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle, islice
from typing import Any

import torch

from ..errors import InputError

_MARKS = ("pad", "bos", "eos", "sep", "cls", "unk", "mask", "decoder_start", "forced_bos")


def tokens(model: Any, count: int) -> list[int]:
    """Ids of ordinary tokens. Special ones may be treated differently: M2M100 gives a pad no
    position."""
    config = model.config.get_text_config(decoder=True)
    named = [getattr(config, f"{name}_token_id", None) for name in _MARKS]
    marks = {i for ids in named for i in (ids if isinstance(ids, list) else [ids])}
    ordinary = [i for i in range(config.vocab_size) if i not in marks]
    return [*islice(cycle(ordinary or [0]), count)]


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
    """Whether both are given and equal up to rounding. NaN in both counts as equal, since a run
    reports NaN itself."""
    if a is None or b is None:
        return False
    tolerance = 1e-3 if a.dtype == torch.float32 else 0.25
    return torch.allclose(a, b, atol=tolerance, rtol=tolerance, equal_nan=True)
