"""Our loop inside ``transformers``' ``generate``: its inputs, rules and results, and our steps.

model.generate(ids, custom_generate=custom_generate, streamer=s, ...)   what a user calls
  transformers: logits processors, stopping criteria, config            made from the arguments
    custom_generate(model, input_ids, logits_processor, ...)            below
      engine.generate                                                   the loop
        _RowKeeper.accept   a sampler that keeps the target's rows, for output_scores
        _EndCheck           asks the stopping criteria after every token
    -> a tensor or a GenerateDecoderOnlyOutput, as ``generate`` returns
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from transformers import (
    EosTokenCriteria,
    GenerationConfig,
    LogitsProcessorList,
    MaxLengthCriteria,
    StoppingCriteriaList,
)
from transformers.generation import logits_process
from transformers.generation.configuration_utils import GenerationMode
from transformers.generation.streamers import BaseStreamer
from transformers.generation.utils import GenerateDecoderOnlyOutput, GenerationMixin

from .. import drafters
from ..decoding import draft_lengths, verify
from ..decoding.clock import Clock
from ..decoding.engine import Limits, generate
from ..decoding.recorder import Recorder
from ..decoding.samplers import Greedy, Processors, Speculative
from ..drafters import DrafterInputs
from ..errors import PYTHON, InputError, speaking
from ..forward import capabilities
from ..forward.encoder_decoder import reads_apart
from ..measuring import pass_timing
from ..models import small_drafts
from ..models.load import count_bytes, count_parameters
from ..models.pair import Pair
from ..protocols import Acceptance, Drafter, LengthPolicy, Proposal, Sampler
from ..settings import methods
from ..settings.settings import AUTO, K_RANGE, Settings
from ..text.tokens import Wordless
from ..traces.records import Step

_MODES = (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE, GenerationMode.ASSISTED_GENERATION)
_USUAL_K = Settings().k
_DRAFTING = {
    "num_assistant_tokens": 20,
    "num_assistant_tokens_schedule": "constant",
    "assistant_confidence_threshold": 0.4,
}
"""What ``generate`` is told of its ``assistant_model``, and transformers' defaults, which every
config that comes here holds: they were not asked for."""
_DRAFTER = "the option drafter says who guesses"
_NOT_TAKEN: dict[str, tuple[tuple[Any, ...], str]] = {
    "assistant_early_exit": ((None,), f"{_DRAFTER}, such as layer-skip"),
    "use_mtp": ((None, False), _DRAFTER),
    "speculation_type": ((None,), _DRAFTER),
    "assistant_ensemble_weight": ((None, 0, 1), "every text is the model's own"),
    "max_matching_ngram_size": ((None, 3), "lookup looks for 3 tokens, then for 2 and for 1"),
    "prefill_chunk_size": ((None,), "it chooses the parts of a prompt itself"),
    "cache_implementation": ((None, "dynamic"), "the cache is its own"),
}
"""Options of ``generate`` that change nothing here: the values that ask for nothing, and why."""
_STATEFUL = tuple(
    getattr(logits_process, f"{name}LogitsProcessor")
    for name in (
        "UnbatchedClassifierFreeGuidance",
        "SynthIDTextWatermark",
        "DiaEOSDelayPattern",
    )
    if hasattr(logits_process, f"{name}LogitsProcessor")
)
"""Processors that must see each token of the text once, in order: guesses are none yet."""
_CHECKED: WeakSet[Any] = WeakSet()
"""Models that passed ``check_model`` before."""
_DRAFTS: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
"""The small drafts that came along with targets, made once."""


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

    Greedy text is the one that ``model`` alone would write. With ``do_sample`` its distribution is
    that of ``model`` alone, and ``torch.manual_seed`` repeats it. ``input_ids``: [1, tokens].

    Options of our own, given to ``generate``: ``drafter`` ("model" where there is an
    ``assistant_model``, else "lookup"; of a model on which a small draft was trained, that is found
    too); ``k`` (a number, or "auto"; without it, the config's ``prompt_lookup_num_tokens``, or the
    ``num_assistant_tokens`` set with an ``assistant_model``, else 6); ``backend``; ``on_step``,
    called with every step. The KV cache is our own and is not returned. Raises InputError for what
    cannot be done here.

    ``stop_strings`` are refused by ``generate`` itself, which passes its ``tokenizer`` on to no
    callable: give a ``StopStringCriteria`` among ``stopping_criteria``.
    """
    config, prompt = generation_config, input_ids[0].tolist()
    streamer = _argument_of_generate("streamer") if streamer is None else streamer
    draft = _argument_of_generate("assistant_model") if assistant_model is None else assistant_model
    _check_config(config, model)
    _check_processors(logits_processor)
    usual = "lookup" if draft is None else "model"
    settings = _settings(drafter or usual, k, backend, config, draft)
    threshold = _asked("assistant_confidence_threshold", config, draft)
    if draft is None and methods.REGISTRY[settings.drafter].draft != "no":
        draft = _own_draft(model)
    pair = _pair(model, draft, input_ids, _eos_ids(stopping_criteria))
    capabilities.check_inputs(input_ids, model_kwargs)
    processors = Processors(logits_processor)
    sampler = _RowKeeper(_sampler(processors, pair, config), processors, config)
    proposer, length = _drafter(pair, prompt, settings, sampler, threshold)
    steps = generate(
        prompt,
        verify.build(backend, pair.for_prompt(prompt).target),
        proposer,
        sampler,
        Recorder(Wordless(), [], weighs=on_step is not None),
        Clock(pair.device),
        _limits(input_ids, stopping_criteria, pair, sampler.scores),
        length,
    )
    new = [*_streamed(steps, streamer, on_step)]
    sequences = torch.cat([input_ids, input_ids.new_tensor([new])], dim=-1)
    return sampler.output(sequences, len(new)) if config.return_dict_in_generate else sequences


