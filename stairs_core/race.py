"""Several runs on one fair clock: at every turn the lane goes on whose clock is furthest behind."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from . import choice, drafters, hindsight, lengths, metrics, noise, text, verify
from .clock import Clock
from .devices import hardware
from .encoded import reads_apart
from .engine import Limits, generate
from .pair import Pair
from .protocols import Kit, LengthPolicy
from .scribe import Scribe
from .settings import Settings
from .trace import Event, Recording, Run, Step, Stop

WARM_UP_TOKENS = 8
_AROUND = 8  # tokens past a difference: passes over it were as wide


class Runner:
    """One decoding of one prompt, and its trace. Raises InputError for a prompt that won't do.

    ``name``: what the lane is called. It decodes once.
    """

    def __init__(self, pair: Pair, prompt: str, settings: Settings, name: str = "stairs") -> None:
        self.pair, self.settings, self.name = pair, settings, name
        self._ids = text.encode(
            pair.tokenizer, prompt, chat=settings.chat, context_length=pair.context_length
        )
        self._scribe = Scribe(pair.speller, self._ids)
        self._references = text.read_references(pair.tokenizer, settings.references)
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
        scribe, clock = Scribe(self.pair.speller, self._ids), Clock(self.pair.device)
        for _ in self._generate(scribe, clock, limits):
            pass

    def decode(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Step]:
        """The steps, each kept in ``steps`` too. ``stop`` is asked after every step."""
        new = self.settings.max_new_tokens
        limits = self._limits(new, eos_ids=self.pair.eos_ids, stop=stop)
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
        pair = self.pair.for_prompt(self._ids)
        chosen = choice.build(self.settings.sampling, pair.device, pair.vocabulary)
        return Kit(pair, length, chosen, self._references)

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

    def recording(self) -> Recording:
        """What was decoded so far, and what the draft would have guessed (see ``hindsight``); a run
        that was left midway counts as stopped."""
        told, count = self._so_far(), len(self.steps)
        if count not in self._agrees:
            self._agrees = {count: hindsight.agrees(self.pair, told)}
        return replace(told, stop=replace(told.stop, agrees=self._agrees[count]))

    def _so_far(self) -> Recording:
        ids = [t.id for s in self.steps for t in s.committed]
        words = self.pair.tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        reason = self.steps[-1].stop if self.steps else None
        stop = Stop(reason or "stopped", words, self._noise, rounding=self._rounding)
        return Recording(self.run, tuple(self.steps), stop)

    @cached_property
    def run(self) -> Run:
        """The head of the trace, with the prices that are known when it is first asked for."""
        pair, settings = self.pair, self.settings
        drafts, models = self.uses_draft_model, 1 + self.uses_draft_model
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
            references=tuple(document.name for document in self._references),
            pair=_shared(pair.name),
            parameters=pair.parameters[:models],
            bytes=pair.bytes[:models],
            encoded=len(self._ids) if reads_apart(pair.target) else 0,
            prices=pair.prices(settings.backend, settings.numerics, drafts=drafts),
        )


def _shared(spec: str) -> str:
    """What may go into a trace that people pass on: of a folder its name, not where it is."""
    parts = [(part, Path(part).expanduser()) for part in spec.split(":")]
    return ":".join(path.resolve().name if path.is_dir() else part for part, path in parts)


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


def _stop(runners: Sequence[Runner], number: int) -> Stop:
    """The lane's end. Where its text parts from the first's, or the first's from any, the rounding
    noise is measured, so that the difference can be judged."""
    for other in runners[1:] if number == 0 else runners[:1]:
        runners[number].measure_noise_against(other)
    return runners[number].recording().stop
