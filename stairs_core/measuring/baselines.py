"""What people use today, for the bench: transformers' own ways to decode, and gpt-fast's loop.

Each is a function that takes a stock pair (``compile="off"``), prompt ids and a length, and returns
the new ids. Only the bench uses this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from ..decoding import generation_defaults
from ..decoding.samplers import Greedy, Processors
from ..forward.cached_model import CachedModel
from ..forward.encoder_decoder import reads_apart, start_ids
from ..protocols import Proposal
from ..quiet import quiet

if TYPE_CHECKING:
    from ..models.pair import Pair

Peer = Callable[["Pair", list[int], int], list[int]]


def transformers_generate(pair: Pair, ids: list[int], new: int, **options: Any) -> list[int]:
    """The target's ``generate(do_sample=False)``. ``options``: more arguments for it."""
    inputs = torch.tensor([ids], device=pair.device)
    given, forced, decoder = ids, 0, {}
    if reads_apart(pair.target):
        given = start_ids(pair.target)
        forced = len(given) - 1  # a forced first token: we give it, ``generate`` would write it
        decoder = {"decoder_input_ids": torch.tensor([given[:1]], device=pair.device)}
    with quiet():  # ``generate`` warns of options that it passes to itself
        # Replaces the model's own config, which may ask for options that our loop leaves out.
        config = generation_defaults.config(pair.target, None)
        values = {
            "max_new_tokens": min(new, pair.for_prompt(ids).context_length - len(ids)) + forced,
            "max_length": None,
            "decoder_start_token_id": given[0] if decoder else None,
            "eos_token_id": sorted(pair.eos_ids) or None,
            "pad_token_id": min(pair.eos_ids, default=0),
            **{name: value for name, value in options.items() if name != "assistant_model"},
        }
        for name, value in values.items():
            setattr(config, name, value)
        with _changed(pair.target, {"generation_config": config}):
            out = pair.target.generate(
                inputs,
                attention_mask=torch.ones_like(inputs),
                assistant_model=options.get("assistant_model"),
                **decoder,
            )
    return out[0, len(given) :].tolist()


def transformers_assisted(
    pair: Pair, ids: list[int], new: int, *, tokens: int, schedule: str, threshold: float
) -> list[int]:
    """The target's ``generate`` with the draft as ``assistant_model``.

    The draft options are set in the draft's own config, because ``generate`` ignores them as
    arguments (transformers issue 40739), and before every run, because the schedule changes them.
    """
    assert pair.draft is not None
    wanted = {
        "num_assistant_tokens": tokens,
        "num_assistant_tokens_schedule": schedule,
        "assistant_confidence_threshold": threshold,
    }
    with _changed(pair.draft.generation_config, wanted):
        return transformers_generate(pair, ids, new, assistant_model=pair.draft)


def gpt_fast(pair: Pair, ids: list[int], new: int, *, k: int) -> list[int]:
    """The loop of gpt-fast's ``generate.py`` (commit 32971d3), greedy.

    It always drafts K tokens; when all are accepted, the draft reads the last of them too, in a
    pass of its own. Here it drives the pair that it is given instead of gpt-fast's own compiled
    models, and it reads every guess as soon as it is made, as gpt-fast's uncompiled loop does. It
    stops at EOS, which the original leaves to its caller.
    """
    processors = generation_defaults.processors(pair.target, ids, new, pair.eos_ids)
    pair = pair.for_prompt(ids)
    assert pair.draft is not None
    decoder_ids = getattr(pair.target, "decoder_ids", lambda ids: ids)
    greedy = Greedy(Processors(processors, decoder_ids))
    target, draft = CachedModel(pair.target), CachedModel(pair.guesser)
    end = min(len(ids) + new, pair.context_length)
    text = [*ids, *greedy.accept(ids, Proposal([]), target.logits(ids, 1)).predictions]
    while len(text) < end and text[-1] not in pair.eos_ids:
        guesses: list[int] = []
        k = min(k, end - len(text))
        for _ in range(k):
            read = text + guesses
            guesses.append(int(greedy.sample(lambda read=read: read, draft.logits(read, 1)[0])[0]))
        rows = target.logits(text + guesses, k + 1)  # [k + 1, vocabulary]
        predicted = greedy.accept(text, Proposal(guesses), rows).predictions
        accepted = next((i for i in range(k) if guesses[i] != predicted[i]), k)
        if accepted == k and len(text) + k < end:
            draft.logits(text + guesses, 1)
        for token in [*guesses[:accepted], predicted[accepted]]:
            text.append(token)
            if token in pair.eos_ids:
                break
    return text[len(ids) : end]


def against_transformers(has_draft: bool) -> dict[str, Peer]:
    """The lanes of ``--against transformers``, by name."""
    lanes: dict[str, Peer] = {"transformers, greedy": transformers_generate}
    if has_draft:
        assisted = {f"constant {k}": (k, "constant", 0.0) for k in (3, 5, 8)}
        assisted["heuristic"] = (5, "heuristic", 0.0)
        assisted["confidence 0.4"] = (20, "constant", 0.4)
        for name, (tokens, schedule, threshold) in assisted.items():
            lanes[f"transformers, assisted, {name}"] = partial(
                transformers_assisted, tokens=tokens, schedule=schedule, threshold=threshold
            )
    lanes["transformers, prompt lookup"] = partial(
        transformers_generate, prompt_lookup_num_tokens=10
    )
    return lanes


@contextmanager
def _changed(config: Any, values: dict[str, Any]) -> Iterator[None]:
    """Sets attributes of ``config``, and puts the old values back."""
    before = {name: getattr(config, name) for name in values}
    try:
        for name, value in values.items():
            setattr(config, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(config, name, value)
