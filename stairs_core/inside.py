"""Our loop inside ``transformers``' ``generate``: its inputs and its rules, our steps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import (
    EosTokenCriteria,
    GenerationConfig,
    LogitsProcessorList,
    MaxLengthCriteria,
    StoppingCriteriaList,
)
from transformers.generation.configuration_utils import GenerationMode
from transformers.generation.streamers import BaseStreamer
from transformers.generation.utils import GenerateDecoderOnlyOutput, GenerationMixin

from . import checks, drafters, lengths, verify
from .choice import Greedy, Processors, Speculative
from .clock import Clock
from .costs import Costs
from .encoded import reads_apart
from .engine import Limits, generate
from .errors import PYTHON, InputError, speaking
from .models import count_bytes, count_parameters
from .pair import Pair
from .protocols import Choice, Drafter, Kit, LengthPolicy
from .scribe import Scribe
from .settings import AUTO, Settings
from .text import Wordless
from .trace import Step
from .watch import Ends, Rows

_MODES = (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE, GenerationMode.ASSISTED_GENERATION)
READERS = ("reference", "reencode", "shared")
"""Drafters that need texts, where ``generate`` has ids."""
_USUAL_K = Settings().k
_KNOWN: WeakKeyDictionary[Any, WeakKeyDictionary[Any, dict[tuple[str, bool], Costs]]] = (
    WeakKeyDictionary()
)
"""What passes cost, by target and draft, of those that were checked; forgotten with the models."""


@speaking(PYTHON)
def custom_generate(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    streamer: BaseStreamer | None = None,
    assistant_model: Any | None = None,
    drafter: str | None = None,
    k: int | str | None = None,
    backend: str = "single_kv",
    on_step: Callable[[Step], object] | None = None,
    **model_kwargs: Any,
) -> torch.Tensor | GenerateDecoderOnlyOutput:
    """For ``model.generate(..., custom_generate=custom_generate)``; returns what that returns.

    Greedily the text is the one that ``model`` alone would write; with ``do_sample`` its law is,
    and ``torch.manual_seed`` repeats it. ``input_ids``: [1, tokens]. Options of our own, given to
    ``generate``: ``drafter`` ("model" where there is an ``assistant_model``, else "lookup"); ``k``
    (a number, "auto", or ``prompt_lookup_num_tokens``); ``backend``; ``on_step``, called with every
    step. The cache is our own and is not returned. Raises InputError for what cannot be done here.

    ``generate`` keeps its ``tokenizer`` from every callable, and so refuses ``stop_strings``: give
    it a ``StopStringCriteria`` among ``stopping_criteria``.
    """
    config = generation_config
    streamer = _kept_back("streamer") if streamer is None else streamer
    draft = _kept_back("assistant_model") if assistant_model is None else assistant_model
    _check_config(config)
    settings = _settings(drafter or ("lookup" if draft is None else "model"), k, backend, config)
    pair = _pair(model, draft, input_ids, _eos_ids(stopping_criteria))
    checks.check_inputs(input_ids, model_kwargs)
    processors = Processors(logits_processor)
    rows = Rows(_choice(processors, pair, config), processors, config)
    guesser, length = _guesser(pair, input_ids[0].tolist(), settings, rows)
    steps = generate(
        input_ids[0].tolist(),
        verify.build(backend, pair.for_prompt(input_ids[0].tolist()).target),
        guesser,
        rows,
        Scribe(Wordless(), [], weighs=on_step is not None),
        Clock(pair.device),
        _limits(input_ids, stopping_criteria, pair, rows.scores),
        length,
    )
    new = [*_told(steps, streamer, on_step)]
    sequences = torch.cat([input_ids, input_ids.new_tensor([new])], dim=-1)
    return rows.output(sequences, len(new)) if config.return_dict_in_generate else sequences


def _kept_back(name: str) -> Any:
    """What ``generate`` was given under a name that it does not hand on to a callable.

    transformers 5.23 (``_extract_generation_mode_kwargs``) drops ``assistant_model`` and
    ``streamer``. They are where it put them: among the locals of the call that is still running.
    """
    mixin: Any = GenerationMixin
    code = inspect.unwrap(mixin.generate).__code__
    frame = inspect.currentframe()
    while frame and frame.f_code is not code:
        frame = frame.f_back
    return frame.f_locals.get(name) if frame else None


def _check_config(config: GenerationConfig) -> None:
    mode = config.get_generation_mode()
    if mode not in _MODES:
        raise InputError(f"Stairs decodes greedily or by sampling, but not by {mode.value}.")
    for name in ("guidance_scale", "watermarking_config"):
        if getattr(config, name) not in (None, 1):
            raise InputError(f"Stairs cannot keep to {name} over rejected tokens: leave it out.")
    for name in ("output_attentions", "output_hidden_states"):
        if config.return_dict_in_generate and getattr(config, name):
            raise InputError(f"Stairs does not return what {name} asks for: leave it out.")


def _settings(
    drafter: str, k: int | str | None, backend: str, config: GenerationConfig
) -> Settings:
    if drafter in READERS:
        raise InputError(f"The drafter {drafter} reads texts, and generate has ids: use another.")
    if k == "auto":
        return Settings(drafter, backend=backend, **AUTO)
    k = config.prompt_lookup_num_tokens or _USUAL_K if k is None else k
    return Settings(drafter, k, backend=backend)  # type: ignore[arg-type]  # it says what k is


def _pair(model: Any, draft: Any | None, ids: torch.Tensor, eos_ids: frozenset[int]) -> Pair:
    """The models as they are. Raises InputError when they, or ``ids``, do not go together."""
    models = [model] if draft is None else [model, draft]
    names = [m.config.name_or_path or m.config.model_type for m in models]
    if any(map(reads_apart, models)):
        raise InputError("Stairs runs encoder-decoder models on its own: use stairs_core.Runner.")
    known = _KNOWN.setdefault(model, WeakKeyDictionary())
    if models[-1] not in known:
        for one, name in zip(models, names, strict=True):
            checks.check_model(one, name)
        known[models[-1]] = {}
    if len({ids.device, *(m.device for m in models)}) > 1:
        raise InputError("The models and input_ids are on several devices: move them to one.")
    pair = Pair(
        name=names[0],
        target=model,
        draft=draft,
        target_name=names[0],
        draft_name=None if draft is None else names[-1],
        tokenizer=None,
        draft_tokenizer=None,
        eos_ids=eos_ids,
        draft_eos_ids=eos_ids,
        context_length=min(map(checks.table_length, models)),
        parameters=(count_parameters(model), count_parameters(draft)),
        bytes=(count_bytes(model), count_bytes(draft)),
    )
    pair.require_rows(ids[0].tolist())
    return pair


def _choice(processors: Processors, pair: Pair, config: GenerationConfig) -> Choice:
    if not config.do_sample:
        return Greedy(processors)
    return Speculative(processors, int(torch.randint(2**63 - 1, ())), pair.device)


def _guesser(
    pair: Pair, ids: list[int], settings: Settings, choice: Choice
) -> tuple[Drafter, LengthPolicy]:
    """Raises InputError when the models lack what the drafter needs."""
    name, backend = settings.drafter, settings.backend
    # Never drafts: it says what it is.
    drafter = drafters.build(name, Kit(pair, lengths.build("constant", 1), choice))
    if drafters.REGISTRY[name].tree and backend.startswith("single"):
        pair.require_trees()
    costs, known = None, _KNOWN[pair.target][pair.draft or pair.target]
    if settings.length == "cost":
        key = backend, drafter.uses_draft_model
        costs = known[key] = known.get(key) or pair.costs(backend, drafts=key[1])
    length = lengths.build(settings.length, settings.k, costs, doubts=drafter.doubts)
    return drafters.build(name, Kit(pair.for_prompt(ids), length, choice)), length


def _limits(
    ids: torch.Tensor, criteria: StoppingCriteriaList, pair: Pair, scores: list | None
) -> Limits:
    """Where ``generate`` would stop. Raises InputError for a length that the models do not read."""
    length = max(criteria.max_length or 0, ids.shape[1] + 1)
    if length > pair.context_length:
        raise InputError(
            f"The text may grow to {length} tokens with its prompt, and the models read "
            f"{pair.context_length}: lower max_new_tokens, or max_length."
        )
    others = [c for c in criteria if not isinstance(c, EosTokenCriteria | MaxLengthCriteria)]
    return Limits(length, "length", pair.eos_ids, ends=Ends(ids, others, scores))


def _eos_ids(criteria: StoppingCriteriaList) -> frozenset[int]:
    ends = [c for c in criteria if isinstance(c, EosTokenCriteria)]
    return frozenset(int(i) for c in ends for i in c.eos_token_id)


def _told(
    steps: Iterator[Step], streamer: Any | None, on_step: Callable[[Step], object] | None
) -> Iterator[int]:
    """The tokens of the text, once those who listen have them."""
    for step in steps:
        for token in step.committed:
            if streamer is not None:
                streamer.put(torch.tensor([token.id]))
            yield token.id
        if on_step:
            on_step(step)
    if streamer is not None:
        streamer.end()
