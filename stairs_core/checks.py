"""What a model must be able to do before it is used, tried out on a few tokens."""

from __future__ import annotations

from typing import Any

import torch

from .encoded import bind, positions, reads_apart, start_ids
from .errors import InputError
from .lane import WIDTH, Lane
from .ropes import UNLIMITED, reach
from .skipping import skip
from .windows import widest

_EDGE = 8
"""Tokens past a window's width that a try-out stands at."""
_WIDEST = 2**12
"""No window as wide is tried out, for the room that it needs: it is taken at its word."""


def check_model(model: Any, name: str) -> None:
    """Raises InputError when the model's cache cannot be rolled back, with the reason."""
    kind = model.config.model_type
    if getattr(model, "_is_stateful", False) or not _croppable(bind(model, [0])):
        raise InputError(
            f"{name} ({kind}) keeps a state that cannot be rolled back to an earlier token, so "
            "rejected guesses cannot be undone: choose a model with a plain KV cache."
        )


def check_strict(model: Any, name: str) -> None:
    """Raises InputError when strict passes of this model are not what they promise.

    Tried here, on a few tokens, past a window too: they agree with a plain pass, and give the same
    bits in any groups.
    """
    ids = list(range(2 * WIDTH))
    kind = model.config.model_type
    if reads_apart(model) and positions(model, "decoder") < UNLIMITED:
        raise InputError(
            f"{name} ({kind}) counts its decoder's positions itself, and strict passes would run "
            "past the last of them: use --numerics fast."
        )
    model = bind(model, [0])
    try:
        fits, even = True, True
        for past in _lengths(model, 4 * WIDTH):
            (plain, text), (one, _), (several, _) = (
                _holding(model, past, strict) for strict in (False, True, True)
            )
            ids = [*text, *ids] if past else ids
            places = range(len(ids) - WIDTH, len(ids))
            rows = torch.cat([one.logits(ids[: n + 1], 1) for n in places])
            fits = fits and _close(rows, plain.logits(ids, WIDTH))
            even = even and torch.equal(rows, several.logits(ids, WIDTH))
    except (IndexError, KeyError, RuntimeError, TypeError, ValueError):
        fits = even = False
    if not fits:
        raise InputError(
            f"{name} ({kind}) does not take the masks that strict numerics needs: "
            "use --numerics fast."
        )
    if not even:
        raise InputError(
            f"{name} ({kind}) rounds differently by a token's place in a pass on this machine: "
            "use --compile auto, or --numerics fast."
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
    if "attention_mask" in given:
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
    model, tokens, parents = bind(model, [0]), [4, 5, 6, 7], [-1, -1, 0, 1]
    try:
        for past in _lengths(model, len(tokens)):
            lane, context = _holding(model, past)
            rows = lane.tree(context, tokens, parents, 5)
            lane, _ = _holding(model, past)
            branches = ([], [4], [5], [4, 6], [5, 7])
            said = [lane.logits(context + branch, 1)[0] for branch in branches]
            if not _close(rows, torch.stack(said)):
                return False
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return False
    return True


def check_skipping(model: Any, name: str) -> None:
    """Raises InputError when the model cannot do without its inner layers' sublayers.

    Tried here without all of them, on a few tokens.
    """
    kind = model.config.model_type
    if reads_apart(model):
        raise InputError(
            f"{name} ({kind}) is an encoder-decoder model, of which nothing can be skipped: use "
            "another drafter than layer-skip."
        )
    count = model.config.get_text_config().num_hidden_layers
    if count < 3:
        raise InputError(
            f"{name} ({kind}) has no layer between its first and its last that could be skipped: "
            "use another drafter than layer-skip."
        )
    inner = range(1, count - 1)
    try:
        lane = Lane(skip(model, inner, inner))
        lane.logits([0, 1, 2], 1)
        lane.logits([0, 1, 3, 2], 2)
    except (InputError, torch.OutOfMemoryError):
        raise
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as e:
        raise InputError(
            f"{name} ({kind}) does not run without its inner attentions and MLPs: use another "
            "drafter than layer-skip."
        ) from e


def context_length(model: Any, prompt_length: int | None = None) -> int:
    """Tokens that a text may have, its prompt included: as many as the model was made for.

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
    return prompt_length + positions(model, "decoder") - len(start_ids(model))


def table_length(model: Any) -> int:
    """Tokens that a text of a decoder may have before it runs out of positions to look up: where
    ``generate``, which knows no other limit, would break."""
    return UNLIMITED if reach(model.config) else positions(model, "decoder")


def _croppable(model: Any) -> bool:
    """Rolls a real cache back by two tokens and asks whether the answer is what a new one gives,
    and past a window, where the whole text would cost too much, what it gives token by token."""
    try:
        lane, ids = Lane(model), [0, 1, 2, 3]
        lane.logits([*ids[:2], 3, 2], 1)
        if not _close(lane.logits(ids, 1), Lane(model, cached=False).logits(ids, 1)):
            return False
        for past in _lengths(model, len(ids))[1:]:
            (lane, text), (other, _) = _holding(model, past), _holding(model, past)
            lane.logits([*text, *ids[:2], 3, 2], 1)
            rows = [other.logits([*text, *ids[:n]], 1)[0] for n in (3, 4)]
            if not _close(lane.logits([*text, *ids], 2), torch.stack(rows)):
                return False
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return False
    return True


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
    lane, text = Lane(model, strict=strict), [1, 2, 3]
    lane.logits(text, 1)
    return lane, lane.stretch(past, min(past, 2 * _EDGE)) if past else text


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    tolerance = 1e-3 if a.dtype == torch.float32 else 0.25
    return torch.allclose(a, b, atol=tolerance, rtol=tolerance)