def _own_draft(model: Any) -> Any | None:
    """The small draft that was trained on the model, where there is one."""
    if model not in _DRAFTS:
        _DRAFTS[model] = small_drafts.of(model, model.config.name_or_path)
    return _DRAFTS[model]


def _argument_of_generate(name: str) -> Any:
    """An argument of ``generate`` that it does not pass on to its callable.

    transformers 5.23 (``_extract_generation_mode_kwargs``) drops ``assistant_model`` and
    ``streamer`` on the way. But ``generate`` is still running further up the call stack, with its
    arguments among its local variables, so they are read from its frame:

        generate            f_locals: assistant_model, streamer, ...   <- read here
          custom_generate   called without them
            this function   walks f_back until the code is that of ``generate``

    ``inspect.unwrap`` finds that code below ``generate``'s decorator, whose frame still holds the
    ``kwargs`` that ``generate`` takes things out of. None where ``generate`` is not on the stack:
    someone called ``custom_generate`` directly.
    """
    mixin: Any = GenerationMixin
    code = inspect.unwrap(mixin.generate).__code__
    frame = inspect.currentframe()
    while frame and frame.f_code is not code:
        frame = frame.f_back
    if frame is None:
        return None
    given = frame.f_back.f_locals.get("kwargs") if frame.f_back else None
    return frame.f_locals.get(name, given.get(name) if isinstance(given, dict) else None)


def _check_config(config: GenerationConfig, model: Any) -> None:
    mode = config.get_generation_mode()
    if mode not in _MODES:
        raise InputError(f"Stairs decodes greedily or by sampling, but not by {mode.value}.")
    for name in ("guidance_scale", "watermarking_config"):
        if getattr(config, name) not in (None, 1):
            raise InputError(f"Stairs cannot keep to {name} over rejected tokens: leave it out.")
    for name in ("output_attentions", "output_hidden_states"):
        if config.return_dict_in_generate and getattr(config, name):
            raise InputError(f"Stairs does not return what {name} asks for: leave it out.")
    for name, (nothing, why) in _NOT_TAKEN.items():
        value = getattr(config, name, None)
        # What the model's own config carries was asked for by nobody.
        if value not in (*nothing, getattr(model.generation_config, name, None)):
            raise InputError(f"Stairs does not take {name}={value!r:.40}, as {why}: leave it out.")
    if _argument_of_generate("assistant_tokenizer") is not None:
        raise InputError(
            "Stairs guesses in the model's own tokens: leave out assistant_tokenizer, and give an "
            "assistant_model with the model's tokenizer."
        )


def _check_processors(processors: LogitsProcessorList) -> None:
    for one in processors:
        if isinstance(one, _STATEFUL):
            raise InputError(
                f"{type(one).__name__} remembers the tokens that it saw, and Stairs shows it some "
                "that are rejected: leave it out."
            )


