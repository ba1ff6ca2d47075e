"""Commands that decode one prompt: ``stairs run`` and ``stairs race``.

Each takes the parsed options and returns the exit status. Results go to stdout, progress to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..importing import importing
from ..render import preflight_card
from ..render.terminal import trace
from ..render.terminal.text import visible
from ..settings.methods import REGISTRY
from ..settings.sampling import Sampling
from ..settings.settings import Settings, template_options
from ..text.tokens import check_prompt, read_prompt
from ..traces import files, metrics
from ..traces.records import Event, Recording, Run, Step, Stop
from ..traces.what_if import WhatIf, what_if
from .console import INTERRUPTED, check_readers, drafting, fitted, load, paint, progress

if TYPE_CHECKING:
    from ..measuring.runner import Runner


def run(args: argparse.Namespace) -> int:
    args.named = args.drafter is not None
    drafter = args.drafter if args.named else "model"
    (runner,) = _runners(args, {drafter: drafter})
    from ..measuring import same_text

    events = _counted([runner], _decode(runner)) if args.json else _typed(runner)
    status = _finish(events, [runner], args.trace)
    lanes, compared = [runner.recording()], []
    if args.check and not status:
        plain = runner.alone()
        status = _finish(_decode(plain), [plain])
        runner.measure_noise_against(plain)
        lanes = [plain.recording(), runner.recording()]
        compared = same_text.compare(lanes, runner.pair)
    status = status or same_text.status(compared)
    if args.json:
        report = _report(runner.recording()) | same_text.report(compared)
        print(json.dumps(report, allow_nan=False))
        return status
    print(flush=True)
    table = [*trace.table(lanes[-1:], paint(sys.stderr)), *trace.noted(lanes[-1:])]
    print("\n".join(table), file=sys.stderr)
    if compared:
        print(trace.verdict(lanes, compared), file=sys.stderr)
    return status


def race(args: argparse.Namespace) -> int:
    args.named = args.lanes is not None
    runners = _runners(args, _lanes(args.lanes if args.named else "none,model"))
    from ..measuring import same_text
    from ..measuring.race import race as start

    events = _counted(runners, start(runners))
    status = _finish(events, runners, args.trace, match_drafts=args.what_if)
    recordings = [runner.recording() for runner in runners]
    compared = same_text.compare(recordings, runners[0].pair if args.check else None)
    others = _what_if(recordings) if args.what_if else []
    if args.json:
        report: dict[str, Any] = {
            "lanes": [{"name": r.run.name, **_report(r)} for r in recordings],
            "speedup": compared[-1].speedup,
            **same_text.report(compared),
        }
        if args.what_if:
            report["what_if"] = {run.name: [asdict(w) for w in found] for run, found in others}
        print(json.dumps(report, allow_nan=False))
    else:
        table = [*trace.table(recordings, paint()), *trace.noted(recordings)]
        print("\n".join([*table, trace.verdict(recordings, compared)]))
        for run, found in others:
            print(f"\n{visible(run.name)} at other Ks, from this run:")
            used = run.k if run.length == "constant" else None
            print("\n".join(preflight_card.other_lengths(found, used, paint())))
        if args.what_if and not others:
            print("Other Ks can be told of a greedy lane of the drafter model alone.")
    return status or (same_text.status(compared) if args.check else 0)


def _lanes(option: str) -> dict[str, str]:
    """``--lanes`` as drafters by lane name: of one drafter's lanes, the second is ``model#2``."""
    names: dict[str, str] = {}
    for drafter in option.split(","):
        count = list(names.values()).count(drafter.strip()) + 1
        names[drafter.strip() + (f"#{count}" if count > 1 else "")] = drafter.strip()
    if len(names) < 2:
        raise InputError("A race needs two lanes or more: name drafters, such as none,model.")
    return names


def _what_if(recordings: list[Recording]) -> list[tuple[Run, list[WhatIf]]]:
    """Other Ks, for the lanes where they can be worked out."""
    alone = next((r for r in recordings if r.run.drafter == "none"), None)
    every = [(r.run, what_if(r, alone)) for r in recordings]
    return [(run, found) for run, found in every if found]


def _runners(args: argparse.Namespace, lanes: dict[str, str]) -> list[Runner]:
    """A runner for each lane (its name: its drafter), all on one pair.

    Everything that can be refused without the models is refused before they are loaded.
    """
    base = Settings(
        **drafting(args.k, args.length),
        max_new_tokens=args.max_new_tokens,
        backend=args.backend,
        chat=bool(args.system or args.template_option) if args.chat is None else args.chat,
        system=args.system,
        template=template_options(args.template_option),
        numerics=args.numerics,
        sampling=_sampling(args),
        references=tuple(args.reference),
        source_language=args.source_language,
        target_language=args.target_language,
    )
    _check_uses(args, lanes)
    if args.check and base.sampling and not base.sampling.comparable:
        raise InputError(
            "--check compares texts, and dice part them: add --rule coupled, or leave out --check."
        )
    settings = {name: _lane(base, drafter) for name, drafter in lanes.items()}
    first = next(iter(settings))
    if len(settings) > 1 and lanes[first] == "none":
        settings[first] = base.alone()  # speedups are over the fastest plain decoding
    prompt = read_prompt(args.prompt_file) if args.prompt is None else args.prompt
    check_prompt(prompt)
    if args.trace is not None:
        _check_writable(Path(args.trace))
    progress("Loading the models")
    try:
        with importing():
            from ..measuring.runner import Runner

        drafts = any(REGISTRY[drafter].uses_draft_model for drafter in lanes.values())
        pair = load(args, own_draft=drafts)
        settings = {name: fitted(one, pair, args) for name, one in settings.items()}
        named = {one.drafter if name == "model" else name: one for name, one in settings.items()}
        if getattr(args, "what_if", False):
            progress("Measuring passes")
            from ..measuring import pass_timing

            pass_timing.measure_all(pair, base.backend, base.numerics)
        return [Runner(pair, prompt, s, name) for name, s in named.items()]
    finally:
        progress("")


