"""What programs may ask for, through Gradio's API and its MCP server. No gradio: app.py offers it.

Either function is a generator, of whose values only the last one is the answer. While the engine
works it yields None about twice a second: there gradio closes it where its caller has left, and
the run stops. ``caller``: who asks, which is no argument of theirs.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

from ..errors import PYTHON, InputError, Words
from ..render import explain, labels, summary
from ..settings.settings import Settings
from ..traces import files, metrics
from ..traces.records import Lanes, Recording
from . import form, live_race, run_reports, visitors

Answers = Generator[dict[str, Any] | None, None, None]

_INTERVAL = 0.5


@dataclass(frozen=True)
class Caller:
    """Who asks. ``kind``: by which way. ``address``: whom the limits of a visitor count."""

    kind: Literal["api", "mcp"]
    address: str


PROGRAM = Caller("api", "")


def run(
    prompt: str,
    drafter: str = "model",
    k: int = 5,
    max_new_tokens: int = 96,
    temperature: float = 0.0,
    seed: int = 0,
    chat: bool = True,
    reference: str = "",
    trace: bool = False,
    *,
    caller: Caller = PROGRAM,
) -> Answers:
    """Continues a prompt by assisted (speculative) decoding, next to the target model decoding
    alone, and tells whether it paid: the text, tokens a call of the target, the measured speedup.

    Args:
        prompt: the text to go on from, or the question of a chat
        drafter: who guesses: model, tree, lookup, suffix or another that stairs has
        k: tokens guessed in a step, 1 to 32; 0: as many as pay, chosen step by step
        max_new_tokens: where the text ends at the latest
        temperature: 0 takes the most likely token always; above it, tokens are sampled
        seed: of the sampling; the same seed gives the same text, whoever guesses
        chat: ask through the chat template, where the tokenizer has one
        reference: a text to copy guesses from, for drafters that read one
        trace: also return the record of every token and step, a JSON object a line
    """
    asked = _asked(prompt, [drafter], k, max_new_tokens, temperature, seed, chat, reference)
    for lanes in _race(asked, caller):
        yield _about_one(lanes, trace) if lanes else None


def race(
    prompt: str,
    drafters: list[str],
    k: int = 5,
    max_new_tokens: int = 96,
    temperature: float = 0.0,
    seed: int = 0,
    chat: bool = True,
    reference: str = "",
    trace: bool = False,
    *,
    caller: Caller = PROGRAM,
) -> Answers:
    """Races up to three ways to guess against the target model decoding alone, on the same prompt
    and one fair clock; tells of each its speedup, tokens a call and whether its text is the same.

    Args:
        prompt: the text to go on from, or the question of a chat
        drafters: who guesses, one to three: model, tree, lookup, suffix or others of stairs
        k: tokens guessed in a step, 1 to 32; 0: as many as pay, chosen step by step
        max_new_tokens: where the texts end at the latest
        temperature: 0 takes the most likely token always; above it, tokens are sampled
        seed: of the sampling; the same seed gives the same text, whoever guesses
        chat: ask through the chat template, where the tokenizer has one
        reference: a text to copy guesses from, for drafters that read one
        trace: also return the record of every token and step, a JSON object a line
    """
    asked = _asked(prompt, drafters, k, max_new_tokens, temperature, seed, chat, reference)
    for lanes in _race(asked, caller):
        yield _about_all(lanes, trace) if lanes else None


def _asked(
    prompt: object,
    drafters: object,
    k: Any,
    length: Any,
    temperature: Any,
    seed: Any,
    chat: object,
    reference: object,
) -> dict[str, Any]:
    """What the page's form would hold: from there on, the same checks apply."""
    if not isinstance(prompt, str) or not isinstance(reference, str):
        raise InputError("prompt and reference must be texts: put them in quotes.")
    most = len(form.GUESSERS)
    named = drafters if isinstance(drafters, list) else []
    if not 1 <= len(named) <= most or not all(n and isinstance(n, str) for n in named):
        raise InputError(f"A race has 1 to {most} guessers: give the names of so many, as a list.")
    asked = {name: usual for name, (_, _, usual, *_) in form.SAMPLING.items()}
    asked |= {"prompt": prompt, "length": length, "temperature": temperature, "seed": seed}
    asked |= {"chat": bool(chat), "same": True, "pasted": reference, "files": None}
    for guesser, name in zip_longest(form.GUESSERS, named, fillvalue=""):
        asked |= {f"drafter{guesser}": name, f"k{guesser}": k, f"auto{guesser}": k == 0}
        asked |= {f"backend{guesser}": Settings().backend, f"strict{guesser}": False}
    return asked


