"""Checks that a model can do what decoding needs, by trying it on a few tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from ..errors import InputError, NoNumbers, Use
from . import faster_pass
from .cached_model import WIDTH, CachedModel
from .encoder_decoder import bind, positions, reads_apart, start_ids
from .kv_cache import takes_cache
from .layer_skip_view import INSTEAD, skip
from .rotary import UNLIMITED, reach
from .sliding_windows import widest
from .tryouts import TRIED, agree, outcome, rounding, sentence, tokens, tried

_EDGE = 8
"""How many tokens past a window's width a try-out takes place."""
_WIDEST = 2**12
"""Wider windows are not tried out, as that takes too much memory: the config is trusted."""
_STATE = (
    "keeps a state that cannot be rolled back to an earlier token, so rejected guesses cannot be "
    "undone: choose a model with a plain KV cache."
)


def check_model(model: Any, name: str) -> None:
    """Raises InputError, with the reason, when the model does not run, when guesses cannot be
    verified in one pass or cannot be undone, and NoNumbers when the model's logits are NaN or
    infinite."""
    fault = _fault(model, name)
    # Tried out first: some kinds that may keep a state, as Granite 4, have models without.
    if fault and getattr(model, "_is_stateful", False):
        fault = _STATE
    if fault:
        raise InputError(f"{name} ({model.config.model_type}) {fault}")


def check_strict(model: Any, name: str) -> None:
    """Raises InputError when strict numerics does not hold for this model.

    Tried on a few tokens, beyond a sliding window too: strict passes must agree with a plain pass,
    and must give bit-identical logits however the tokens are grouped.
    """
    ids = tokens(model, 2 * WIDTH)
    kind = model.config.model_type
    if reads_apart(model) and positions(model, "decoder") < UNLIMITED:
        raise InputError(
            f"{name} ({kind}) counts its decoder's positions itself, and strict passes would run "
            "past the last of them: ",
            Use(numerics="fast"),
            ".",
        )
    tolerance, stock, model = rounding(model), model, bind(model, ids[:1])
    fits = even = True
    for past in _lengths(model, 4 * WIDTH):
        held = partial(_holding, model, past)
        plain = tried(lambda held=held: _at_once(*held(), ids))
        rows = tried(lambda held=held: _singly(*held(strict=True), ids))
        fits = fits and agree(rows, plain, tolerance)
        again = tried(lambda held=held: _at_once(*held(strict=True), ids))
        even = even and _same_bits(rows, again)
    if not fits:
        raise InputError(
            f"{name} ({kind}) does not take the masks that strict numerics needs: ",
            Use(numerics="fast"),
            ".",
        )
    if not even:
        # Packed weights may help, where they are not in use already.
        more = {"compile": "auto"} if faster_pass.kind(stock) == "stock" else {}
        raise InputError(
            f"{name} ({kind}) rounds differently by a token's place in a pass on this machine: ",
            Use(**more, numerics="fast"),
            ".",
        )


def check_inputs(ids: torch.Tensor, inputs: dict[str, Any]) -> None:
    """Raises InputError unless ``ids`` [1, tokens] is one plain text and all that the model reads.

    ``inputs``: the other arguments that ``generate`` would pass to the model.
    """
    if len(ids) != 1:
        raise InputError(
            f"Stairs decodes one sequence at a time, not {len(ids)}: pass them singly."
        )
    given = {name: value for name, value in inputs.items() if value is not None}
    places = given.pop("position_ids", None)
    for name in ("cache", "past_key_values"):
        cache = given.pop(name, None)
        if getattr(cache, "_is_user_defined", False) or (cache and cache.get_seq_length()):
            raise InputError(
                "Stairs keeps a cache of its own and cannot go on from another: leave out "
                f"{name} and pass the whole text."
            )
    # transformers 5.17, unlike 5.24, also passes a mask that masks nothing.
    if not given.pop("attention_mask", torch.ones(1)).all():
        raise InputError("The prompt is padded, or partly masked: pass it alone, without padding.")
    if places is not None and places.flatten().tolist() != [*range(ids.shape[1])]:
        given["position_ids"] = places
    others = [name for name in given if name not in ("use_cache", "logits_to_keep")]
    if others:
        raise InputError(f"Stairs does not hand {others[0]} on to the model: pass input_ids alone.")


