"""Acceptance: which guesses are kept, and which token follows them. Pure functions.

The guesses are a tree of N tokens (a chain is one too): ``parents[i]`` is the index of the token
that token i follows, -1 for the text. The target gives N + 1 rows: row 0 after the text, row i + 1
after token i.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

FAR = 1e4
"""The margin recorded where all other tokens are ruled out: JSON has no infinity."""


def match(
    tokens: Sequence[int], parents: Sequence[int], predicted: Callable[[int], int]
) -> tuple[list[int], int]:
    """Accepts draft tokens while they equal the target's. Returns their indices, and the target's
    next token.

    ``predicted``: the target's token after a row. In greedy decoding (arXiv 2407.19947) that is
    the most likely one. It may also be a sampled one, if its noise does not depend on the draft.
    """
    path: list[int] = []
    at, next_token = -1, predicted(0)
    for i, token in enumerate(tokens):
        if parents[i] == at and token == next_token:
            path.append(i)
            at, next_token = i, predicted(i + 1)
    return path, next_token


def speculative(
    tokens: Sequence[int],
    parents: Sequence[int],
    target: torch.Tensor,
    draft: torch.Tensor | None,
    generator: torch.Generator,
) -> tuple[list[int], int]:
    """Speculative sampling (Leviathan et al., arXiv 2211.17192; Chen et al., arXiv 2302.01318).

    A token x that was sampled from q is accepted with probability min(1, p(x) / q(x)). If it is
    rejected, p becomes the residual norm(max(0, p - q)), and the next child of the same parent is
    tried against that. When no child is left, the next token is sampled from p as it then is
    (trees: SpecInfer, arXiv 2305.09781, section 4.3). So the text follows the target's
    distribution, whatever q is.

    ``target``: [N + 1, vocabulary], p. ``draft``: [N, vocabulary], q; None where guesses were not
    sampled: q is then 1 at the guess. Returns the accepted indices, and the next token.
    """
    path: list[int] = []
    at, p = -1, target[0]
    for i, token in enumerate(tokens):
        if parents[i] != at:
            continue
        q = _one_hot(token, p) if draft is None else draft[i]
        uniform = torch.rand((), generator=generator, device=p.device)
        if uniform * q[token] < p[token]:
            path.append(i)
            at, p = i, target[i + 1]
        else:
            p = residual(p, q)
    return path, int(sample(p, generator))


def sample(probs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A token (a tensor without dimensions) sampled from ``probs`` [vocabulary].

    Not by ``torch.multinomial``: its checks make the CPU wait for the device, and on a GPU a failed
    one ends the process.
    """
    return (probs / torch.empty_like(probs).exponential_(generator=generator)).argmax()


def residual(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """norm(max(0, p - q)): the target's distribution after q's token was rejected.

    Both [vocabulary]; p itself where nothing is left.
    """
    left = (p - q).clamp(min=0)
    total = left.sum()
    # Nothing is left only where p and q are equal up to rounding: then either will do.
    return left / total if total > 0 else p


def most_likely(scores: torch.Tensor) -> tuple[list[int], list[float]]:
    """For every row of [rows, vocabulary]: the most likely id, and its margin over the second.

    A margin is ``FAR`` at most, where all others are -inf; NaN for a row that holds NaN, or whose
    best is infinite. ``scores`` may be on any device; both are read in one transfer.
    """
    ids = scores.argmax(dim=-1, keepdim=True)
    best = scores.gather(-1, ids)
    second = scores.scatter(-1, ids, float("-inf")).amax(dim=-1, keepdim=True)
    # float64 holds every token id exactly, so ids and logits can travel together.
    packed = torch.cat([ids.double(), best.double(), second.double()], dim=-1).tolist()
    return [int(row[0]) for row in packed], [_margin(first, after) for _, first, after in packed]


def _margin(best: float, second: float) -> float:
    # argmax picks NaN where a row holds one.
    return min(best - second, FAR) if math.isfinite(best) else math.nan


def _one_hot(token: int, like: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(like).index_fill_(0, torch.tensor([token], device=like.device), 1.0)
