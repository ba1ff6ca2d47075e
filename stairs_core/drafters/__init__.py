"""The drafters: each method is one file here and one line of the registry, settings/methods.py."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from ..errors import InputError, Use
from ..settings.methods import FREE, REGISTRY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from ..forward.cached_model import CachedModel
    from ..models.pair import Pair
    from ..protocols import Drafter, LengthPolicy, Proposal, Sampler
    from ..text.tokens import Document


@dataclass(frozen=True, slots=True)
class DrafterInputs:
    """What a drafter is built from, for one run.

    ``length``: the run's policy, for its ``keep_drafting``. ``sampler``: chooses draft tokens.
    ``references``: texts to copy from.
    """

    pair: Pair
    length: LengthPolicy
    sampler: Sampler
    references: Sequence[Document] = ()


def build(name: str, inputs: DrafterInputs) -> Drafter:
    """A new drafter, for one run. Raises InputError when ``inputs`` lack what it needs.

    Its module is imported here, not above, so that names can be checked without loading torch.
    """
    return import_module(f".{name.replace('-', '_')}", __package__).build(inputs)


def writing(name: str, pair: Pair) -> Pair:
    """The pair whose target writes the text: the given one, except for a lossy method."""
    if not REGISTRY[name].lossy:
        return pair
    return import_module(f".{name.replace('-', '_')}", __package__).writes(pair)


def cached_draft(inputs: DrafterInputs, *, any_tokenizer: bool = False) -> CachedModel:
    """The pair's draft model with a KV cache. It takes the target's ids, or its own tokenizer's if
    ``any_tokenizer``.

    Raises InputError when the pair has no draft, and, unless ``any_tokenizer``, when the draft's
    ids mean other tokens than the target's.
    """
    from ..forward.cached_model import CachedModel
    from ..text.cross_tokenizer import difference

    pair = inputs.pair
    if pair.draft is None:
        raise InputError(
            f"{pair.target_name} has no draft model: ", Use(draft="", drafter=FREE), "."
        )
    if not pair.same_ids and not any_tokenizer:
        word, entry = difference(pair.tokenizer, pair.draft_tokenizer) or ("", 0)
        raise InputError(
            f"{pair.target_name} and {pair.draft_name} have different tokenizers (the first "
            f"difference is entry {entry}, {word!r:.40}): ",
            Use(drafter=("shared", "reencode")),
            ".",
        )
    return CachedModel(pair.stranger if any_tokenizer else pair.guesser)


def chain(
    inputs: DrafterInputs,
    name: str,
    context: list[int],
    count: int,
    logits: Callable[[list[int]], torch.Tensor],
    columns: torch.Tensor | None = None,
) -> Proposal:
    """At most ``count`` tokens after ``context``, an EOS being the last one. ``logits``: called
    with the tokens so far; returns those of the next one, [vocabulary]. ``columns``: the ids of
    their entries where these are not all, for a sampler that ``narrows``."""
    import torch

    from ..protocols import Proposal

    tokens: list[int] = []
    probs: list[torch.Tensor] = []
    rows: list[torch.Tensor] = []
    keep_drafting = inputs.length.keep_drafting
    while len(tokens) < count:
        rows.append(row := logits(tokens))
        token, q = inputs.sampler.sample(lambda: context + tokens, row)
        probs += [] if q is None else [q]
        tokens.append(int(token if columns is None else columns[token]))
        if tokens[-1] in inputs.pair.eos_ids:
            break
        if keep_drafting and not keep_drafting(float((row.softmax(-1) if q is None else q)[token])):
            break
    q = torch.stack(probs) if probs else None
    return Proposal(tokens, name, probs=q, rows=rows, columns=columns)
