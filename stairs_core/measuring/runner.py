"""One decoding of one prompt, from its settings to its trace."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import drafters
from ..decoding import draft_lengths, generation_defaults, samplers, verify
from ..decoding.clock import Clock
from ..decoding.engine import Limits, generate
from ..decoding.recorder import Recorder
from ..drafters import DrafterInputs
from ..forward import cuda_graphs, faster_pass
from ..forward.encoder_decoder import reads_apart
from ..models.devices import hardware
from ..models.pair import Pair
from ..protocols import Drafter, LengthPolicy, Verifier
from ..settings import methods
from ..settings.pair_spec import is_here, split
from ..settings.settings import K_RANGE, Settings
from ..text import tokens
from ..traces import metrics
from ..traces.records import Recording, Run, Step, Stop
from . import draft_matches, pass_timing, same_text

if TYPE_CHECKING:
    from transformers import LogitsProcessorList

    from ..traces.pass_costs import PassCosts

_WARM_UP = 3
"""Steps: one that reads the prompt, the first over its cache, and another."""
_AROUND = 8
"""Tokens after a difference that noise is measured over too: a pass over it held as many."""

TUNED = "exact to the tuned model"
"""The label of runs whose target was tuned from another model."""
_ANY_LENGTH = draft_lengths.build("constant", 1)
"""For drafters and samplers that are built to be asked what they are, not to draft."""


class Runner:
    """One decoding of one prompt, and its trace. It decodes once.

    ``name``: what the lane is called. Raises InputError for a prompt that the models cannot read,
    and for a pair that lacks what the settings need.
    """

    def __init__(self, pair: Pair, prompt: str, settings: Settings, name: str = "stairs") -> None:
        self._given = pair
        self._method = methods.REGISTRY[settings.drafter]
        pair = drafters.writing(settings.drafter, pair.into(settings.target_language))
        if pair.tokenizer is not self._given.tokenizer and not pair.has_chat_template:
            # Another model writes, and was taught prompts as they are. Options of a template are
            # refused below.
            settings = replace(settings, chat=bool(settings.system or settings.template))
        self.pair, self.settings, self.name = pair, settings, name
        self._ids = tokens.encode(
            pair.tokenizer,
            prompt,
            context_length=pair.context_length,
            chat=settings.chat,
            system=settings.system,
            template=settings.template,
            language=settings.source_language,
        )
        pair.require_rows(self._ids)
        self._ending = pair.for_chat if settings.chat else pair
        self._recorder = self._new_recorder()
        found = tokens.read_references(pair.tokenizer, settings.references)
        self._references = [
            replace(document, ids=pair.readable(document.ids)) for document in found
        ]
        # Built only to raise InputError early for a pair that it cannot use; it never drafts.
        drafters.build(settings.drafter, self._inputs(_ANY_LENGTH))
        if settings.numerics == "strict":
            pair.require_strict()
        if self._method.tree and settings.backend.startswith("single"):
            pair.require_trees()
        self.clock = Clock(pair.device)
        self.steps: list[Step] = []
        self._parts: tuple[Verifier, Drafter] | None = None
        self._noise: float | None = None
        self._rounding: float | None = None
        self._draft_matches: str | None = None
        self._prompt = prompt

    def alone(self) -> Runner:
        """A runner for the same prompt with the target alone, decoded in the fastest way."""
        return Runner(self._given, self._prompt, self.settings.alone(), "none")

    @property
    def uses_draft_model(self) -> bool:
        return self._method.uses_draft_model

    @property
    def prompt_ids(self) -> list[int]:
        return self._ids[:]

    def measure_costs(self) -> None:
        """Times passes as this lane will make them, so that its trace holds what they cost.

        Takes a second or two, once per pair and way to decode.
        """
        self._pass_costs()

    def _pass_costs(self) -> PassCosts:
        settings, drafts = self.settings, self._method.uses_draft_model
        return pass_timing.costs(self.pair, settings.backend, settings.numerics, drafts=drafts)

    def warm_up(self) -> None:
        """Makes the run's first steps off the clock, since the first passes of a shape take longer
        than any other, and on a GPU records all passes that it may need (``cuda_graphs``)."""
        limits = self._limits(self.settings.max_new_tokens)
        widest = self._most + 1 + self._method.more(self._most)
        needs = cuda_graphs.Run(
            len(self.prompt_ids), limits.length, widest, trees=self._method.tree
        )
        with cuda_graphs.ahead(needs):
            steps = self._generate(self._new_recorder(), Clock(self.pair.device), limits)
            for _ in islice(steps, _WARM_UP):
                pass

    def decode(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Step]:
        """Yields the steps, and keeps each in ``steps``. ``stop`` is asked after every step."""
        new = self.settings.max_new_tokens
        limits = self._limits(new, eos_ids=self._ending.eos_ids, stop=stop)
        try:
            for step in self._generate(self._recorder, self.clock, limits):
                self.steps.append(step)
                self._draft_matches = None  # they were of a shorter text
                yield step
        finally:
            self._parts = None

    @property
    def _most(self) -> int:
        """The most tokens that are drafted in a step."""
        if self.settings.drafter == "none":
            return 0
        return K_RANGE[1] if self.settings.length == "heuristic" else self.settings.k

    def _limits(self, new: int, **rest: Any) -> Limits:
        context_length = self.pair.for_prompt(self._ids).context_length
        return Limits.of(len(self._ids), new, context_length, **rest)

    def _generate(self, recorder: Recorder, clock: Clock, limits: Limits) -> Iterator[Step]:
        """With empty caches: what a warm-up computed must be computed again, on the clock."""
        length = self._length()
        inputs = self._inputs(length)
        # The caches of the warm-up, and the graphs over them, are lent again to whoever asks next:
        # until now no other lane may have them.
        self._parts = None
        target = verify.build(self.settings.backend, inputs.pair.target, self.settings.numerics)
        drafter = drafters.build(self.settings.drafter, inputs)
        self._parts = target, drafter
        return generate(self._ids, target, drafter, inputs.sampler, recorder, clock, limits, length)

    def _inputs(self, length: LengthPolicy) -> DrafterInputs:
        pair = self._ending.for_prompt(self._ids)
        decoder_ids = getattr(pair.target, "decoder_ids", lambda ids: ids)
        processors = samplers.Processors(self._processors, decoder_ids)
        sampler = samplers.build(self.settings.sampling, pair.device, processors)
        return DrafterInputs(pair, length, sampler, self._references)

    @cached_property
    def _processors(self) -> LogitsProcessorList:
        """Those of the target's generation config and of the sampling, for the whole text."""
        pair, settings = self._ending, self.settings
        new = self._limits(settings.max_new_tokens).length - len(self._ids)
        return generation_defaults.processors(
            pair.target, self._ids, new, pair.eos_ids, settings.sampling, pair.first
        )

    @property
    def _exactness(self) -> str:
        """What is promised of the text."""
        if self._method.lossy:
            return methods.LOSSY
        if self.pair.tuned:
            return TUNED
        return self._inputs(_ANY_LENGTH).sampler.exactness

    def _length(self) -> LengthPolicy:
        settings = self.settings
        costs = self._pass_costs() if settings.length == "cost" else None
        return draft_lengths.build(settings.length, settings.k, costs, self._method)

    def measure_noise_against(self, other: Runner) -> None:
        """Measures the rounding noise around the token where both texts first differ, if they do.

        With the passes of either lane; the largest of several measurements stays. Texts that may
        differ by chance are left alone.
        """
        if not self.run.comparable:
            return
        written = self.recording()
        where = metrics.first_difference(written, other.recording())
        if where is None:
            return
        ids = self._ids + written.new_ids[: where.position + _AROUND]
        ways = {(r.settings.backend, r.settings.numerics) for r in (self, other)}
        pair = self.pair.for_prompt(self._ids)
        self._noise = max(self._noise or 0.0, *(same_text.measure(pair, ids, *way) for way in ways))
        self._rounding = max(self._rounding or 0.0, same_text.rounding_limit(pair, ids))

    def match_draft(self) -> None:
        """Finds out at which of the tokens so far the draft would have guessed right.

        ``recording`` then holds it (``Stop.draft_matches``), and other Ks can be worked out from
        it. Costs a pass of the draft over the text, off the clock, where the run's own guesses are
        greedy ones of a draft model; nothing for any other run.
        """
        inputs = self._inputs(_ANY_LENGTH)
        found = draft_matches.compute(inputs.pair, inputs.sampler, self.recording())
        self._draft_matches = found

    def doubt_costs(self, alone: Runner) -> None:
        """Forgets the pair's measured pass costs where a race with the target alone contradicts
        them, so that they are measured again."""
        if methods.priced(self.settings.drafter) and self.settings.drafter != "none":
            drafts = self.uses_draft_model
            pass_timing.doubt(self.pair, self.recording(), alone.recording(), drafts=drafts)

    def recording(self) -> Recording:
        """What was decoded so far. A run that was left midway counts as stopped."""
        text = "".join(t.text for s in self.steps for t in s.committed) + self._recorder.rest
        reason = self.steps[-1].stop if self.steps else None
        matches, rounding = self._draft_matches, self._rounding
        stop = Stop(reason or "stopped", text, self._noise, matches, rounding)
        return Recording(self.run, tuple(self.steps), stop)

    def _new_recorder(self) -> Recorder:
        writer = self.settings.drafter if self._method.lossy else "target"
        apart = reads_apart(self.pair.target)
        return Recorder(self.pair.speller, self._ids, apart=apart, writer=writer)

    @cached_property
    def run(self) -> Run:
        """The head of the trace, with the pass costs that are known when it is first asked for."""
        pair, settings = self.pair, self.settings
        drafts, models = self.uses_draft_model, 1 + self.uses_draft_model
        special = pair.speller.special
        return Run(
            name=self.name,
            prompt=self._prompt,
            prompt_ids=tuple(self._ids),
            prompt_tokens=tuple(self._recorder.prompt),
            target=pair.target_name,
            draft=pair.draft_name if drafts else None,
            drafter=settings.drafter,
            k=settings.k,
            backend=settings.backend,
            max_new_tokens=settings.max_new_tokens,
            exactness=self._exactness,
            dtype=pair.dtype,
            device=str(pair.device),
            hardware=f"{hardware(pair.device)} ({platform.system()} {platform.machine()})",
            versions={"python": platform.python_version()}
            | {name: version(name) for name in ("torch", "transformers")},
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            chat=settings.chat,
            length=settings.length,
            numerics=settings.numerics,
            sampling=settings.sampling,
            defaults=generation_defaults.applied(pair.target, settings.sampling),
            left_out=generation_defaults.left_out(pair.target),
            references=tuple(document.name for document in self._references),
            pair=_shared(pair.name),
            parameters=pair.parameters[:models],
            bytes=pair.bytes[:models],
            source_language=settings.source_language,
            target_language=settings.target_language,
            encoded=len(self._ids) if reads_apart(pair.target) else 0,
            prompt_special={str(i): special[i] for i in self._ids if i in special},
            system=settings.system,
            template=dict(settings.template),
            eos_ids=tuple(sorted(self._ending.eos_ids)),
            passes=_passes(pair, settings),
            prices=pass_timing.prices(pair, settings.backend, settings.numerics, drafts=drafts),
        )


def _passes(pair: Pair, settings: Settings) -> str:
    """What computes the target's passes. Graphs replay the passes of one backend alone."""
    kind = faster_pass.kind(pair.target)
    replayed = settings.backend == "single_kv" and settings.numerics == "fast"
    return kind if kind != "graphs" or replayed else "stock"


def _shared(spec: str) -> str:
    """A pair's name for a trace, which people pass on: a folder's or a file's without its path."""
    names = (spec,) if is_here(spec) else split(spec) or (spec,)
    folders = (Path(name).expanduser().resolve().name if is_here(name) else "" for name in names)
    return ":".join(folder or name for folder, name in zip(folders, names, strict=True))
