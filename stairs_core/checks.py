"""What a model must be able to do before it is used, tried out on a few tokens."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache

from .encoded import UNLIMITED, bind, positions, reads_apart, start_ids
from .errors import InputError
from .lane import WIDTH, Lane
from .skipping import skip


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

    Tried here, on a few tokens: they agree with a plain pass, and give the same bits in any groups.
    """
    ids = list(range(2 * WIDTH))
    kind = model.config.model_type
    if reads_apart(model) and positions(model, "decoder") < UNLIMITED:
        raise InputError(
            f"{name} ({kind}) counts its decoder's positions itself, and strict passes would run "
            "past the last of them: use --numerics fast."
        )
    model = bind(model, [0])
    one, several = Lane(model, strict=True), Lane(model, strict=True)
    try:
        rows = torch.cat([one.logits(ids[: n + 1], 1) for n in range(WIDTH, 2 * WIDTH)])
        fits = _close(rows, Lane(model, cached=False).logits(ids, WIDTH))
    except (IndexError, RuntimeError, TypeError, ValueError):
        fits, rows = False, torch.empty(0)
    if not fits:
        raise InputError(
            f"{name} ({kind}) does not take the masks that strict numerics needs: "
            "use --numerics fast."
        )
    if not torch.equal(rows, several.logits(ids, WIDTH)):
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
    context, tokens, parents = [1, 2, 3], [4, 5, 6, 7], [-1, -1, 0, 1]
    try:
        rows = Lane(model).tree(context, tokens, parents, 5)
        said = [
            Lane(model).logits(context + branch, 1)[0] for branch in ([], [4], [5], [4, 6], [5, 7])
        ]
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        return False
    return _close(rows, torch.stack(said))


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
    """Tokens that a text may have, its prompt included.

    Where an encoder reads the prompt, that depends on the prompt's length, and is not known (no
    limit) before it. Raises InputError for a prompt that the encoder cannot read.
    """
    own = min(positions(model, "decoder"), window(model) or UNLIMITED)
    if not reads_apart(model):
        return own
    if prompt_length is None:
        return UNLIMITED
    longest = positions(model, "encoder")
    if prompt_length > longest:
        raise InputError(
            f"The prompt has {prompt_length} tokens, and the encoder reads {longest}: shorten it "
            f"by {prompt_length - longest} or more."
        )
    return prompt_length + own - len(start_ids(model))


def window(model: Any) -> int | None:
    """Tokens after which some layer forgets, and its cache can no longer be rolled back."""
    layers: list[Any] = DynamicCache(config=model.config).layers
    sizes = [layer.sliding_window for layer in layers if layer.is_sliding]
    return min(sizes, default=None)


def _croppable(model: Any) -> bool:
    """Rolls a real cache back by two tokens and asks whether the answer is what a new one gives."""
    lane, ids = Lane(model), [0, 1, 2, 3]
    try:
        lane.logits([*ids[:2], 3, 2], 1)
        return _close(lane.logits(ids, 1), Lane(model, cached=False).logits(ids, 1))
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return False


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    tolerance = 1e-3 if a.dtype == torch.float32 else 0.25
    return torch.allclose(a, b, atol=tolerance, rtol=tolerance)