def takes_trees(model: Any) -> bool:
    """Whether one pass over a tree gives the same logits as passes over its branches; tried out.

    Not for encoder-decoder models: their decoders count positions themselves.
    """
    if reads_apart(model):
        return False
    tolerance, (*_, a, b, c, d) = rounding(model), tokens(model, TRIED)
    branches = ([], [a], [b], [a, c], [b, d])
    for past in _lengths(model, len(branches)):
        one, context = _holding(model, past, size=TRIED - 4)
        rows = tried(lambda at=one, text=context: at.tree(text, [a, b, c, d], [-1, -1, 0, 1], 5))
        other, _ = _holding(model, past, size=TRIED - 4)
        singly = tried(lambda at=other, text=context: _after_each(at, text, branches))
        if not agree(rows, singly, tolerance):
            return False
    return True


def check_skipping(model: Any, name: str) -> None:
    """Raises InputError when the model does not run without its inner layers' sublayers.

    Tried on a few tokens, with all of them skipped.
    """
    kind = model.config.model_type
    if reads_apart(model):
        raise InputError(
            f"{name} ({kind}) is an encoder-decoder model, of which nothing can be skipped: ",
            INSTEAD,
            ".",
        )
    count = model.config.get_text_config().num_hidden_layers
    if count < 3:
        raise InputError(
            f"{name} ({kind}) has no layer between its first and its last that could be skipped: ",
            INSTEAD,
            ".",
        )
    inner = range(1, count - 1)
    a, b, c, d = tokens(model, 4)

    def rolled_back() -> torch.Tensor:
        cached = CachedModel(skip(model, inner, inner))
        cached.logits([a, b, c], 1)
        return cached.logits([a, b, d, c], 2)

    if tried(rolled_back) is None:
        raise InputError(
            f"{name} ({kind}) does not run without its inner attentions and MLPs: ",
            INSTEAD,
            ".",
        )


def context_length(model: Any, prompt_length: int | None = None, first: int | None = None) -> int:
    """The most tokens that a text may have, prompt included: the length the model was made for.

    For an encoder-decoder model this depends on ``prompt_length``, and is unlimited where that is
    None. ``first``: the token that its decoder begins with. Raises InputError for a prompt that is
    too long for the encoder.
    """
    if not reads_apart(model):
        return reach(model.config) or positions(model, "decoder")
    if prompt_length is None:
        return UNLIMITED
    longest = positions(model, "encoder")
    if prompt_length > longest:
        raise InputError(
            f"The prompt has {prompt_length} tokens, and the encoder reads {longest}: shorten it "
            f"by {prompt_length - longest} or more."
        )
    return prompt_length + positions(model, "decoder") - len(start_ids(model, first))


def table_length(model: Any) -> int:
    """The most tokens before a decoder runs out of position embeddings; unlimited with rotary ones.
    ``generate`` knows no other limit and fails there."""
    return UNLIMITED if reach(model.config) else positions(model, "decoder")


def _fault(model: Any, name: str) -> str | None:
    """Why the model does not run, or guesses cannot be verified in one pass or cannot be undone,
    tried out; None where they can. Raises NoNumbers."""
    ids = tokens(model, TRIED)
    bound = bind(model, ids[:1])
    plain = outcome(lambda: _anew(bound, ids[:-2], 2))
    if isinstance(plain, Exception):
        return f"does not run here: {sentence(plain)}."
    if not plain.amax(-1).isfinite().all():
        raise NoNumbers(name, plain.dtype)
    rows, tolerance = tried(lambda: _rolled_back(bound, ids)), rounding(model)
    if rows is not None and agree(rows, plain, tolerance):
        return None if _rolls_back_past_windows(bound, ids, tolerance) else _STATE
    if not takes_cache(model):
        return "keeps no KV cache, which guesses are checked over: choose another model."
    singly = tried(lambda: _one_by_one(CachedModel(bound), ids[:-2], 2))
    if singly is None:
        return (
            "does not run over a plain cache of keys and values, where guesses are checked and "
            "undone: choose another model."
        )
    if tried(lambda: _in_two(bound, ids)) is None:
        return (
            "cannot read several tokens in one pass over its cache, so guesses cannot be checked "
            "together: choose another model."
        )
    first = tried(lambda: _anew(bound, ids[:-3], 1))
    if not agree(first, plain[:1], tolerance):
        return (
            "lets each token of a pass see those after it, so guesses cannot be checked together: "
            "choose a model made to write."
        )
    return _STATE


