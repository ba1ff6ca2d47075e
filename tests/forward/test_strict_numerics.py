"""Strict numerics: the same bits, however the tokens were grouped into passes."""

from __future__ import annotations

import copy
import random
from dataclasses import replace

import pytest
import torch

from stairs_core.errors import InputError
from stairs_core.forward.cached_model import CachedModel
from stairs_core.forward.capabilities import check_strict
from stairs_core.forward.kv_cache import BLOCK
from stairs_core.forward.lean_llama import LeanLlama
from stairs_core.measuring import same_text
from stairs_core.settings.settings import Settings

LENGTH = BLOCK + 40  # past a block's end, where a pass sees more keys


IDS = [random.Random(5).randrange(320) for _ in range(LENGTH)]


@pytest.fixture(scope="module", params=["float32", "bfloat16", "lean"])
def read_one_by_one(request, tiny_pair):
    """Every forward pass there is, transformers' own in two dtypes and ours; and its logits of
    ``IDS``, one token a pass."""
    model = {
        "float32": lambda: tiny_pair.target,
        "bfloat16": lambda: copy.deepcopy(tiny_pair.target).to(torch.bfloat16),
        "lean": lambda: LeanLlama(tiny_pair.target),
    }[request.param]()
    lane = CachedModel(model, strict=True)
    return model, torch.cat([lane.logits(IDS[: n + 1], 1) for n in range(LENGTH)])


def grouped(lane: CachedModel, ids: list[int], rng: random.Random) -> torch.Tensor:
    """[positions, vocabulary], read in groups of any size, some after a wrong guess."""
    rows, at = [], 0
    while at < len(ids):
        width = min(rng.choice((1, 1, 2, 3, 5, 6, 7, 11, 40)), len(ids) - at)
        if rng.random() < 0.4:
            wrong = [(t + 1) % 320 for t in ids[at : at + rng.randrange(1, 9)]]
            lane.logits(ids[:at] + wrong, len(wrong))
        rows.append(lane.logits(ids[: at + width], width))
        at += width
    return torch.cat(rows)


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "uncached"])
def test_logits_are_bit_identical_however_tokens_are_grouped(read_one_by_one, cached):
    model, one = read_one_by_one
    for seed in range(3 if cached else 1):
        several = grouped(CachedModel(model, cached=cached, strict=True), IDS, random.Random(seed))
        assert torch.equal(one, several)
    plain = CachedModel(model).logits(IDS, LENGTH)
    tolerance = 1e-4 if plain.dtype == torch.float32 else 0.5
    assert torch.allclose(one.float(), plain.float(), atol=tolerance, rtol=tolerance)


def test_fast_passes_are_not_the_same_bits(tiny_pair):
    """Else the test above would show nothing."""
    ids = [random.Random(5).randrange(320) for _ in range(60)]
    lane = CachedModel(tiny_pair.target)
    one = torch.cat([lane.logits(ids[: n + 1], 1) for n in range(60)])
    assert not torch.equal(one, CachedModel(tiny_pair.target).logits(ids, 60))


def test_the_noise_is_measured(tiny_pair):
    ids = [random.Random(6).randrange(320) for _ in range(80)]
    fast = same_text.measure(tiny_pair, ids, "single_kv", "fast")
    assert 0 < fast < 1e-3
    assert same_text.measure(tiny_pair, ids, "single_kv", "strict") == 0.0


def test_strict_is_refused_where_it_cannot_be(tiny_pair):
    with pytest.raises(InputError, match="single_kv or single"):
        Settings(numerics="strict", backend="matrix_kv")

    class Deaf(LeanLlama):
        def __call__(self, *args, attention_mask=None, **kwargs):
            return super().__call__(*args, **kwargs)

    tiny_pair.require_strict()  # says nothing of another target
    pair = replace(tiny_pair, target=Deaf(tiny_pair.target))
    with pytest.raises(InputError, match="--numerics fast"):
        pair.require_strict()

    class Uneven(LeanLlama):
        """Rounds by a token's place in the pass."""

        def __call__(self, *args, **kwargs):
            out = super().__call__(*args, **kwargs)
            out.logits = out.logits + 1e-6 * torch.arange(out.logits.shape[1])[:, None]
            return out

    with pytest.raises(InputError, match="place in a pass"):
        check_strict(Uneven(tiny_pair.target), "the target")
