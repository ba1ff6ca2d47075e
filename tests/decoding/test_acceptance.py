"""Which draft tokens are accepted, and what is most likely."""

from __future__ import annotations

import torch

from stairs_core.decoding import acceptance


def test_a_tree_of_sampled_siblings_keeps_the_distribution():
    """Two tokens drawn from q, one after the other, against what p says."""
    p, q = torch.tensor([0.5, 0.2, 0.2, 0.1]), torch.tensor([0.1, 0.6, 0.1, 0.2])
    generator = torch.Generator(p.device).manual_seed(3)
    seen, runs = torch.zeros(4), 4000
    for _ in range(runs):
        tokens = torch.multinomial(q, 2, replacement=True, generator=generator).tolist()
        path, own = acceptance.speculative(
            tokens, [-1, -1], p.repeat(3, 1), q.repeat(2, 1), generator
        )
        seen[tokens[path[0]] if path else own] += 1
    assert float(((seen - runs * p) ** 2 / (runs * p)).sum()) < 20


def test_what_is_ruled_out_is_far_behind_and_what_is_no_number_is_told():
    inf, nan = float("inf"), float("nan")
    rows = torch.tensor([[1.0, -inf, -inf], [1.0, 3.0, -inf], [1.0, nan, 2.0], [1.0, inf, 2.0],
                         [-inf, -inf, -inf]])  # fmt: skip
    ids, margins = acceptance.most_likely(rows)
    assert ids[:2] == [0, 1]
    assert margins[:2] == [acceptance.FAR, 2.0]
    assert all(margin != margin for margin in margins[2:])
