"""The words that Python and the browser share, sent to the browser once as ``Stairs.words``."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from ..render import labels, summary
from ..settings.methods import REGISTRY
from ..traces.records import COMMITTED, STATUSES, Status


class StatusWords(NamedTuple):
    """What a status is called and what it means, in the room there is: ``legend`` beside its mark,
    ``card`` after its name on the card of a token, ``glossary`` in a sentence or two."""

    name: str
    legend: str
    card: str
    glossary: str


STATUS_WORDS: dict[Status, StatusWords] = {
    "accepted": StatusWords(
        "accepted",
        "guess kept",
        "a guess that the target keeps",
        "A guess that the target keeps: it stands in the text.",
    ),
    "rejected": StatusWords(
        "rejected",
        "wrong guess; ×5: so many in a tree",
        "a guess that the target does not take",
        "A guess that the target does not take: it is left out of the text.",
    ),
    "unchecked": StatusWords(
        "never checked",
        "behind a wrong guess",
        "it stands behind a rejected guess",
        "A guess behind a rejected one. Its context was discarded, so what the target says there "
        "is not used.",
    ),
    "correction": StatusWords(
        "correction",
        "the target's own, at a wrong guess",
        "the target's own token in place of what was rejected",
        "The target's own token, written in place of a rejected guess.",
    ),
    "bonus": StatusWords(
        "bonus",
        "the target's own, all guesses kept",
        "the target's own token after guesses that were all kept",
        "The target's own token after guesses that were all kept. It comes from the same pass.",
    ),
    "dropped": StatusWords(
        "dropped",
        "behind the end",
        "behind the end of the text",
        "A guess behind the end of the text, or beyond the length that was asked for.",
    ),
}

BACKENDS = {
    "matrix": "N guesses make N + 1 rows, each a whole text of its own, padded to one length: the "
    "paper's picture, literally (matrix).",
    "matrix_kv": "N + 1 rows, but the text so far comes from the cache, repeated for every row "
    "(matrix_kv).",
    "single": "The longest row alone, read from its start: it holds all the others (single).",
    "single_kv": "Only the N guesses and the token before them are read; the rest comes from the "
    "cache. The default (single_kv).",
}
"""What each way to compute the stairs does, in the order in which the page draws them."""


def words() -> dict[str, Any]:
    """``statuses``: in the order that ``packed_trace`` counts them by, each with whether its tokens
    are in the text; ``backends``: label and meaning of each; ``metrics``: what each means;
    ``guessers``: how each guesses without a draft model; ``heads``: those that are heads."""
    return {
        "statuses": {
            status: {**STATUS_WORDS[status]._asdict(), "committed": status in COMMITTED}
            for status in STATUSES
        },
        "backends": {
            name: {"label": labels.BACKENDS[name], "glossary": meaning}
            for name, meaning in BACKENDS.items()
        },
        "metrics": {name: f"{meaning}." for name, meaning in summary.MEANINGS.items()},
        # Those of references name an option of the command line.
        "guessers": {
            name: method.words
            for name, method in REGISTRY.items()
            if method.draft == "no" and not method.references
        },
        "heads": [name for name, method in REGISTRY.items() if method.head],
    }


def script() -> str:
    """JavaScript that comes before the scripts of the page, which read ``Stairs.words``."""
    return f"(globalThis.Stairs ??= {{}}).words = {json.dumps(words(), separators=(',', ':'))};"
