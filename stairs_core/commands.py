"""What the commands of one prompt do: ``stairs run`` and ``race``.

Each takes the parsed options and returns the exit status. Results go to stdout, progress to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import metrics, trace, tracefile, verdicts
from .errors import InputError
from .render import card, terminal
from .render.cells import Paint, visible
from .sampling import Sampling
from .settings import AUTO, K_RANGE, Settings, template_options
from .text import check_prompt, read_prompt

if TYPE_CHECKING:
    from .pair import Pair
    from .race import Runner

INTERRUPTED = 130


def run(args: argparse.Namespace) -> int:
    (runner,) = runners = _runners(args, {args.drafter: args.drafter})
    watch = _counts(runners) if args.json else _typewriter()
    recordings, status = _decode(runners, args.trace, watch)
    both, compared = recordings, []
    if args.check and not status:
        plain = runner.alone()
        _, status = _decode([plain], None, lambda *_: None)
        runner.measure_noise_against(plain)
        both = [plain.recording(), runner.recording()]
        compared = verdicts.compare(both, runner.pair)
    if args.json:
        print(json.dumps(_report(recordings[0]) | verdicts.report(compared), allow_nan=False))
        return status or verdicts.status(compared)
    print(flush=True)
    table = [*terminal.table(recordings, paint(sys.stderr)), *terminal.noted(recordings)]
    print("\n".join(table), file=sys.stderr)
    if compared:
        print(terminal.verdict(both, compared), file=sys.stderr)
    return status or verdicts.status(compared)


def race(args: argparse.Namespace) -> int:
    names: dict[str, str] = {}
    for drafter in args.lanes.split(","):
        count = list(names.values()).count(drafter.strip()) + 1
        names[drafter.strip() + (f"#{count}" if count > 1 else "")] = drafter.strip()
    if len(names) < 2:
        raise InputError("A race needs two lanes or more: name drafters, such as none,model.")
    runners = _runners(args, names)
    recordings, status = _decode(runners, args.trace, _counts(runners))
    compared = verdicts.compare(recordings, runners[0].pair if args.check else None)
    others = _what_if(recordings) if args.what_if else []
    if args.json:
        report: dict[str, Any] = {
            "lanes": [{"name": r.run.name, **_report(r)} for r in recordings],
            "speedup": compared[-1].speedup,
            **verdicts.report(compared),
        }
        if args.what_if:
            report["what_if"] = {run.name: [asdict(w) for w in found] for run, found in others}
        print(json.dumps(report, allow_nan=False))
    else:
        table = [*terminal.table(recordings, paint()), *terminal.noted(recordings)]
        print("\n".join([*table, terminal.verdict(recordings, compared)]))
        for run, found in others:
            print(f"\n{visible(run.name)} at other Ks, from this run:")
            used = run.k if run.length == "constant" else None
            print("\n".join(card.other_lengths(found, used, paint())))
        if args.what_if and not others:
            print("Other Ks can be told of a greedy lane of the drafter model alone.")
    return status or (verdicts.status(compared) if args.check else 0)


def _what_if(recordings: list[trace.Recording]) -> list[tuple[trace.Run, list[metrics.WhatIf]]]:
    """Of the lanes of which it can be told."""
    alone = next((r for r in recordings if r.run.drafter == "none"), None)
    found = [(r.run, metrics.what_if(r, alone)) for r in recordings]
    return [(run, told) for run, told in found if told]


def _runners(args: argparse.Namespace, lanes: dict[str, str]) -> list[Runner]:
    """One for each lane (its name: its drafter), on one pair."""
    base = Settings(
        **drafting(args.k, args.length),
        max_new_tokens=args.max_new_tokens,
        backend=args.backend,
        chat=args.chat,
        system=args.system,
        template=template_options(args.template_option),
        numerics=args.numerics,
        sampling=_sampling(args),
        references=tuple(args.reference),
        source_language=args.source_language,
        target_language=args.target_language,
    )
    if args.check and base.sampling and not base.sampling.comparable:
        raise InputError(
            "--check compares texts, and dice part them: add --rule coupled, or leave out --check."
        )
    settings = {name: replace(base, drafter=drafter) for name, drafter in lanes.items()}
    first = next(iter(settings))
    if len(settings) > 1 and lanes[first] == "none":
        settings[first] = base.alone()  # speedups are over the fastest plain decoding
    prompt = read_prompt(args.prompt_file) if args.prompt is None else args.prompt
    check_prompt(prompt)
    if args.trace is not None:
        _check_writable(Path(args.trace))
    progress("Loading the models")
    try:
        from .race import Runner

        pair = load(args)
        if getattr(args, "what_if", False):
            progress("Measuring passes")
            pair.measure_prices(base.backend, base.numerics)
        return [Runner(pair, prompt, s, name) for name, s in settings.items()]
    finally:
        progress("")


def load(args: argparse.Namespace) -> Pair:
    """The pair that was asked for, fetched if it must be."""
    from . import devices, models

    devices.keep_to_cores()
    return models.load_pair(args.pair, args.device, args.dtype, args.compile, say=progress)


def drafting(k: str, length: str | None) -> dict[str, Any]:
    """``--k auto`` is a policy, not a number."""
    if k == "auto":
        if length not in (None, "cost"):
            raise InputError(f"K auto is the length policy cost: leave out --length {length}.")
        return AUTO
    try:
        return {"k": int(k), "length": length or "constant"}
    except ValueError as e:
        low, high = K_RANGE
        raise InputError(
            f"K is {k!r:.60}, but must be a whole number from {low} to {high}, or auto."
        ) from e


def _sampling(args: argparse.Namespace) -> Sampling | None:
    """None where nothing of it was asked for. A penalty alone leaves decoding greedy."""
    names = [field.name for field in fields(Sampling)]
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if set(given) == {"repetition_penalty"}:
        given["temperature"] = 0.0
    return Sampling(**given) if given else None


def _check_writable(path: Path) -> None:
    """Before minutes of decoding, not after."""
    place = path if path.exists() else path.parent
    if path.is_dir() or not path.parent.is_dir() or not os.access(place, os.W_OK):
        raise InputError(
            f"The trace cannot be written to {path}: name a file in a folder there is."
        )


def _decode(
    runners: list[Runner], file: str | None, watch: Callable[[int, trace.Event], None]
) -> tuple[list[trace.Recording], int]:
    """The recordings and the exit status. Whatever ends the race, what was made is kept."""
    from .race import race

    status = 0
    try:
        for lane, record in race(runners):
            watch(lane, record)
    except KeyboardInterrupt:
        status = INTERRUPTED
    finally:
        progress("")
        recordings = [r.recording() for r in runners]
        if file is not None:
            tracefile.write(file, recordings)
    return recordings, status


def _typewriter() -> Callable[[int, trace.Event], None]:
    """Prints the text as it comes; into a pipe, exactly the text."""
    tty = sys.stdout.isatty()
    typed: list[str] = []

    def type_(text: str) -> None:
        typed.append(text)
        print(visible(text, "\n") if tty else text, end="", flush=True)

    def watch(_: int, record: trace.Event) -> None:
        if isinstance(record, trace.Step):
            type_("".join(t.text for t in record.committed))
        elif isinstance(record, trace.Run) and tty:
            apart = "\n" if record.encoded else ""
            print(paint()(visible(record.prompt, "\n"), "2") + apart, end="", flush=True)
        elif isinstance(record, trace.Stop) and record.text.startswith("".join(typed)):
            # The rest is a character that never came to its end.
            type_(record.text[len("".join(typed)) :])

    return watch


def _counts(runners: list[Runner]) -> Callable[[int, trace.Event], None]:
    counts = [0] * len(runners)

    def watch(lane: int, record: trace.Event) -> None:
        if isinstance(record, trace.Step):
            counts[lane] += len(record.committed)
            words = (f"{r.name} {n}" for r, n in zip(runners, counts, strict=True))
            progress(f"{', '.join(words)} of {runners[0].settings.max_new_tokens} tokens")

    return watch


def progress(text: str) -> None:
    """One line on stderr that the next one overwrites; nothing where that is no terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def paint(stream: Any = None) -> Paint:
    tty = (stream or sys.stdout).isatty() and os.environ.get("TERM") != "dumb"
    return Paint(tty and not os.environ.get("NO_COLOR"))


def _report(recording: trace.Recording) -> dict[str, Any]:
    """What ``--json`` says of one run."""
    run, stop = recording.run, recording.stop
    return {
        "text": stop.text,
        "token_ids": [t.id for s in recording.steps for t in s.committed],
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
