"""What a target's ``generation_config.json`` changes in its text, as ``generate`` reads it.

The text of a run is the one that ``model.generate(ids, do_sample=False)`` writes, so the defaults
that a model comes with (Qwen's repetition penalty, Whisper's suppressed tokens) shape it here too.
``transformers`` itself makes logits processors of them, so what it adds to them is known here. What
a person asks for in ``Sampling`` is said in the place of the model's own values. The few defaults
that are no processors of one text, or cannot be kept to over rejected tokens, are left out
(``LEFT_OUT``) and named in the run.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList
from transformers.generation.utils import GenerationMixin

from .encoded import reads_apart, start_ids
from .errors import InputError
from .quiet import quiet
from .sampling import Sampling

LEFT_OUT = (
    *("num_beams", "num_beam_groups", "num_return_sequences", "penalty_alpha", "dola_layers"),
    *("constraints", "force_words_ids", "guidance_scale", "watermarking_config"),
    *("stop_strings", "max_time", "token_healing", "prompt_lookup_num_tokens"),
)
_SAMPLED = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
"""Of ``Sampling``, what has the same name there."""
_LONGEST = 60


def config(model: Any, sampling: Sampling | None) -> GenerationConfig:
    """The model's own, without ``LEFT_OUT`` and with what ``sampling`` says (None: greedy)."""
    found = copy.deepcopy(model.generation_config)
    # Set one by one: ``update`` would warn of what is set but not used.
    for name in LEFT_OUT:
        setattr(found, name, None)
    found.do_sample = sampling is not None and sampling.draws
    for name in _SAMPLED if sampling else ():
        setattr(found, name, getattr(sampling, name))
    if not found.min_p:
        found.min_p = None  # a processor that changes nothing would be made of 0
    return found


def processors(
    model: Any,
    prompt_ids: list[int],
    new: int,
    eos_ids: frozenset[int],
    sampling: Sampling | None = None,
    first: int | None = None,
) -> LogitsProcessorList:
    """What ``generate`` would have look at every row of ``model`` (one that no prompt is bound to)
    in a text of ``new`` more tokens, which ``first`` begins where an encoder reads the prompt.
    Raises InputError where the model's defaults have no sense."""
    try:
        found = _built(model, config(model, sampling), prompt_ids, new, eos_ids, first)
        if found:  # some say at their first row only what they cannot do
            text = start_ids(model, first) if reads_apart(model) else prompt_ids
            row = torch.zeros(1, model.config.get_text_config().vocab_size, device=model.device)
            _ = found(torch.tensor([text], device=model.device), row)  # type: ignore[arg-type]
        return found
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as e:
        reason = " ".join(str(e).split())[:160].rstrip(".")
        raise InputError(
            f"The model's generation_config.json cannot be kept to ({reason}): mend it."
        ) from e


def applied(model: Any, sampling: Sampling | None) -> tuple[str, ...]:
    """The model's own defaults that shape the text, each as ``name=value``."""
    own, found = config(model, sampling), []
    for name in model.generation_config.to_diff_dict():
        alone = GenerationConfig()
        alone.do_sample, alone.max_length = own.do_sample, 2
        alone.top_k = None  # 50, unless it is said
        if (sampling and name in _SAMPLED) or name in LEFT_OUT or not hasattr(own, name):
            continue
        setattr(alone, name, getattr(own, name))
        if name != "do_sample" and _built(model, alone, [0], 1, frozenset([0])):
            found.append(_said(name, getattr(own, name)))
    return tuple(found)


def left_out(model: Any) -> tuple[str, ...]:
    """The model's own defaults that are not kept to, each as ``name=value``."""
    values = {name: getattr(model.generation_config, name, None) for name in LEFT_OUT}
    # A draft that copies changes no text, and one text of one beam is what is written here.
    values.pop("prompt_lookup_num_tokens")
    return tuple(_said(n, v) for n, v in values.items() if not (v is None or v is False or v == 1))


@quiet()
def _built(
    model: Any,
    config: GenerationConfig,
    prompt_ids: list[int],
    new: int,
    eos_ids: frozenset[int],
    first: int | None = None,
) -> LogitsProcessorList:
    # A model of our own is no ``GenerationMixin``, and of a model only its config is read.
    mixin: Any = _Mixin(model.config)
    before, start = len(prompt_ids), prompt_ids
    if reads_apart(model):
        # A first token that is forced is given here, and is the first new one there.
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


def _said(name: str, value: Any) -> str:
    text = " ".join(repr(value).split())
    return f"{name}={text if len(text) <= _LONGEST else text[:_LONGEST] + '…'}"
