"""Several runs on one fair clock: at every turn the lane goes on whose clock is furthest behind."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import choice, defaults, drafters, hindsight, lengths, metrics, noise, text, verify
from .clock import Clock
from .devices import hardware
from .encoded import reads_apart
from .engine import Limits, generate
from .pair import Pair
from .prices import UNPRICED
from .protocols import Kit, LengthPolicy
from .scribe import Scribe
from .settings import Settings
from .specs import is_folder, split
from .trace import Event, Recording, Run, Step, Stop

if TYPE_CHECKING:
    from transformers import LogitsProcessorList

WARM_UP_TOKENS = 8
_AROUND = 8  # tokens past a difference: passes over it were as wide


class Runner:
    """One decoding of one prompt, and its trace. Raises InputError for a prompt that won't do.

    ``name``: what the lane is called. It decodes once.
    """

    def __init__(self, pair: Pair, prompt: str, settings: Settings, name: str = "stairs") -> None:
        pair = pair.into(settings.target_language)
        self.pair, self.settings, self.name = pair, settings, name
        self._ids = text.encode(
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
        self._scribe = self._new_scribe()
        found = text.read_references(pair.tokenizer, settings.references)
        self._references = [
            replace(document, ids=pair.readable(document.ids)) for document in found
        ]
        # Never drafts: it refuses a pair that it cannot use, and says what it is.
        self._drafter = drafters.build(settings.drafter, self._kit(lengths.build("constant", 1)))
        if settings.numerics == "strict":
            pair.require_strict()
        if drafters.REGISTRY[settings.drafter].tree and settings.backend.startswith("single"):
            pair.require_trees()
        self.clock = Clock(pair.device)
        self.steps: list[Step] = []
        self._noise: float | None = None
        self._rounding: float | None = None
        self._agrees: dict[int, str | None] = {}  # by how many steps there were
        self._prompt = prompt

    def alone(self) -> Runner:
        """The same prompt decoded by the target alone, in the fastest way there is."""
        return Runner(self.pair, self._prompt, self.settings.alone(), "none")

    @property
    def uses_draft_model(self) -> bool:
        return self._drafter.uses_draft_model

    @property
    def prompt_ids(self) -> list[int]:
        return self._ids[:]

    def measure_costs(self) -> None:
        """Times passes as this lane will make them, for its trace to tell; once for a pair."""
        settings = self.settings
        drafts = self._drafter.uses_draft_model
        self.pair.costs(settings.backend, settings.numerics, drafts=drafts)

    def warm_up(self) -> None:
        """A few tokens off the clock, so that no lane pays for what only the first pass needs."""
        limits = self._limits(WARM_UP_TOKENS)
        for _ in self._generate(self._new_scribe(), Clock(self.pair.device), limits):
            pass

    def decode(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Step]:
        """The steps, each kept in ``steps`` too. ``stop`` is asked after every step."""
        new = self.settings.max_new_tokens
        limits = self._limits(new, eos_ids=self._ending.eos_ids, stop=stop)
        for step in self._generate(self._scribe, self.clock, limits):
            self.steps.append(step)
            yield step

    def _limits(self, new: int, **rest: Any) -> Limits:
        context_length = self.pair.for_prompt(self._ids).context_length
        return Limits.of(len(self._ids), new, context_length, **rest)

    def _generate(self, scribe: Scribe, clock: Clock, limits: Limits) -> Iterator[Step]:
        """On fresh lanes: what a warm-up left in a cache must be paid for again."""
        length = self._length()
        kit = self._kit(length)
        target = verify.build(self.settings.backend, kit.pair.target, self.settings.numerics)
        drafter = drafters.build(self.settings.drafter, kit)
        return generate(self._ids, target, drafter, kit.choice, scribe, clock, limits, length)

    def _kit(self, length: LengthPolicy) -> Kit:
        pair = self._ending.for_prompt(self._ids)
        heard = getattr(pair.target, "decoder_ids", lambda ids: ids)
        processors = choice.Processors(self._processors, heard)
        chosen = choice.build(self.settings.sampling, pair.device, processors)
        return Kit(pair, length, chosen, self._references)

    @cached_property
    def _processors(self) -> LogitsProcessorList:
        """Of the target's own defaults and of the sampling, for the whole text."""
        pair, settings = self._ending, self.settings
        new = self._limits(settings.max_new_tokens).length - len(self._ids)
        return defaults.processors(
            pair.target, self._ids, new, pair.eos_ids, settings.sampling, pair.first
        )

    def _length(self) -> LengthPolicy:
        settings, costs, drafter = self.settings, None, self._drafter
        if settings.length == "cost":
            drafts = drafter.uses_draft_model
            costs = self.pair.costs(settings.backend, settings.numerics, drafts=drafts)
        return lengths.build(settings.length, settings.k, costs, doubts=drafter.doubts)

    def measure_noise_against(self, other: Runner) -> None:
        """Where both texts part, measures how far rounding moves a logit there, and around,
        in either's passes. Not where they may part by chance. The largest of several stays."""
        if not self.run.comparable:
            return
        where = metrics.first_difference(self._so_far(), other._so_far())
        if where is None:
            return
        new = [t.id for s in self.steps for t in s.committed]
        ids = self._ids + new[: where.position + _AROUND]
        ways = {(r.settings.backend, r.settings.numerics) for r in (self, other)}
        pair = self.pair.for_prompt(self._ids)
        self._noise = max(self._noise or 0.0, *(noise.measure(pair, ids, *way) for way in ways))
        self._rounding = max(self._rounding or 0.0, noise.most(pair, ids))

    def doubt_costs(self, alone: Runner) -> None:
        """Has the pair forget what it measured of this way to decode, where a race with the target
        alone contradicts it."""
        if self.settings.drafter not in (*UNPRICED, "none"):
            drafts = self.uses_draft_model
            self.pair.doubt(self._so_far(), alone._so_far(), drafts=drafts)

    def recording(self) -> Recording:
        """What was decoded so far, and what the draft would have guessed (see ``hindsight``); a run
        that was left midway counts as stopped."""
        told, count = self._so_far(), len(self.steps)
        if count not in self._agrees:
            kit = self._kit(lengths.build("constant", 1))
            self._agrees = {count: hindsight.agrees(kit.pair, kit.choice, told)}
        return replace(told, stop=replace(told.stop, agrees=self._agrees[count]))

    def _new_scribe(self) -> Scribe:
        return Scribe(self.pair.speller, self._ids, apart=reads_apart(self.pair.target))

    def _so_far(self) -> Recording:
        words = "".join(t.text for s in self.steps for t in s.committed) + self._scribe.rest
        reason = self.steps[-1].stop if self.steps else None
        stop = Stop(reason or "stopped", words, self._noise, rounding=self._rounding)
        return Recording(self.run, tuple(self.steps), stop)

    @cached_property
    def run(self) -> Run:
        """The head of the trace, with the prices that are known when it is first asked for."""
        pair, settings = self.pair, self.settings
        drafts, models = self.uses_draft_model, 1 + self.uses_draft_model
        named = pair.speller.special
        return Run(
            name=self.name,
            prompt=self._prompt,
            prompt_ids=tuple(self._ids),
            prompt_tokens=tuple(self._scribe.prompt),
            target=pair.target_name,
            draft=pair.draft_name if drafts else None,
            drafter=settings.drafter,
            k=settings.k,
            backend=settings.backend,
            max_new_tokens=settings.max_new_tokens,
            exactness=self._kit(lengths.build("constant", 1)).choice.exactness,
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
            defaults=defaults.applied(pair.target, settings.sampling),
            left_out=defaults.left_out(pair.target),
            references=tuple(document.name for document in self._references),
            pair=_shared(pair.name),
            parameters=pair.parameters[:models],
            bytes=pair.bytes[:models],
            source_language=settings.source_language,
            target_language=settings.target_language,
            encoded=len(self._ids) if reads_apart(pair.target) else 0,
            prompt_special={str(i): named[i] for i in self._ids if i in named},
            system=settings.system,
            template=dict(settings.template),
            eos_ids=tuple(sorted(self._ending.eos_ids)),
            prices=pair.prices(settings.backend, settings.numerics, drafts=drafts),
        )