def _race(asked: Mapping[str, Any], caller: Caller) -> Iterator[list[Recording] | None]:
    """Runs what is asked for; yields None while it goes on, then the lanes, the target's first."""
    flag, lanes, visitor = live_race.Flag(), Lanes(), visitors.current()
    began = time.monotonic()
    try:
        yield None  # so that gradio has the generator: one without a value yet is never closed
        visitor.admit(caller.address)
        flag.seconds = visitor.seconds(caller.address)
        chat = asked["chat"] and live_race.shelf().get(None, flag).has_chat_template
        with tempfile.TemporaryDirectory(prefix="stairs-") as folder:
            settings = form.settings({**asked, "chat": chat}, Path(folder))
            events = live_race.race(asked["prompt"], settings, flag)
            batches = live_race.batches(events, flag, _INTERVAL)
            for batch in run_reports.watched(batches, caller.kind, settings, lanes):
                for lane, record in batch:
                    lanes.add(lane, record)
                yield None
    finally:
        flag.set()
        if lanes.opened:
            visitor.charge(caller.address, time.monotonic() - began)
    yield lanes.recordings()


def _about_one(lanes: Sequence[Recording], trace: bool) -> dict[str, Any]:
    alone, lane = lanes
    return {**_lane(alone, lane), **_around(lanes, trace)}


def _about_all(lanes: Sequence[Recording], trace: bool) -> dict[str, Any]:
    alone, *guessing = lanes
    found = [{"name": lane.run.name, **_lane(alone, lane)} for lane in guessing]
    return {"lanes": found, **_around(lanes, trace)}


def _lane(alone: Recording, lane: Recording) -> dict[str, Any]:
    """What is told of a lane: its text, whether that is the target's, and what it gained."""
    run, own = lane.run, metrics.fold(lane.steps)
    verdict = summary.verdict(alone, lane)
    return {
        "text": lane.stop.text,
        "tokens": own.new_tokens,
        "tokens_per_target_call": None if run.lossy else _short(own.tokens_per_target_call),
        "speedup": _short(metrics.compare(alone, lane).speedup),
        "seconds": _short(own.seconds),
        "same_text": {"yes": True, "no": False}.get(verdict["state"]),
        "verdict": verdict["text"],
        "why": explain.why(alone, lane),
        "exactness": run.exactness,
        "stop_reason": lane.stop.reason,
        "drafter": run.drafter,
        "k": run.k if run.length == "constant" else "auto",
        "draft": run.draft,
    }


def _around(lanes: Sequence[Recording], trace: bool) -> dict[str, Any]:
    """What all lanes share: the target alone, the weights, the machine."""
    alone = metrics.fold(lanes[0].steps)
    run = lanes[0].run
    shared = {
        "alone": {"tokens": alone.new_tokens, "seconds": _short(alone.seconds)},
        "target": run.target,
        "pair": run.pair,
        "machine": labels.place(run),
        "created": run.created,
    }
    return shared | ({"trace": files.dumps(lanes)} if trace else {})


def _short(number: float | None) -> float | None:
    """With four digits that count."""
    return None if number is None else float(f"{number:.4g}")


def _use(choice: str, values: tuple[str, ...]) -> str | None:
    """How to choose other values by the arguments above; None where they have no such choice."""
    if choice == "reference":
        return "give one as reference"
    return PYTHON.use(choice, values) if choice in ("drafter", "chat") else None


WORDS = Words(PYTHON.word, PYTHON.values, _use)
"""What a refusal calls choices here: by the names of the arguments."""