def _asked(name: str, config: GenerationConfig, draft: Any | None) -> Any:
    """What was asked about a draft, of ``generate`` or in the draft's own config, which is where
    transformers looks. None where nothing was, or there is no draft."""
    if draft is None:
        return None
    for one in (config, getattr(draft, "generation_config", None)):
        value = getattr(one, name, None)
        if value not in (None, _DRAFTING[name]):
            return value
    return None


def _settings(
    drafter: str, k: int | str | None, backend: str, config: GenerationConfig, draft: Any | None
) -> Settings:
    if drafter in methods.REGISTRY and methods.REGISTRY[drafter].reads_text:
        raise InputError(f"The drafter {drafter} reads texts, and generate has ids: use another.")
    if drafter in methods.REGISTRY and methods.REGISTRY[drafter].lossy:
        raise InputError(
            f"The drafter {drafter} writes another text than the model's (lossy), and generate "
            "returns the model's own: use another, such as slm."
        )
    if k == "auto":
        return Settings(drafter, backend=backend, **AUTO)
    schedule = _asked("num_assistant_tokens_schedule", config, draft)
    length = "heuristic" if str(schedule).startswith("heuristic") else "constant"
    k = _k(config, draft) if k is None else k
    return Settings(drafter, k, backend=backend, length=length)  # type: ignore[arg-type]  # k


def _k(config: GenerationConfig, draft: Any | None) -> int:
    """What the options of ``generate`` say of K. Raises InputError, which names the option."""
    low, high = K_RANGE
    asked = _asked("num_assistant_tokens", config, draft)
    own = getattr(getattr(draft, "generation_config", None), "num_assistant_tokens", None)
    if asked == own and type(own) is int:
        asked = min(own, high)  # transformers' heuristic schedule leaves a growing number there
    for name, value in (
        ("prompt_lookup_num_tokens", config.prompt_lookup_num_tokens),
        ("num_assistant_tokens", asked),
    ):
        if value is None:
            continue
        if type(value) is not int or not low <= value <= high:
            raise InputError(
                f"{name} is {value!r:.60}, but must be a whole number from {low} to {high}."
            )
        return value
    return _USUAL_K


def _pair(model: Any, draft: Any | None, ids: torch.Tensor, eos_ids: frozenset[int]) -> Pair:
    """The models as they are. Raises InputError when they, or ``ids``, do not go together."""
    models = [model] if draft is None else [model, draft]
    names = [m.config.name_or_path or m.config.model_type for m in models]
    if any(map(reads_apart, models)):
        raise InputError("Stairs runs encoder-decoder models on its own: use stairs_core.Runner.")
    for one, name in zip(models, names, strict=True):
        if one not in _CHECKED:
            capabilities.check_model(one, name)
            _CHECKED.add(one)
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
        context_length=min(map(capabilities.table_length, models)),
        parameters=(count_parameters(model), count_parameters(draft, beside=model)),
        bytes=(count_bytes(model), count_bytes(draft, beside=model)),
    )
    pair.require_rows(ids[0].tolist())
    return pair


def _sampler(processors: Processors, pair: Pair, config: GenerationConfig) -> Sampler:
    if not config.do_sample:
        return Greedy(processors)
    return Speculative(processors, int(torch.randint(2**63 - 1, ())), pair.device)


def _drafter(
    pair: Pair, ids: list[int], settings: Settings, sampler: Sampler, threshold: float | None
) -> tuple[Drafter, LengthPolicy]:
    """The drafter and its length policy; ``threshold``: of the draft's probability, under which it
    stops. Raises InputError when the models lack what it needs."""
    name, backend = settings.drafter, settings.backend
    method = methods.REGISTRY[name]
    # Built only to raise InputError early for models that it cannot use; it never drafts.
    drafters.build(name, DrafterInputs(pair, draft_lengths.build("constant", 1), sampler))
    if method.tree and backend.startswith("single"):
        pair.require_trees()
    costs = None
    if settings.length == "cost":
        costs = pass_timing.costs(pair, backend, drafts=method.uses_draft_model)
    length = draft_lengths.build(settings.length, settings.k, costs, method)
    if threshold is not None and costs is None:
        rule = _BothRules if settings.length == "heuristic" else draft_lengths.Confidence
        length = rule(settings.k, threshold)
    return drafters.build(name, DrafterInputs(pair.for_prompt(ids), length, sampler)), length


