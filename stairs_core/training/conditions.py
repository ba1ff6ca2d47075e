"""Conditions: ``Words: dog, rain, happy`` before ``Story:``, made from the story itself."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable

CONDITION_SHARE = 0.4
"""Share of the short works that carry a condition, drawn anew in every pass."""

SHORT_CHARS = 4000
"""Only works up to this length get a condition, since it should describe the whole story."""

WORDS = 3
HEAD, BODY = "Words: ", "\nStory:"
# Lower-case words only: names and sentence starts stay out; so do halves of "didn't". Words like
# "walked", "happily" and "shining" make odd requests, and their endings give most of them away.
_WORD = re.compile(r"(?<![A-Za-z'])[a-z]{3,}(?![A-Za-z'])")
_FUNCTION_WORDS = """
about above across after again against almost alone along already also although always among
another any anyone anything around away back because been before behind being below beside
between both but can cannot could does doing done down during each either else enough even ever
every everyone everything few for from had has have having her here hers herself him himself his
how however into its itself just like many may maybe might more most much must myself near
neither never next nobody none nor not nothing now off often once one only onto other others our
out over own perhaps quite rather really same several shall she should since some someone
something sometimes soon still such than that the their them themselves then there these they
this those though three through together too toward towards two under until upon very was well
were what when where which while who whole whom whose why will with within without would yes yet
you your yourself anymore inside outside
"""
_FUNCTIONS = frozenset(_FUNCTION_WORDS.split())


def _words(text: str) -> set[str]:
    found = set(_WORD.findall(text)) - _FUNCTIONS
    return {word for word in found if not word.endswith(("ed", "ing", "ly"))}


class Conditions:
    """Picks the words of a story that are neither everywhere nor unique in the corpus.

    The band is the document frequency among the short training works: at least 0.05 % of them
    (and two), at most 5 %.
    """

    def __init__(self, works: Iterable[str]) -> None:
        counts: Counter[str] = Counter()
        total = 0
        for work in works:
            if len(work) <= SHORT_CHARS:
                counts.update(_words(work))
                total += 1
        low, high = max(2, 0.0005 * total), max(4, 0.05 * total)
        self.band = frozenset(word for word, n in counts.items() if low <= n <= high)

    def words(self, story: str, rng: random.Random) -> list[str]:
        """Three of the story's words, in random order; empty when it is too long or has none."""
        if len(story) > SHORT_CHARS:
            return []
        found = sorted(_words(story) & self.band)
        return rng.sample(found, WORDS) if len(found) >= WORDS else []

    def prefix(self, story: str, rng: random.Random) -> str:
        """``"Words: a, b, c\\nStory:"``, or ``""`` where the story offers no words."""
        words = self.words(story, rng)
        return f"{HEAD}{', '.join(words)}{BODY}" if words else ""

    def decorate(self, story: str, rng: random.Random) -> str:
        """The story as it is trained on: with a condition for ``CONDITION_SHARE`` of the draws."""
        prefix = self.prefix(story, rng) if rng.random() < CONDITION_SHARE else ""
        return f"{prefix} {story}" if prefix else story


def brought_up(text: str) -> list[tuple[int, int]]:
    """The characters, from and to, of each word that the text's condition asked for, where it
    stands in the story first."""
    head, between, story = text.partition(BODY)
    if not text.startswith(HEAD) or not between:
        return []
    wanted, start = set(head.removeprefix(HEAD).split(", ")), len(text) - len(story)
    found: dict[str, tuple[int, int]] = {}
    for match in re.finditer("[A-Za-z]+", story):
        found.setdefault(match.group().lower(), (start + match.start(), start + match.end()))
    return [where for word, where in found.items() if word in wanted]


def obeyed(text: str) -> tuple[int, int]:
    """(how many words the text's condition asked for, how many of them occur in its story)."""
    if not text.startswith(HEAD) or BODY not in text:
        return 0, 0
    head, story = text.split(BODY, 1)
    wanted = head.removeprefix(HEAD).split(", ")
    found = set(re.findall(r"[a-z]+", story.lower()))
    return len(wanted), sum(word in found for word in wanted)