def _shared(spec: str) -> str:
    """What may go into a trace that people pass on: of a folder its name, not where it is."""
    names = (spec,) if is_folder(spec) else split(spec) or (spec,)
    folders = (Path(name).expanduser().resolve().name if is_folder(name) else "" for name in names)
    return ":".join(folder or name for folder, name in zip(folders, names, strict=True))


def race(
    runners: Sequence[Runner], stop: Callable[[], bool] = lambda: False
) -> Iterator[tuple[int, Event]]:
    """Lane numbers with their events: every ``Run`` first, then steps, a ``Stop`` as a lane ends.

    Two lanes run side by side on one machine, each paying only for its own work, and whatever
    slows the machine hits both alike.
    """
    for runner in runners:
        runner.warm_up()
    yield from ((number, runner.run) for number, runner in enumerate(runners))
    live = {number: runner.decode(stop) for number, runner in enumerate(runners)}
    while live:
        number = min(live, key=lambda i: runners[i].clock.elapsed)
        step = next(live[number])
        yield number, step
        if step.stop:
            del live[number]
            yield number, _stop(runners, number)
    for runner in runners:
        for alone in runners:
            if alone.settings.drafter == "none":
                runner.doubt_costs(alone)


def _stop(runners: Sequence[Runner], number: int) -> Stop:
    """The lane's end. Where its text parts from the first's, or the first's from any, the rounding
    noise is measured, so that the difference can be judged."""
    for other in runners[1:] if number == 0 else runners[:1]:
        runners[number].measure_noise_against(other)
    return runners[number].recording().stop