class _BothRules(draft_lengths.Confidence, draft_lengths.Heuristic):
    """As transformers, where a draft's config asks for a schedule and for a threshold."""


def _limits(
    ids: torch.Tensor, criteria: StoppingCriteriaList, pair: Pair, scores: list | None
) -> Limits:
    """Where ``generate`` would stop. Raises InputError for a length that the models do not read."""
    lengths = [c.max_length for c in criteria if type(c) is MaxLengthCriteria]
    length = max(min(lengths, default=0), ids.shape[1] + 1)
    if length > pair.context_length:
        raise InputError(
            f"The text may grow to {length} tokens with its prompt, and the models read "
            f"{pair.context_length}: lower max_new_tokens, or max_length."
        )
    # A class made from one of these may decide otherwise, so it is asked.
    others = [c for c in criteria if type(c) not in (EosTokenCriteria, MaxLengthCriteria)]
    return Limits(length, "length", pair.eos_ids, ends=_EndCheck(ids, others, scores))


def _eos_ids(criteria: StoppingCriteriaList) -> frozenset[int]:
    ends = [c for c in criteria if type(c) is EosTokenCriteria]
    return frozenset(int(i) for c in ends for i in c.eos_token_id)


def _streamed(
    steps: Iterator[Step], streamer: Any | None, on_step: Callable[[Step], object] | None
) -> Iterator[int]:
    """The new ids, each yielded after ``streamer`` has it; ``on_step`` is called after its step."""
    for step in steps:
        for token in step.committed:
            if streamer is not None:
                streamer.put(torch.tensor([token.id]))
            yield token.id
        if on_step:
            on_step(step)
    if streamer is not None:
        streamer.end()


class _RowKeeper:
    """A sampler that also keeps the target's rows, for ``output_logits`` and ``output_scores``.

    One row for each new token, [1, vocabulary], float32: ``logits`` as the model computed them,
    ``scores`` after the processors. None where ``generate`` was not asked for them.
    """

    def __init__(self, sampler: Sampler, processors: Processors, config: GenerationConfig) -> None:
        self._sampler, self._processors = sampler, processors
        self.exactness, self.probs, self.sample = sampler.exactness, sampler.probs, sampler.sample
        self.narrows = sampler.narrows
        asked = config.return_dict_in_generate
        self.logits: list[torch.Tensor] | None = [] if asked and config.output_logits else None
        self.scores: list[torch.Tensor] | None = [] if asked and config.output_scores else None

    def accept(self, context: list[int], proposal: Proposal, logits: torch.Tensor) -> Acceptance:
        """``logits``: [1 + drafted, vocabulary]. A token's row is the one that it follows."""
        acceptance = self._sampler.accept(context, proposal, logits)
        rows = [0, *(i + 1 for i in acceptance.path)]
        if self.logits is not None:
            self.logits += logits[rows].to(torch.float32, copy=True).split(1)
        if self.scores is not None:
            scores = self._processors.of_rows(context, proposal, logits)
            self.scores += scores[rows].to(torch.float32, copy=True).split(1)
        return acceptance

    def output(self, sequences: torch.Tensor, new: int) -> GenerateDecoderOnlyOutput:
        """``sequences`` with the rows of their ``new`` tokens."""
        scores, logits = (rows and tuple(rows[:new]) for rows in (self.scores, self.logits))
        return GenerateDecoderOnlyOutput(sequences=sequences, scores=scores, logits=logits)  # type: ignore[arg-type]


class _EndCheck:
    """``Limits.ends`` from stopping criteria: asked about every new token, in order."""

    def __init__(self, ids: torch.Tensor, criteria: list, scores: list | None) -> None:
        self._ids, self._criteria, self._scores = ids, StoppingCriteriaList(criteria), scores
        self._prompt = ids.shape[1]

    def __call__(self, token: int) -> bool:
        if not self._criteria:
            return False
        self._ids = torch.cat([self._ids, self._ids.new_tensor([[token]])], dim=-1)
        new = self._ids.shape[1] - self._prompt
        # Those of accepted tokens after this one are there already: leave them out.
        scores = None if self._scores is None else tuple(self._scores[:new])
        return bool(self._criteria(self._ids, scores).all())  # type: ignore[arg-type]
