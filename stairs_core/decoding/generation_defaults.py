"""The logits processors that a target's ``generation_config.json`` asks for, as in ``generate``.

The text of a run is the one that ``model.generate(ids, do_sample=False)`` writes, so a model's
defaults (Qwen's repetition penalty, Whisper's suppressed tokens) apply here too. ``transformers``
itself builds the processors, so that defaults it adds later work as well. ``Sampling`` overrides
the model's values. A few defaults are left out (``LEFT_OUT``) and named in the run: those that are
not processors of one text, and those that cannot be undone for rejected tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList
from transformers.generation.utils import GenerationMixin

from ..errors import InputError
from ..forward.encoder_decoder import reads_apart, start_ids
from ..quiet import quiet
from ..settings.sampling import Sampling

LEFT_OUT = (
    *("num_beams", "num_beam_groups", "num_return_sequences", "penalty_alpha", "dola_layers"),
    *("constraints", "force_words_ids", "guidance_scale", "watermarking_config"),
    *("stop_strings", "max_time", "token_healing", "prompt_lookup_num_tokens"),
)
_SAMPLED = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
"""Fields of ``Sampling`` that have the same name in a ``GenerationConfig``."""
_LONGEST = 60
_SENSELESS = (AttributeError, IndexError, RuntimeError, TypeError, ValueError)
"""What transformers raises for values that it cannot use."""


def config(model: Any, sampling: Sampling | None) -> GenerationConfig:
    """The model's config without ``LEFT_OUT``, overridden by ``sampling`` (None: greedy)."""
    found = copy.deepcopy(model.generation_config)
    # Set one by one: ``update`` would warn of values that are set but not used.
    for name in LEFT_OUT:
        setattr(found, name, None)
    found.do_sample = sampling is not None and sampling.draws
    for name in _SAMPLED if sampling else ():
        setattr(found, name, getattr(sampling, name))
    if not found.min_p:
        found.min_p = None  # for 0 a processor would be built that changes nothing
    return found


def processors(
    model: Any,
    prompt_ids: list[int],
    new: int,
    eos_ids: frozenset[int],
    sampling: Sampling | None = None,
    first: int | None = None,
) -> LogitsProcessorList:
    """The processors that ``generate`` would apply to every row of logits of ``model``, for a text
    of ``new`` more tokens. ``model``: one that no prompt is bound to (``encoder_decoder.bind``).
    ``first``: the decoder's first token, where an encoder reads the prompt. Raises InputError where
    the model's defaults, or the values of ``sampling``, make no sense."""

    def made(asked: Sampling | None) -> LogitsProcessorList:
        found = _built(model, config(model, asked), prompt_ids, new, eos_ids, first)
        if found:  # some fail only when they are first called
            text = start_ids(model, first) if reads_apart(model) else prompt_ids
            row = torch.zeros(1, model.config.get_text_config().vocab_size, device=model.device)
            _ = found(torch.tensor([text], device=model.device), row)  # type: ignore[arg-type]
        return found

    try:
        return made(sampling)
    except _SENSELESS as e:
        reason = " ".join(str(e).split())[:160].rstrip(".")
        if sampling is not None and _works(made):
            raise InputError(
                f"These settings of sampling cannot be used ({reason}): change them."
            ) from e
        raise InputError(
            f"The model's generation_config.json cannot be kept to ({reason}): mend it."
        ) from e


def _works(made: Callable[[Sampling], Any]) -> bool:
    """Whether the model's defaults make sense where ``Sampling`` asks for nothing."""
    try:
        made(Sampling(0.0))
    except _SENSELESS:
        return False
    return True


def applied(model: Any, sampling: Sampling | None) -> tuple[str, ...]:
    """The model's own defaults that change the text, each as ``name=value``."""
    own, found = config(model, sampling), []
    for name in model.generation_config.to_diff_dict():
        alone = GenerationConfig()
        alone.do_sample, alone.max_length = own.do_sample, 2
        alone.top_k = None  # its default is 50
        if (sampling and name in _SAMPLED) or name in LEFT_OUT or not hasattr(own, name):
            continue
        setattr(alone, name, getattr(own, name))
        if name != "do_sample" and _built(model, alone, [0], 1, frozenset([0])):
            found.append(_shown(name, getattr(own, name)))
    return tuple(found)


def left_out(model: Any) -> tuple[str, ...]:
    """The model's own defaults that are not applied, each as ``name=value``."""
    values = {name: getattr(model.generation_config, name, None) for name in LEFT_OUT}
    # Prompt lookup changes no text; a value of 1, as of num_beams, asks for nothing.
    values.pop("prompt_lookup_num_tokens")
    return tuple(_shown(n, v) for n, v in values.items() if not (v is None or v is False or v == 1))


@quiet()
def _built(
    model: Any,
    config: GenerationConfig,
    prompt_ids: list[int],
    new: int,
    eos_ids: frozenset[int],
    first: int | None = None,
) -> LogitsProcessorList:
    # Models of ours are no ``GenerationMixin``; its method reads only the model's config.
    mixin: Any = _Mixin(model.config)
    before, start = len(prompt_ids), prompt_ids
    if reads_apart(model):
        # A forced first token is part of the decoder's prompt here; ``generate`` counts it as new.
        start, before = start_ids(model, first), 1
    device = model.device
    config.max_length = len(start) + new
    ends = torch.tensor(sorted(eos_ids), device=device) if eos_ids else None
    config._eos_token_tensor = ends  # type: ignore[attr-defined]  # as ``generate`` sets it
    return mixin._get_logits_processor(
        generation_config=config,
        input_ids_seq_length=before,
        encoder_input_ids=torch.tensor([prompt_ids], device=device),
        device=device,
    )


class _Mixin(GenerationMixin):
    def __init__(self, config: Any) -> None:
        self.config = config


def _shown(name: str, value: Any) -> str:
    text = " ".join(repr(value).split())
    return f"{name}={text if len(text) <= _LONGEST else text[:_LONGEST] + '…'}"