def _rolls_back_past_windows(model: Any, ids: list[int], tolerance: float) -> bool:
    """Whether guesses can be undone beyond a sliding window, too. Compared with passes over single
    tokens, as a pass over the whole text would cost too much."""
    for past in _lengths(model, len(ids))[1:]:
        (one, text), (other, _) = _holding(model, past), _holding(model, past)
        rows = tried(lambda at=one, text=text: _rolled_back(model, [*text, *ids], at))
        singly = tried(lambda at=other, text=text: _one_by_one(at, [*text, *ids[:-2]], 2))
        if not agree(rows, singly, tolerance):
            return False
    return True


def _anew(model: Any, ids: list[int], last: int) -> torch.Tensor:
    """[last, vocabulary]: logits at the last positions, from one pass without a cache."""
    return CachedModel(model, cached=False).logits(ids, last)


def _one_by_one(cached: CachedModel, ids: list[int], last: int) -> torch.Tensor:
    """[last, vocabulary]: the same from one pass per token, over the cache."""
    ends = range(len(ids) - last + 1, len(ids) + 1)
    return torch.cat([cached.logits(ids[:end], 1) for end in ends])


def _at_once(cached: CachedModel, text: list[int], ids: list[int]) -> torch.Tensor:
    """[WIDTH, vocabulary]: logits at the end of ``ids`` after the text, which they may begin with,
    in one pass."""
    return cached.logits(_joined(text, ids), WIDTH)


def _singly(cached: CachedModel, text: list[int], ids: list[int]) -> torch.Tensor:
    """The same from one pass per token."""
    return _one_by_one(cached, _joined(text, ids), WIDTH)


def _joined(text: list[int], ids: list[int]) -> list[int]:
    return ids if ids[: len(text)] == text else [*text, *ids]


def _after_each(
    cached: CachedModel, text: list[int], branches: Sequence[list[int]]
) -> torch.Tensor:
    """[branches, vocabulary]: logits after the text and each branch."""
    return torch.cat([cached.logits(text + branch, 1) for branch in branches])


def _in_two(model: Any, ids: list[int]) -> torch.Tensor:
    """[2, vocabulary]: the first two of ``ids`` in one pass, the next two in another."""
    cached = CachedModel(model)
    cached.logits(ids[:2], 1)
    return cached.logits(ids[:4], 2)


def _rolled_back(model: Any, ids: list[int], cached: CachedModel | None = None) -> torch.Tensor:
    """[2, vocabulary]: logits at the end of ``ids`` without its last two tokens, after these were
    in the cache in place of the two before them, and were cropped."""
    cached = cached or CachedModel(model)
    cached.logits([*ids[:-4], *ids[-2:]], 1)
    return cached.logits(ids[:-2], 2)


def _lengths(model: Any, more: int) -> list[int]:
    """The text lengths to try a model at: 0 (a few tokens), and one just beyond its widest sliding
    window, if it has one and ``more`` tokens can follow there."""
    if reads_apart(model):
        return [0]
    end = context_length(model)
    size = widest(model.config, min(end, _WIDEST))
    long = min(size + _EDGE, end - more)
    return [0, long] if size and long > _EDGE else [0]


def _holding(
    model: Any, past: int, strict: bool = False, size: int = 3
) -> tuple[CachedModel, list[int]]:
    """A cached model and the text in its cache: ``size`` tokens, stretched to ``past`` if not 0."""
    cached, text = CachedModel(model, strict=strict), tokens(model, size)
    cached.logits(text, 1)
    return cached, cached.stretch(past, min(past, 2 * _EDGE)) if past else text


def _same_bits(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    """Bit-identical; NaN counts as equal, since a run reports it anyway."""
    if a is None or b is None:
        return False
    return torch.allclose(a, b, atol=0, rtol=0, equal_nan=True)