def _lane(base: Settings, drafter: str) -> Settings:
    """Of a lane of that drafter: with references only where it reads them."""
    lane = replace(base, drafter=drafter)
    return lane if REGISTRY[drafter].references else replace(lane, references=())


def _check_uses(args: argparse.Namespace, lanes: dict[str, str]) -> None:
    """Raises InputError for options that cannot change anything beside the others."""
    check_readers(args.reference, lanes.values())
    if args.temperature != 0 or args.repetition_penalty not in (None, 1):
        return  # the code on the page, which has a penalty then, repeats all that was asked for
    idle = {"top_k": (None, 0), "top_p": (None, 1), "min_p": (None, 0), "rule": (None,)}
    for name, nothing in idle.items():
        if getattr(args, name) not in nothing:
            raise InputError(
                f"--{name.replace('_', '-')} is about dice, and --temperature 0 throws none: leave "
                "one of them out."
            )


def _sampling(args: argparse.Namespace) -> Sampling | None:
    """None where no option asks for sampling. A penalty alone leaves decoding greedy."""
    names = [field.name for field in fields(Sampling)]
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if set(given) == {"repetition_penalty"}:
        given["temperature"] = 0.0
    return Sampling(**given) if given else None


def _check_writable(path: Path) -> None:
    """Raises InputError now, rather than after minutes of decoding."""
    if str(path) == "-":
        raise InputError("--trace - is no file, and stdout has the text: name one, as t.jsonl.")
    place = path if path.exists() else path.parent
    if path.is_dir() or not path.parent.is_dir() or not os.access(place, os.W_OK):
        raise InputError(
            f"The trace cannot be written to {path}: name a file in a folder there is."
        )


def _finish(
    events: Iterable[object],
    runners: list[Runner],
    file: str | None = None,
    *,
    match_drafts: bool = False,
) -> int:
    """Decodes to the end by taking all ``events``, and returns the exit status.

    However it ends, what was decoded until then is saved to ``file``. A saved trace holds what the
    draft would have guessed, so that it can answer for other Ks; ``match_drafts`` asks for that
    without a file.
    """
    try:
        for _ in events:
            pass
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        progress("")
        for runner in runners if match_drafts or file is not None else ():
            runner.match_draft()
        if file is not None:
            files.write(file, [runner.recording() for runner in runners])


def _decode(runner: Runner) -> Iterator[tuple[int, Event]]:
    """The head and the steps of one run, as lane 0."""
    runner.warm_up()
    yield 0, runner.run
    for step in runner.decode():
        yield 0, step


def _counted(runners: list[Runner], events: Iterator[tuple[int, Event]]) -> Iterator[Event]:
    """The same events, with every lane's tokens counted on stderr."""
    counts = [0] * len(runners)
    for lane, event in events:
        if isinstance(event, Step):
            counts[lane] += len(event.committed)
            words = (f"{r.name} {n}" for r, n in zip(runners, counts, strict=True))
            progress(f"{', '.join(words)} of {runners[0].settings.max_new_tokens} tokens")
        yield event


def _typed(runner: Runner) -> Iterator[Event]:
    """The same events of one run, with its text printed as it comes."""
    typewriter = Typewriter()
    for _, event in _decode(runner):
        typewriter.show(event)
        yield event
    typewriter.show(runner.recording().stop)


class Typewriter:
    """Prints a run's text as it comes: on a terminal after the prompt, into a pipe nothing else."""

    def __init__(self) -> None:
        self._tty = sys.stdout.isatty()
        self._typed = ""

    def show(self, event: Event) -> None:
        if isinstance(event, Step):
            self._type("".join(t.text for t in event.committed))
        elif isinstance(event, Run) and self._tty:
            apart = "\n" if event.encoded else ""
            print(paint()(visible(event.prompt, "\n"), "2") + apart, end="", flush=True)
        elif isinstance(event, Stop) and event.text.startswith(self._typed):
            # A last character that is incomplete: no token has a text for it.
            self._type(event.text[len(self._typed) :])

    def _type(self, text: str) -> None:
        self._typed += text
        print(visible(text, "\n") if self._tty else text, end="", flush=True)


def _report(recording: Recording) -> dict[str, Any]:
    """What ``--json`` reports about one run."""
    run, stop = recording.run, recording.stop
    return {
        "text": stop.text,
        "token_ids": recording.new_ids,
        **asdict(metrics.fold(recording.steps)),
        "stop_reason": stop.reason,
        "drafter": run.drafter,
        "k": run.k,
        "backend": run.backend,
        "exactness": run.exactness,
        "sampling": asdict(run.sampling) if run.sampling else None,
        "defaults": run.defaults,
        "left_out": run.left_out,
    }
