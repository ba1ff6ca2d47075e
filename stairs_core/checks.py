"""What a model must be able to do before it is used, tried out on a few tokens."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache

from .encoded import UNLIMITED, bind, positions, reads_apart, start_ids
from .errors import InputError
from .kv import takes_cache
from .lane import WIDTH, Lane
from .skipping import skip
from .tryouts import agree, tokens, tried


def check_model(model: Any, name: str) -> None:
    """Raises InputError when guesses cannot be checked, or not undone, with the reason."""
    fault = _fault(model)
    if fault:
        raise InputError(f"{name} ({model.config.model_type}) {fault}")


def check_strict(model: Any, name: str) -> None:
    """Raises InputError when strict passes of this model are not what they promise.

    Tried here, on a few tokens: they agree with a plain pass, and give the same bits in any groups.
    """
    ids = tokens(model, 2 * WIDTH)
    kind = model.config.model_type
    if reads_apart(model) and positions(model, "decoder") < UNLIMITED:
        raise InputError(
            f"{name} ({kind}) counts its decoder's positions itself, and strict passes would run "
            "past the last of them: use --numerics fast."
        )
    model = bind(model, ids[:1])
    one, several = Lane(model, strict=True), Lane(model, strict=True)
    rows = tried(lambda: _one_by_one(one, ids, WIDTH))
    if rows is None or not agree(rows, tried(lambda: _anew(model, ids, WIDTH))):
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
    a, b, c, d, e, f, g = tokens(model, 7)
    context, branches = [a, b, c], ([], [d], [e], [d, f], [e, g])
    rows = tried(lambda: Lane(model).tree(context, [d, e, f, g], [-1, -1, 0, 1], 5))
    said = tried(lambda: torch.cat([_anew(model, context + more, 1) for more in branches]))
    return agree(rows, said)


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
    a, b, c, d = tokens(model, 4)

    def rolled_back() -> torch.Tensor:
        lane = Lane(skip(model, inner, inner))
        lane.logits([a, b, c], 1)
        return lane.logits([a, b, d, c], 2)

    if tried(rolled_back) is None:
        raise InputError(
            f"{name} ({kind}) does not run without its inner attentions and MLPs: use another "
            "drafter than layer-skip."
        )


def context_length(model: Any, prompt_length: int | None = None, first: int | None = None) -> int:
    """Tokens that a text may have, its prompt included. ``first``: what its decoder begins with.

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
    return prompt_length + own - len(start_ids(model, first))


def window(model: Any) -> int | None:
    """Tokens after which some layer forgets, and its cache can no longer be rolled back."""
    layers: list[Any] = DynamicCache(config=model.config).layers
    sizes = [layer.sliding_window for layer in layers if layer.is_sliding]
    return min(sizes, default=None)


def _fault(model: Any) -> str | None:
    """Why guesses cannot be checked together or undone, tried out; None where they can."""
    state = (
        "keeps a state that cannot be rolled back to an earlier token, so rejected guesses cannot "
        "be undone: choose a model with a plain KV cache."
    )
    if getattr(model, "_is_stateful", False):
        return state
    ids = tokens(model, 6)
    bound = bind(model, ids[:1])
    rows = tried(lambda: _rolled_back(bound, ids))
    if rows is not None and agree(rows, tried(lambda: _anew(bound, ids[:4], 2))):
        return None
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
    if not agree(
        tried(lambda: _anew(bound, ids[:3], 1)), tried(lambda: _anew(bound, ids[:4], 2)[:1])
    ):
        return (
            "lets each token of a pass see those after it, so guesses cannot be checked together: "
            "choose a model made to write."
        )
    return state


def _anew(model: Any, ids: list[int], last: int) -> torch.Tensor:
    """[last, vocabulary], from a pass over the whole text."""
    return Lane(model, cached=False).logits(ids, last)


def _one_by_one(lane: Lane, ids: list[int], last: int) -> torch.Tensor:
    """The same from a pass for each of the last tokens, over what is held of those before."""
    ends = range(len(ids) - last + 1, len(ids) + 1)
    return torch.cat([lane.logits(ids[:end], 1) for end in ends])


def _in_two(model: Any, ids: list[int]) -> torch.Tensor:
    """The last two of four tokens in one pass, over the first two's."""
    lane = Lane(model)
    lane.logits(ids[:2], 1)
    return lane.logits(ids[:4], 2)


def _rolled_back(model: Any, ids: list[int]) -> torch.Tensor:
    """The same from a real cache, after it has held two other tokens there."""
    lane = Lane(model)
    lane.logits([*ids[:2], *ids[4:6]], 1)
    return lane.logits(ids[:4], 2)
