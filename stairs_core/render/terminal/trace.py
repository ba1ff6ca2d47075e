"""A whole trace in a terminal. Marks show every status; colours only repeat them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from ...errors import InputError
from ...traces import metrics
from ...traces.records import COMMITTED, Recording, Step, Token
from .. import explain, labels
from . import staircase
from .staircase import STYLES
from .text import Paint, Styled, clip, pad, visible, width

_COLUMNS = ("lane", "tokens", "seconds", "tok/s", "tok/call", "accepted", "alpha")
_NONE = "–"
_NARROWEST = 32


def draw(
    recordings: Sequence[Recording], columns: int, *, color: bool = False, step: int | None = None
) -> str:
    """A whole trace; with ``step``, counted from 1, the staircase of that step in every lane.

    Raises InputError when no lane has such a step.
    """
    paint, columns = Paint(color), max(columns, _NARROWEST)
    lines = [*_head(recordings, paint, columns), ""]
    longest = max(len(r.steps) for r in recordings)
    if step is not None and not 1 <= step <= longest:
        raise InputError(f"There is no step {step}: this trace has the steps 1 to {longest}.")
    for recording in recordings:
        if step is None:
            lines += [*_lane(recording, paint, columns), ""]
        elif step <= len(recording.steps):
            name = _name(recording)
            lines += [*staircase.draw(recording, name, step - 1, paint, columns), ""]
    lines += paint.wrap([(staircase.MEANING, "2")] if step else _legend(), columns)
    lines += ["", *table(recordings, paint), *paint.wrap([(verdict(recordings), "1")], columns)]
    return "\n".join(lines).rstrip() + "\n"


def table(recordings: Sequence[Recording], paint: Paint) -> list[str]:
    """The numbers of every lane, a row each, aligned."""
    rows = [_COLUMNS, *(_numbers(r) for r in recordings)]
    sizes = [max(map(width, column)) for column in zip(*rows, strict=True)]
    aligned = [
        pad(name, sizes[0])
        + "".join(f"  {cell:>{size}}" for cell, size in zip(cells, sizes[1:], strict=True))
        for name, *cells in rows
    ]
    return [paint(aligned[0], "2"), *aligned[1:]]


def noted(recordings: Sequence[Recording]) -> list[str]:
    """Lines beside the table: what the target's generation config did, or would have done; which
    lanes' text is not the target's; what lanes paid to read tokens for their next guesses."""
    defaults = labels.defaults(recordings[-1].run)
    found = [f"Defaults: {visible(defaults)}."] if defaults else []
    found += [
        f"{_name(r)}: {labels.LOSSY}, not that of {visible(r.run.target)}."
        for r in recordings
        if r.run.lossy
    ]
    first = next((r for r in recordings if r.run.drafter == "none"), None)
    paid = [(r, explain.ahead(first, r)) for r in recordings] if first else []
    return found + [f"{_name(r)}: {sentence}" for r, sentence in paid if sentence]


def verdict(
    recordings: Sequence[Recording], results: Sequence[metrics.Comparison] | None = None
) -> str:
    """How fast the last lane was against the first, and whether all texts are the same.

    Empty for one lane. ``results``: every other lane compared with the first, where the caller has
    them already.
    """
    first, *others = recordings
    if any(r.run.engine for r in recordings):
        return "A log tells how many guesses held, but neither texts nor times: none are compared."
    if not others:
        return ""
    results = results or [metrics.compare(first, r) for r in others]
    compared = list(zip(others, results, strict=True))
    last, comparison = compared[-1]
    name, base = _name(last), _name(first)
    speed = f"{name} cannot be timed against {base}: one of them wrote nothing"
    if comparison.speedup is not None:
        speed = f"{name} is {comparison.speedup:.2f} times as fast as {base}"
    odd = [r for r in recordings if r.run.lossy]
    if odd:
        these = [(r, result) for r, result in compared if not r.run.lossy and not first.run.lossy]
        same = _others_are_same(these)
        names = " and ".join(map(_name, odd))
        return f"{speed}; {names} wrote {labels.LOSSY}, so it is not compared{same}."
    if any(result.identical is None for result in results):
        return f"{speed}; each lane drew its own text, so the texts are not compared."
    for recording, result in compared:
        if not result.identical:
            return f"{speed}; {_difference(first, recording, result.first_difference)}."
    lengths = {metrics.fold(r.steps).new_tokens for r in recordings}
    if any(r.stop.reason == "stopped" for r in recordings):
        return f"{speed}; the texts are the same in the {min(lengths)} tokens that all wrote."
    return f"{speed}; the texts are the same, all {lengths.pop()} tokens."


def _others_are_same(compared: Sequence[tuple[Recording, metrics.Comparison]]) -> str:
    """A clause on the lanes beside lossy ones; empty where none of them was compared."""
    known = [(r, result) for r, result in compared if result.identical is not None]
    if not known:
        return ""
    parted = [_name(r) for r, result in known if not result.identical]
    return f"; not the first's: {', '.join(parted)}" if parted else "; the others are the same"


def _difference(first: Recording, other: Recording, where: metrics.Difference | None) -> str:
    """Where two texts differ, in words; None: one is the start of the other."""
    a, b = _name(first), _name(other)
    if where is None:
        return f"the texts of {a} and {b} are not equally long"
    one, two = (f'"{visible(text)}"' for text in (where.first, where.second))
    return (
        f"the texts part at new token {where.position + 1}: {a} says {one}, {b} {two}, by "
        f"{where.margin:.2g} logits{_scored(where)} ({where.verdict})"
    )


def _scored(where: metrics.Difference) -> str:
    """What was measured around a difference, in words."""
    if where.noise and where.rounding and where.noise > where.rounding:
        return (
            f"; passes that should agree differ by {where.noise:.2g} logits, and rounding can move "
            f"one by {where.rounding:.2g}"
        )
    if where.rescored is None:
        return ""
    return f", {where.rescored:.2g} in a higher precision; rounding moves a logit {where.noise:.2g}"


def _name(recording: Recording) -> str:
    return clip(visible(recording.run.name), 24)


def _numbers(recording: Recording) -> tuple[str, ...]:
    s, timed = metrics.known(recording), not recording.run.engine
    return (
        _name(recording),
        str(s.new_tokens),
        f"{s.seconds:.3f}" if timed else _NONE,
        f"{s.tokens_per_second:.1f}" if timed else _NONE,
        _NONE if recording.run.lossy else f"{s.tokens_per_target_call:.2f}",
        _NONE if s.acceptance_rate is None else f"{s.acceptance_rate:.2f}",
        _NONE if s.alpha is None else f"{s.alpha:.2f}",
    )


def _head(recordings: Sequence[Recording], paint: Paint, columns: int) -> list[str]:
    run = recordings[-1].run
    lanes = "1 lane" if len(recordings) == 1 else f"{len(recordings)} lanes"
    models = f"{run.target} with {run.draft}" if run.draft else run.target
    if run.engine:
        log = f"Log of {run.engine}, {lanes}: {run.target}{labels.longest(recordings)}"
        log = ". ".join([log, *labels.untold(recordings)])
        return paint.wrap([(visible(log), "")], columns)
    strict = ", strict" if run.numerics == "strict" else ""
    shaping = labels.sampled(run.sampling), labels.defaults(run), labels.chat(run)
    shaped = "".join(f", {words}" for words in shaping if words)
    shaped += f", into {run.target_language}" if run.target_language else ""
    promises = labels.promises(recordings)
    how = f"{run.backend}{strict}{shaped}, {promises}, {labels.place(run)}"
    setting = f"{models}, {labels.drafting(run)}, {how}"
    text = f"Stairs trace of {run.created[:10]}, {lanes}: {setting}"
    lines = paint.wrap([(visible(text), "")], columns)
    for name, text in (("System prompt", run.system), ("Prompt", run.prompt)):
        parts = [(f"{name}: ", "1"), (visible(text, "↵\n"), "2")]
        lines += paint.wrap(parts, columns) if text else []
    return lines


def _lane(recording: Recording, paint: Paint, columns: int) -> list[str]:
    steps = recording.steps
    calls = "1 target call" if len(steps) == 1 else f"{len(steps)} target calls"
    new = metrics.fold(steps).new_tokens
    title = f"{_name(recording)}: {new} tokens in {calls}"
    if recording.run.lossy:
        title = f"{_name(recording)}: {new} tokens, {labels.LOSSY}"
    if recording.run.engine:
        order = ", in no known order" if recording.run.untold else ""
        lines = paint.wrap([(f"{title} that had guesses to check{order}", "1")], columns)
    else:
        lines = paint.wrap([(f"{title}, ended by {recording.stop.reason}", "1")], columns)
        lines += paint.wrap(_text(steps), columns, "  ")
    if any(s.drafted for s in steps):
        lines += ["", *_strip(steps, paint, columns)]
    return lines


def _text(steps: Sequence[Step]) -> list[Styled]:
    """The tokens in order; neighbours of one status share a pair of marks."""
    parts: list[Styled] = []
    for status, tokens in groupby((t for s in steps for t in _in_line(s)), key=lambda t: t.status):
        # Only tokens that joined the text break the line.
        newline = "↵\n" if status in COMMITTED else "↵"
        text = "".join(visible(t.text, newline) + visible(labels.special(t)) for t in tokens)
        left, right, _, sgr = STYLES[status]
        # Spaces before a word stay outside its marks, so that a line can break there.
        word = text.lstrip(" ") or text
        if text:
            parts += [(" " * (len(text) - len(word)), ""), (f"{left}{word}{right}", sgr)]
    return parts


def _in_line(step: Step) -> list[Token]:
    """The tokens of a step as one sequence. Of a tree, the tokens off the accepted path do not
    follow each other: they are replaced by their count."""
    if step.parents is None:
        return [*step.tokens]
    path = [t for t in step.drafted if t.status in ("accepted", "dropped")]
    others = len(step.drafted) - len(path)
    count = [Token(-1, f"×{others}", "rejected", "")] if others else []
    return [*path, *count, step.tokens[-1]]


def _legend() -> list[Styled]:
    parts: list[Styled] = []
    for name, (left, right, glyph, sgr) in STYLES.items():
        parts += [(f"{glyph} {left}{name}{right}".replace(" ", "\u00a0"), sgr), ("  ", "")]
    return parts[:-1]


def _strip(steps: Sequence[Step], paint: Paint, columns: int) -> Iterator[str]:
    """Lines of glyphs, a group for each step; a line starts with the number of its first step."""
    label = len(str(len(steps)))
    line, used = "", 0
    for number, step in enumerate(steps, 1):
        tokens = _in_line(step)
        size = len(tokens) + 1
        if line and label + 3 + used + size > columns:
            yield line
            line, used = "", 0
        line = line or f"  {number:>{label}}"
        used += size
        line += " " + "".join(paint(STYLES[t.status][2], STYLES[t.status][3]) for t in tokens)
    yield line
