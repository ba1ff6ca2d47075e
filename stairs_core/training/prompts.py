"""Held-out prompts, one a line, for the tests, the benches and the model card."""

from __future__ import annotations

import random
from pathlib import Path

from .conditions import Conditions

EACH = 25
"""How many conditions, and how many openings."""


def opening(story: str) -> str:
    """The first 8 to 12 words of a story, cut after a word."""
    words = story.split("\n")[0].split(" ")
    return " ".join(words[: min(12, max(8, len(words) // 3))])


def write_prompts(path: Path, stories: list[str], conditions: Conditions) -> None:
    """Write conditions and openings from held-out stories, newlines spelled ``\\n``."""
    rng = random.Random(0)
    stories = sorted(set(stories))
    rng.shuffle(stories)
    conditioned = [p for s in stories if (p := conditions.prefix(s, rng))][:EACH]
    openings = [opening(s) for s in stories[::-1]][:EACH]
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [p.replace("\n", "\\n") for p in [*conditioned, *openings]]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def read_prompts(path: Path) -> list[str]:
    """The prompts of a file that ``write_prompts`` wrote."""
    lines = path.read_text(encoding="ascii").splitlines()
    return [line.replace("\\n", "\n") for line in lines if line]
