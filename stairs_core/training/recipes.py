"""Recipes: all choices of a training run, in frozen dataclasses.

Every schedule is in tokens or shares, not steps, so that a recipe means the same at any batch size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import InputError

SPACE_K = 5
"""Tokens a SPACE mask group looks ahead; a group is k + 1 masks (arXiv 2402.11809)."""


@dataclass(frozen=True)
class Shape:
    """A Llama's size: width, layers and MLP width; every attention head is 64 wide."""

    hidden: int
    layers: int
    mlp: int
    head: int = 64


@dataclass(frozen=True)
class Phase:
    """A stretch of the target's training: up to which share of it, from which sources.

    ``mix`` maps a source (file name without its endings) to how often each of its works appears in
    one pass over the data; ``"*"`` stands for every source not named.
    """

    until: float
    mix: Mapping[str, float]


@dataclass(frozen=True)
class Recipe:
    """One way to train the pair."""

    name: str
    target: Shape
    draft: Shape
    phases: tuple[Phase, ...]
    rows: tuple[tuple[float, int], ...]  # (up to this share of training, tokens in a row)
    target_tokens: int
    draft_tokens: int
    distill_tokens: int
    generate_stories: int
    tokens_per_step: int
    vocab: int = 4096
    positions: int = 2048
    target_lr: float = 4e-3
    draft_lr: float = 6e-3
    distill_lr: float = 3e-3
    warmup: float = 0.03
    decay: float = 0.4
    space_from: float = 0.75
    story_tokens: int = 240
    compile: bool = True
    draft_phases: tuple[Phase, ...] = field(default=())


_STORIES = {
    "tinystories_cased": 1.0,
    "tinystories_truecased_from_lower": 1.0,
    "storybooks_ccby": 1.0,
    "fairytaleqa": 0.34,
    "folk_fairy_prose": 0.1,
    "classics_children": 0.0,
    "classics_general_prose_120MB": 0.0,
    "*": 1.0,
}
_PLAIN = {**_STORIES, "fairytaleqa": 0.12, "folk_fairy_prose": 0.0}
_WIDE = {
    "classics_general_prose_120MB": 1.0,
    "classics_children": 2.0,
    "folk_fairy_prose": 2.0,
    "fairytaleqa": 3.0,
    "storybooks_ccby": 3.0,
    "tinystories_cased": 3.0,
    "tinystories_truecased_from_lower": 2.0,
    "*": 1.0,
}
_NARROW = {
    "classics_general_prose_120MB": 0.0,
    "classics_children": 0.5,
    "folk_fairy_prose": 0.6,
    "fairytaleqa": 1.0,
    "storybooks_ccby": 1.0,
    "tinystories_cased": 1.0,
    "tinystories_truecased_from_lower": 1.0,
    "*": 1.0,
}

RECIPES = {
    # About an hour and a half on two CPU cores with bfloat16 units.
    "cpu": Recipe(
        name="cpu",
        target=Shape(hidden=384, layers=6, mlp=1024),
        draft=Shape(hidden=256, layers=1, mlp=1024),
        phases=(Phase(0.6, _STORIES), Phase(1.0, _PLAIN)),
        rows=((0.6, 256), (0.95, 512), (1.0, 2048)),
        target_tokens=8_200_000,
        draft_tokens=2_000_000,
        distill_tokens=2_000_000,
        generate_stories=3072,
        tokens_per_step=8192,
    ),
    # About 25 minutes on one H200; never run yet, its numbers are estimates.
    "full": Recipe(
        name="full",
        target=Shape(hidden=512, layers=8, mlp=1344),
        draft=Shape(hidden=256, layers=2, mlp=704),
        phases=(Phase(0.35, _WIDE), Phase(0.9, _NARROW), Phase(1.0, _PLAIN)),
        rows=((0.85, 512), (1.0, 2048)),
        target_tokens=250_000_000,
        draft_tokens=60_000_000,
        distill_tokens=60_000_000,
        generate_stories=65_536,
        tokens_per_step=65_536,
        target_lr=3e-3,
        draft_lr=5e-3,
        draft_phases=(Phase(1.0, _NARROW),),
    ),
    # Seconds: for the tests.
    "tiny": Recipe(
        name="tiny",
        target=Shape(hidden=32, layers=2, mlp=64, head=16),
        draft=Shape(hidden=16, layers=1, mlp=32, head=16),
        phases=(Phase(1.0, {"*": 1.0}),),
        rows=((0.6, 32), (1.0, 64)),
        target_tokens=4096,
        draft_tokens=1024,
        distill_tokens=1024,
        generate_stories=16,
        tokens_per_step=256,
        vocab=300,
        positions=128,
        story_tokens=24,
        compile=False,
    ),
}


def get_recipe(name: str) -> Recipe:
    """The recipe called ``name``; raises ``InputError`` naming the ones there are."""
    if name not in RECIPES:
        raise InputError(f"There is no recipe {name!r}: choose one of {', '.join(RECIPES)}.")
    return RECIPES[name]
