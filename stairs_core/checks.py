"""What a model must be able to do before it is used, tried out on a few tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .encoded import bind, positions, reads_apart, start_ids
from .errors import InputError, NoNumbers, Use
from .kv import takes_cache
from .lane import WIDTH, Lane
from .ropes import UNLIMITED, reach
from .skipping import INSTEAD, skip
from .tryouts import agree, tokens, tried
from .windows import widest

_EDGE = 8
"""Tokens past a window's width that a try-out stands at."""
_WIDEST = 2**12
"""No window as wide is tried out, for the room that it needs: it is taken at its word."""


def check_model(model: Any, name: str) -> None:
    """Raises InputError when guesses cannot be checked, or not undone, with the reason, and when
    the model's logits are no numbers."""
    fault = _fault(model, name)
    if fault:
        raise InputError(f"{name} ({model.config.model_type}) {fault}")


def check_strict(model: Any, name: str) -> None:
    """Raises InputError when strict passes of this model are not what they promise.

    Tried here, on a few tokens, past a window too: they agree with a plain pass, and give the same
    bits in any groups.
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
    model = bind(model, ids[:1])
    fits = even = True
    for past in _lengths(model, 4 * WIDTH):
        (plain, text), (one, _), (several, _) = (
            _holding(model, past, strict) for strict in (False, True, True)
        )
        told = [*text, *ids] if past else ids
        rows = tried(lambda one=one, told=told: _one_by_one(one, told, WIDTH))
        fits = fits and agree(rows, tried(lambda at=plain, told=told: at.logits(told, WIDTH)))
        again = tried(lambda at=several, told=told: at.logits(told, WIDTH))
        even = even and _same_bits(rows, again)
    if not fits:
        raise InputError(
            f"{name} ({kind}) does not take the masks that strict numerics needs: ",
            Use(numerics="fast"),
            ".",
        )
    if not even:
        raise InputError(
            f"{name} ({kind}) rounds differently by a token's place in a pass on this machine: ",
            Use(compile="auto", numerics="fast"),
            ".",
        )


def check_inputs(ids: torch.Tensor, inputs: dict[str, Any]) -> None:
    """Raises InputError when there is more than one text, ``ids`` [1, tokens], to go on from.

    ``inputs``: what else ``generate`` would hand on to the model.
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
    # One that masks nothing is left out by transformers 5.24, but not by 5.17.
    if not given.pop("attention_mask", torch.ones(1)).all():
        raise InputError("The prompt is padded, or partly masked: pass it alone, without padding.")
    if places is not None and places.flatten().tolist() != [*range(ids.shape[1])]:
        given["position_ids"] = places
    others = [name for name in given if name not in ("use_cache", "logits_to_keep")]
    if others:
        raise InputError(f"Stairs does not hand {others[0]} on to the model: pass input_ids alone.")


def takes_trees(model: Any) -> bool:
    """Whether a pass over a tree gives what passes over its branches give, tried on two.

    Not where an encoder reads the prompt: such decoders count their positions themselves.
    """
    if reads_apart(model):
        return False
    model, (a, b, c, d) = bind(model, [0]), tokens(model, 7)[3:]
    branches = ([], [a], [b], [a, c], [b, d])
    for past in _lengths(model, len(branches)):
        lane, context = _holding(model, past)
        rows = tried(lambda at=lane, text=context: at.tree(text, [a, b, c, d], [-1, -1, 0, 1], 5))
        lane, _ = _holding(model, past)
        said = tried(lambda at=lane, text=context: _after_each(at, text, branches))
        if not agree(rows, said):
            return False
    return True


def check_skipping(model: Any, name: str) -> None:
    """Raises InputError when the model cannot do without its inner layers' sublayers.

    Tried here without all of them, on a few tokens.
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
        lane = Lane(skip(model, inner, inner))
        lane.logits([a, b, c], 1)
        return lane.logits([a, b, d, c], 2)

    if tried(rolled_back) is None:
        raise InputError(
            f"{name} ({kind}) does not run without its inner attentions and MLPs: ",
            INSTEAD,
            ".",
        )


def context_length(model: Any, prompt_length: int | None = None, first: int | None = None) -> int:
    """Tokens that a text may have, its prompt included: as many as the model was made for.
    ``first``: what its decoder begins with.

    Where an encoder reads the prompt, that depends on the prompt's length, and is not known (no
    limit) before it. Raises InputError for a prompt that the encoder cannot read.
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
    """Tokens that a text of a decoder may have before it runs out of positions to look up: where
    ``generate``, which knows no other limit, would break."""
    return UNLIMITED if reach(model.config) else positions(model, "decoder")


