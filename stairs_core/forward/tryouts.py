"""Helpers to try a model out: ordinary tokens, a call that may fail, and a tolerant comparison."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch

from ..errors import InputError
from .cached_model import CachedModel
from .encoder_decoder import bind, reads_apart

_MARKS = ("pad", "bos", "eos", "sep", "cls", "unk", "mask", "decoder_start", "forced_bos")
_ROUNDING = {torch.bfloat16: (0.05, 0.2), torch.float16: (0.01, 0.05)}
"""How far rounding may move logits, as a share of their spread, at least and at most: see
``rounding``.

Measured over texts as ``tokens`` gives them: right passes of the bundled pair and of SmolLM2, a
noisy model of 30 layers, are at most 0.01 and 0.03 apart in bfloat16, 0.002 and 0.009 in float16,
and 1e-6 and 4e-4 in float32. Wrong ones of the bundled pair, in which a tree's positions or its
mask are left out, have rows that are 0.1 to 0.5 apart.
"""
_EXACT = 2e-3
"""The same in float32."""
TRIED = 14
"""Tokens of a text that a model is tried on. After a few only, rounding is blown up more."""
_WIDER = 24, 33
_ODD = 1e4
"""Larger logits stand for tokens that are never chosen."""
_WRITTEN: WeakKeyDictionary[Any, list[int]] = WeakKeyDictionary()
"""By model: ``_written``."""


def tokens(model: Any, count: int) -> list[int]:
    """Ids of ordinary tokens, all different; the first begins a text, where the model has such a
    token. In half precision the model writes the text itself, as far as it need be calm.

    Special tokens may be treated differently (M2M100 gives a pad no position). And over a text
    that is none, some models blow up what rounding changed, until right passes look wrong: passes
    of SmolLM2 over random tokens are up to 11 times the spread of its logits apart in bfloat16,
    over its own words 0.07.
    """
    if getattr(model, "dtype", None) not in _ROUNDING or reads_apart(model):
        return _ordinary(model, count)
    try:
        text = _WRITTEN.get(model)
    except TypeError:  # cannot be referred to weakly, as some stand-ins
        return _ordinary(model, count)
    if text is None:
        text = _WRITTEN[model] = _written(model)
    others = [i for i in _ordinary(model, count + len(text)) if i not in text]
    return [*text, *others][:count]


def _written(model: Any) -> list[int]:
    """What the model goes on with after a text's first token, no token twice; nothing where it
    fails. Without a cache, as it may have none."""
    text, marks = _ordinary(model, 1), [i for i in _marks(model) if i is not None and i >= 0]
    plain = CachedModel(model, cached=False)
    while len(text) < TRIED:
        logits = tried(lambda: plain.logits(text, 1)[0])
        if logits is None or max(marks, default=0) >= len(logits):
            return []
        odd = torch.tensor([*text, *marks], device=logits.device)
        text.append(int(logits.index_fill(0, odd, float("-inf")).argmax()))
    return text


def _marks(model: Any) -> set[int | None]:
    """Ids of special tokens."""
    config = model.config.get_text_config(decoder=True)
    named = [getattr(config, f"{name}_token_id", None) for name in _MARKS]
    return {i for ids in named for i in (ids if isinstance(ids, list) else [ids])}


def _ordinary(model: Any, count: int) -> list[int]:
    """Spread over the vocabulary, whose first and last tokens may never have been trained."""
    config, marks = model.config.get_text_config(decoder=True), _marks(model)
    ordinary = [i for i in range(config.vocab_size) if i not in marks] or [0]
    size, apart = len(ordinary), max(len(ordinary) // 128, 1)
    ids = [ordinary[(size // 8 + i * apart) % size] for i in range(count)]
    begins: Any = getattr(config, "bos_token_id", None)
    inside = isinstance(begins, int) and 0 <= begins < config.vocab_size
    decoder_alone = not getattr(model.config, "is_encoder_decoder", False)
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


def rounding(model: Any) -> float:
    """How far rounding may move the model's logits, as a share of their spread.

    In half precision that is another for each model: a few times what was seen to change where more
    tokens follow in the same pass. Other kernels run then, and what they compute is the same.
    """
    dtype = getattr(model, "dtype", torch.float32)
    if dtype not in _ROUNDING:
        return _EXACT
    ids, (least, most) = tokens(model, _WIDER[-1]), _ROUNDING[dtype]
    bound = bind(model, ids[:1])

    def same(count: int) -> torch.Tensor | None:
        """[4, vocabulary]: at the end of the first ``TRIED`` tokens, from a pass over so many."""
        plain = CachedModel(bound, cached=False)
        return tried(lambda: plain.logits(ids[:count], count)[TRIED - 4 : TRIED])

    few, many = same(TRIED), [same(count) for count in _WIDER]
    if few is None:
        return least
    moved = [_apart(rows, few).max().item() for rows in many if rows is not None]
    return min(most, max(least, *(6 * share for share in moved)))


def widest_rounding(dtype: torch.dtype) -> float:
    """The most that ``rounding`` can be."""
    return _ROUNDING[dtype][1] if dtype in _ROUNDING else _EXACT


def agree(a: torch.Tensor | None, b: torch.Tensor | None, tolerance: float) -> bool:
    """Whether both logits, [rows, vocabulary], are given and equal but for rounding (``rounding``).
    The likeliest token of each must be nearly that of the other. NaN in both counts as equal, since
    a run reports NaN itself."""
    if a is None or b is None:
        return False
    return bool((_apart(a, b) <= tolerance).all())


def _apart(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """[rows]: how far the logits are apart, as a share of the spread of ``b``; NaN or infinite
    where one has no number. A difference that all have is none: probabilities stay as they are."""
    a, b = a.float(), b.float()
    same = (a == b) | (a.isnan() & b.isnan())
    # Tokens that are never chosen, as far below the median as the best is above it, or farther,
    # count by themselves: they would hide in their spread what the others are apart.
    finite = b.abs() < _ODD
    highest = b.masked_fill(~finite, -_ODD).amax(-1, keepdim=True)
    middle = b.masked_fill(~finite, float("nan")).nanmedian(-1, keepdim=True).values
    usual = finite & (b >= 2 * middle - highest)

    def mean(x: torch.Tensor) -> torch.Tensor:
        return x.where(usual, 0).sum(-1, keepdim=True) / usual.sum(-1, keepdim=True).clamp(1)

    gap = (a - b - mean(a - b)).masked_fill(same & ~usual, 0)
    far, spread = mean(gap.square()).sqrt(), mean((b - mean(b)).square()).sqrt()
    behind = torch.maximum(_behind(a, b, usual), _behind(b, a, usual))
    odd = (gap / (b - middle)).abs().where(~usual & ~same, 0).amax(-1, keepdim=True)
    apart = torch.maximum(torch.maximum(far, behind / 8) / spread, odd)
    return apart.masked_fill(same.all(-1, keepdim=True), 0)[:, 0]


def _behind(a: torch.Tensor, b: torch.Tensor, usual: torch.Tensor) -> torch.Tensor:
    """[rows, 1]: by how much the likeliest token of ``a`` is less likely in ``b`` than the best."""
    a, b = (x.masked_fill(~usual, -_ODD) for x in (a, b))
    return b.amax(-1, keepdim=True) - b.gather(-1, a.argmax(-1, keepdim=True))
