"""Acceptance: which part of a guess is kept, and what follows it. Pure functions.

A guess is a tree of N tokens (a chain is one): ``parents[i]`` is the index of the token that token
i follows, -1 the text. Row 0 of the target's answers stands after the text, row i + 1 after token
i.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

FAR = 1e4
"""Logits by which a token is said to be behind that cannot be at all."""


def match(
    tokens: Sequence[int], parents: Sequence[int], said: Callable[[int], int]
) -> tuple[list[int], int]:
    """Keeps tokens while each is what the target says there; its word after them is its own.

    ``said``: the target's token after a row. For greedy decoding (arXiv 2407.19947) that is the
    most likely one; where it is drawn by dice that the draft does not change, this is exact too.
    """
    path: list[int] = []
    at, own = -1, said(0)
    for i, token in enumerate(tokens):
        if parents[i] == at and token == own:
            path.append(i)
            at, own = i, said(i + 1)
    return path, own


def speculative(
    tokens: Sequence[int],
    parents: Sequence[int],
    target: torch.Tensor,
    draft: torch.Tensor | None,
    generator: torch.Generator,
) -> tuple[list[int], int]:
    """Speculative sampling (Leviathan et al., arXiv 2211.17192; Chen et al., arXiv 2302.01318).

    A token x that was drawn by q is kept with the probability min(1, p(x) / q(x)). Where it is not,
    the next token that follows the same text is tried against what is left of p, the residual
    norm(max(0, p - q)), and from that the target's own token is drawn in the end (trees: SpecInfer,
    arXiv 2305.09781, section 4.3). So the text has the target's law, whatever q is.

    ``target``: [N + 1, vocabulary], p. ``draft``: [N, vocabulary], q; None where guesses were not
    drawn, so that q is one at the guess. Returns the indices that hold, and the target's own token.
    """
    path: list[int] = []
    at, p = -1, target[0]
    for i, token in enumerate(tokens):
        if parents[i] != at:
            continue
        q = _one_hot(token, p) if draft is None else draft[i]
        dice = torch.rand((), generator=generator, device=p.device)
        if dice * q[token] < p[token]:
            path.append(i)
            at, p = i, target[i + 1]
        else:
            p = residual(p, q)
    return path, int(draw(p, generator))


def draw(law: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A token (no dimensions) of a law [vocabulary]: what ``torch.multinomial`` draws, without its
    checks, which make a CPU wait for the device and on a GPU end the process."""
    return (law / torch.empty_like(law).exponential_(generator=generator)).argmax()


def residual(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """norm(max(0, p - q)): what the target says where q has not said it. Both [vocabulary]."""
    left = (p - q).clamp(min=0)
    total = left.sum()
    # Nothing is left only where p and q are equal but for rounding: then either is the law.
    return left / total if total > 0 else p


def most_likely(scores: torch.Tensor) -> tuple[list[int], list[float]]:
    """The best id of every row of [rows, vocabulary], and by how much it is the best: ``FAR`` at
    most, where all else is ruled out (-inf). NaN for a row that holds NaN, or whose best is
    infinite. On any device; read in one transfer.
    """
    ids = scores.argmax(dim=-1, keepdim=True)
    best = scores.gather(-1, ids)
    second = scores.scatter(-1, ids, float("-inf")).amax(dim=-1, keepdim=True)
    # float64 holds every token id exactly, so ids and logits can travel together.
    packed = torch.cat([ids.double(), best.double(), second.double()], dim=-1).tolist()
    return [int(row[0]) for row in packed], [_margin(first, after) for _, first, after in packed]


def _margin(best: float, second: float) -> float:
    # Where a row holds NaN, that is what argmax finds.
    return min(best - second, FAR) if math.isfinite(best) else math.nan


def _one_hot(token: int, like: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(like).index_fill_(0, torch.tensor([token], device=like.device), 1.0)
