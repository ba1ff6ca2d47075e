"""Recordings drawn in a terminal. Every status is told by marks; colour only repeats them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from .. import metrics
from ..errors import InputError
from ..trace import Recording, Step, Token
from . import staircase, words
from .cells import Paint, Styled, clip, pad, visible, width
from .staircase import STYLES

_COLUMNS = ("lane", "tokens", "seconds", "tok/s", "tok/call", "accepted", "alpha")
_NONE = "–"
_NARROWEST = 32


def draw(
    recordings: Sequence[Recording], columns: int, *, color: bool = False, step: int | None = None
) -> str:
    """A whole trace; with ``step``, counted from 1, the stairs of that step in every lane.

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
    """The numbers of every lane, aligned."""
    rows = [_COLUMNS, *(_numbers(r) for r in recordings)]
    sizes = [max(map(width, column)) for column in zip(*rows, strict=True)]
    aligned = [
        pad(name, sizes[0])
        + "".join(f"  {cell:>{size}}" for cell, size in zip(cells, sizes[1:], strict=True))
        for name, *cells in rows
    ]
    return [paint(aligned[0], "2"), *aligned[1:]]


def noted(recordings: Sequence[Recording]) -> list[str]:
    """What the target's own defaults did, or would have done: a line, or none."""
    told = words.defaults(recordings[-1].run)
    return [f"Defaults: {visible(told)}."] if told else []


def verdict(
    recordings: Sequence[Recording], results: Sequence[metrics.Comparison] | None = None
) -> str:
    """How the last lane did against the first, and whether all wrote the same; "" for one lane.

    ``results``: every other lane against the first, where that has been looked into already.
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
    if any(result.identical is None for result in results):
        return f"{speed}; each lane drew its own text, so the texts are not compared."
    for recording, result in compared:
        if not result.identical:
            return f"{speed}; {_difference(first, recording, result.first_difference)}."
    lengths = {metrics.fold(r.steps).new_tokens for r in recordings}
    if len(lengths) > 1:
        return f"{speed}; the texts are the same in the {min(lengths)} tokens that all wrote."
    return f"{speed}; the texts are the same, all {lengths.pop()} tokens."


def _difference(first: Recording, other: Recording, where: metrics.Difference | None) -> str:
    a, b = _name(first), _name(other)
    if where is None:
        return f"the texts of {a} and {b} are not equally long"
    said = [f'"{visible(text)}"' for text in (where.first, where.second)]
    return (
        f"the texts part at new token {where.position + 1}: {a} says {said[0]}, {b} {said[1]}, by "
        f"{where.margin:.2g} logits{_scored(where)} ({where.verdict})"
    )


def _scored(where: metrics.Difference) -> str:
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
    s, timed = metrics.told(recording), not recording.run.engine
    return (
        _name(recording),
        str(s.new_tokens),
        f"{s.seconds:.3f}" if timed else _NONE,
        f"{s.tokens_per_second:.1f}" if timed else _NONE,
        f"{s.tokens_per_target_call:.2f}",
        _NONE if s.acceptance_rate is None else f"{s.acceptance_rate:.2f}",
        _NONE if s.alpha is None else f"{s.alpha:.2f}",
    )


def _head(recordings: Sequence[Recording], paint: Paint, columns: int) -> list[str]:
    run = recordings[-1].run
    lanes = "1 lane" if len(recordings) == 1 else f"{len(recordings)} lanes"
    models = f"{run.target} with {run.draft}" if run.draft else run.target
    if run.engine:
        told = f"Log of {run.engine}, {lanes}: {run.target}{words.longest(recordings)}"
        told = ". ".join([told, *words.untold(recordings)])
        return paint.wrap([(visible(told), "")], columns)
    strict = ", strict" if run.numerics == "strict" else ""
    shaped = words.sampled(run.sampling), words.defaults(run), words.chat(run)
    drawn = "".join(f", {told}" for told in shaped if told)
    drawn += f", into {run.target_language}" if run.target_language else ""
    how = f"{run.backend}{strict}{drawn}, {run.exactness}, {run.dtype}, {run.hardware}"
    setting = f"{models}, {words.drafting(run)}, {how}"
    text = f"Stairs trace of {run.created[:10]}, {lanes}: {setting}"
    lines = paint.wrap([(visible(text), "")], columns)
    for name, said in (("System prompt", run.system), ("Prompt", run.prompt)):
        asked = [(f"{name}: ", "1"), (visible(said, "↵\n"), "2")]
        lines += paint.wrap(asked, columns) if said else []
    return lines


def _lane(recording: Recording, paint: Paint, columns: int) -> list[str]:
    steps = recording.steps
    calls = "1 target call" if len(steps) == 1 else f"{len(steps)} target calls"
    new = metrics.fold(steps).new_tokens
    title = f"{_name(recording)}: {new} tokens in {calls}"
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
    """The tokens in order, neighbours of one status in one pair of marks."""
    parts: list[Styled] = []
    for status, tokens in groupby((t for s in steps for t in _told(s)), key=lambda t: t.status):
        # Only what is in the text begins a new line.
        newline = "↵\n" if status in ("accepted", "correction", "bonus") else "↵"
        text = "".join(visible(t.text, newline) + visible(words.special(t)) for t in tokens)
        left, right, _, sgr = STYLES[status]
        # A space before a word stays outside its marks, where lines break.
        word = text.lstrip(" ") or text
        if text:
            parts += [(" " * (len(text) - len(word)), ""), (f"{left}{word}{right}", sgr)]
    return parts


def _told(step: Step) -> list[Token]:
    """The tokens of a step; the wrong ones of a tree, which follow no one another, as a count."""
    if step.parents is None:
        return [*step.tokens]
    held = [t for t in step.drafted if t.status in ("accepted", "dropped")]
    wrong = len(step.drafted) - len(held)
    count = [Token(-1, f"×{wrong}", "rejected", "")] if wrong else []
    return [*held, *count, step.tokens[-1]]


def _legend() -> list[Styled]:
    parts: list[Styled] = []
    for name, (left, right, glyph, sgr) in STYLES.items():
        parts += [(f"{glyph} {left}{name}{right}".replace(" ", "\u00a0"), sgr), ("  ", "")]
    return parts[:-1]


def _strip(steps: Sequence[Step], paint: Paint, columns: int) -> Iterator[str]:
    """Every step as a word of glyphs; each line starts with the number of its first step."""
    label = len(str(len(steps)))
    line, used = "", 0
    for number, step in enumerate(steps, 1):
        size = len(told := _told(step)) + 1
        if line and label + 3 + used + size > columns:
            yield line
            line, used = "", 0
        line = line or f"  {number:>{label}}"
        used += size
        line += " " + "".join(paint(STYLES[t.status][2], STYLES[t.status][3]) for t in told)
    yield line