def _fault(model: Any, name: str) -> str | None:
    """Why guesses cannot be checked together or undone, tried out; None where they can. Raises
    NoNumbers."""
    state = (
        "keeps a state that cannot be rolled back to an earlier token, so rejected guesses cannot "
        "be undone: choose a model with a plain KV cache."
    )
    if getattr(model, "_is_stateful", False):
        return state
    ids = tokens(model, 6)
    bound = bind(model, ids[:1])
    plain = tried(lambda: _anew(bound, ids[:4], 2))
    if plain is not None and not plain.amax(-1).isfinite().all():
        raise NoNumbers(name, plain.dtype)
    rows = tried(lambda: _rolled_back(bound, ids))
    if rows is not None and agree(rows, plain):
        return None if _rolls_back_past_windows(bound, ids) else state
    if not takes_cache(model):
        return "keeps no KV cache, which guesses are checked over: choose another model."
    singly = tried(lambda: _one_by_one(Lane(bound), ids[:4], 2))
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
    first = tried(lambda: _anew(bound, ids[:3], 1))
    if plain is None or not agree(first, plain[:1]):
        return (
            "lets each token of a pass see those after it, so guesses cannot be checked together: "
            "choose a model made to write."
        )
    return state


def _rolls_back_past_windows(model: Any, ids: list[int]) -> bool:
    """The same past a window, where the whole text would cost too much, against narrower passes."""
    for past in _lengths(model, len(ids))[1:]:
        (lane, text), (other, _) = _holding(model, past), _holding(model, past)
        rows = tried(lambda at=lane, text=text: _rolled_back(model, [*text, *ids], at))
        singly = tried(lambda at=other, text=text: _one_by_one(at, [*text, *ids[:4]], 2))
        if not agree(rows, singly):
            return False
    return True


def _anew(model: Any, ids: list[int], last: int) -> torch.Tensor:
    """[last, vocabulary], from a pass over the whole text."""
    return Lane(model, cached=False).logits(ids, last)


def _one_by_one(lane: Lane, ids: list[int], last: int) -> torch.Tensor:
    """The same from a pass for each of the last tokens, over what is held of those before."""
    ends = range(len(ids) - last + 1, len(ids) + 1)
    return torch.cat([lane.logits(ids[:end], 1) for end in ends])


def _after_each(lane: Lane, text: list[int], branches: Sequence[list[int]]) -> torch.Tensor:
    """[branches, vocabulary]: after the text and each branch."""
    return torch.cat([lane.logits(text + branch, 1) for branch in branches])


def _in_two(model: Any, ids: list[int]) -> torch.Tensor:
    """The last two of four tokens in one pass, over the first two's."""
    lane = Lane(model)
    lane.logits(ids[:2], 1)
    return lane.logits(ids[:4], 2)


def _rolled_back(model: Any, ids: list[int], lane: Lane | None = None) -> torch.Tensor:
    """The same for all but the last two of ``ids``, from a real cache that has held those two in
    place of the two before."""
    lane = lane or Lane(model)
    lane.logits([*ids[:-4], *ids[-2:]], 1)
    return lane.logits(ids[:-2], 2)


def _lengths(model: Any, more: int) -> list[int]:
    """Where to try a model out, in tokens of text: 0, a short one, and one past the widest of its
    windows, if ``more`` tokens can follow there."""
    if reads_apart(model):
        return [0]
    end = context_length(model)
    size = widest(model.config, min(end, _WIDEST))
    long = min(size + _EDGE, end - more)
    return [0, long] if size and long > _EDGE else [0]


def _holding(model: Any, past: int, strict: bool = False) -> tuple[Lane, list[int]]:
    """A lane, and the text that it holds: three tokens, or as if it had ``past`` of them."""
    lane, text = Lane(model, strict=strict), tokens(model, 3)
    lane.logits(text, 1)
    return lane, lane.stretch(past, min(past, 2 * _EDGE)) if past else text


def _same_bits(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    """Where both are no numbers too: a run says that itself."""
    if a is None or b is None:
        return False
    return torch.allclose(a, b, atol=0, rtol=0, equal_nan=True)
