"""The staircase of one step in a terminal: a row for each guess; a tree where the draft was one."""

from __future__ import annotations

from collections.abc import Sequence

from ...traces.records import Prediction, Recording, Run, Step, Token
from .. import labels
from .text import Paint, Styled, clip, clip_left, pad, visible, width

STYLES = {
    "accepted": ("", "", "━", "32;4"),
    "correction": ("[", "]", "◆", "33;1"),
    "bonus": ("{", "}", "●", "36;1"),
    "rejected": ("~", "~", "╳", "31;9"),
    "unchecked": ("·", "·", "┄", "2"),
    "dropped": ("/", "/", "∅", "2;9"),
}
"""By status: the marks around a token's text, its glyph in the strip of steps, its SGR parameters
(colours). In the order of the legend."""
_NONE = "–"
MEANING = (
    "Each row is the text so far and one more guess, in a tree under the guess that it follows; "
    "after the arrow, how the target goes on there, and by how many logits its favourite leads. ✓ "
    "as guessed, ◆ not as guessed and kept instead, ● kept on top of a guess that held, · never "
    "compared."
)


def draw(recording: Recording, name: str, index: int, paint: Paint, columns: int) -> list[str]:
    """Step ``index``: a title, and the rows that the target computed, with what it predicted."""
    steps, step = recording.steps, recording.steps[index]
    before = [*_prompt(recording.run), *(_text(t) for s in steps[:index] for t in s.committed)]
    tree = "" if step.parents is None else " in a tree"
    order = " in no known order" if recording.run.untold else ""
    title = (
        f"{name}, step {index + 1} of {len(steps)}{order}: {len(step.drafted)} guessed{tree}, "
        f"{step.accepted} accepted, {len(step.committed)} added to the text"
    )
    path = _path(step)
    nexts = [clip(visible(text), min(columns // 4, 16)) for text in _next(step, path)]
    right = max(map(width, nexts))
    digits = max(2, len(str(len(nexts) - 1)))
    room = max(columns - right - digits - 14, 7)
    context = clip_left(visible("".join(before[-32:])), max(room // 3, 6))
    if step.parents is None:
        rows = [(i, _row(step, i, context, room)) for i in range(len(nexts))]
    else:
        rows = [(0, [(context, "2")]), *_branches(step, room)]
    left = max(sum(width(text) for text, _ in row) for _, row in rows)
    lines = paint.wrap([(title, "1")], columns)
    for i, row in rows:
        gap = " " * (left - sum(width(text) for text, _ in row))
        body = "".join(paint(*part) for part in row) + gap
        margin = f"{_NONE:>7}" if recording.run.engine else f"{step.predictions[i].margin:7.2f}"
        mark, sgr = _mark(step, i, path)
        tail = paint(f"→ {pad(nexts[i], right)} {margin} {mark}", sgr)
        lines.append(f"{i:>{digits}} {body} {tail}".rstrip())
    return lines


def _prompt(run: Run) -> list[str]:
    """The pieces of the prompt, special tokens by name."""
    names = {i: f"⟦{name}⟧" for i, name in run.prompt_special.items()}
    return [
        piece + names.get(str(i), "")
        for i, piece in zip(run.prompt_ids, run.prompt_tokens, strict=False)
    ]


def _text(token: Token | Prediction) -> str:
    return token.text + labels.special(token)


def _path(step: Step) -> list[int]:
    """The rows on the accepted path, from the last one back to row 0, the text."""
    found = [step.kept]
    while found[-1]:
        found.append(step.rows[found[-1] - 1])
    return found


def _next(step: Step, path: Sequence[int]) -> list[str]:
    """For every row, the token that follows: on the accepted path the committed one, elsewhere the
    target's most likely."""
    texts = [_text(p) for p in step.predictions]
    for after, row in zip([len(step.tokens), *path], path, strict=False):
        texts[row] = _text(step.tokens[after - 1])
    return texts


def _row(step: Step, i: int, context: str, room: int) -> list[Styled]:
    """Row ``i`` of a chain: the text and the first ``i`` guesses, cut on the left if too long."""
    parts: list[Styled] = [(context, "2")]
    for token in step.drafted[:i]:
        parts.append(("│" + clip(visible(_text(token)), room // 3), STYLES[token.status][3]))
    sizes = [width(text) for text, _ in parts]
    if sum(sizes) <= room:
        return parts
    kept, used = len(parts), 1
    while kept > 1 and used + sizes[kept - 1] <= room:
        kept -= 1
        used += sizes[kept]
    return [("…", "2"), *parts[kept:]]


def _branches(step: Step, room: int) -> list[tuple[int, list[Styled]]]:
    """The rows of a tree, depth first, each with its guess and the lines that lead to it."""
    followers: dict[int, list[int]] = {}
    for i, row in enumerate(step.rows[:-1]):
        followers.setdefault(row, []).append(i)
    found: list[tuple[int, list[Styled]]] = []
    waiting = [(i, "") for i in reversed(followers.get(0, []))]
    while waiting:
        i, stem = waiting.pop()
        token, last = step.drafted[i], i == followers[step.rows[i]][-1]
        left, right, _, sgr = STYLES[token.status]
        line = f"{stem}{'└' if last else '├'} "
        text = left + clip(visible(_text(token)), room - width(line) - 2) + right
        found.append((i + 1, [(line, "2"), (text, sgr)]))
        below = clip_left(f"{stem}{' ' if last else '│'} ", room // 3)
        waiting += [(child, below) for child in reversed(followers.get(i + 1, []))]
    return found


def _mark(step: Step, i: int, path: Sequence[int]) -> tuple[str, str]:
    """The mark at the end of row ``i`` and its SGR parameters."""
    if i == step.kept:
        rejected = any(at == i for at in step.rows[:-1])
        status = "correction" if rejected else "bonus"
        return STYLES[status][2], STYLES[status][3]
    status, mark = ("accepted", "✓") if i in path else ("unchecked", "·")
    return mark, STYLES[status][3]
