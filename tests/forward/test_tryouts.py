"""A model is tried out on a few tokens: rounding is not taken for a fault, nor a fault for it."""

from __future__ import annotations

import pytest
import torch
from graph_standin import Recorder
from tiny_models import make_model

from stairs_core.forward import capabilities, cuda_graphs, faster_pass, tryouts
from stairs_core.forward.cached_model import CachedModel

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
BIG = torch.finfo(torch.float16).min


def deep(dtype: torch.dtype):
    """As many layers as SmolLM2 has, and logits as large: much is lost to rounding on the way."""
    model = make_model(layers=30, vocab_size=2000)
    with torch.no_grad():
        model.lm_head.weight *= 8
    return model.to(dtype)


@pytest.mark.cpu
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_right_is_used_in_any_dtype(dtype):
    model = deep(dtype)
    capabilities.check_model(model, "it")
    capabilities.check_strict(model, "it")
    assert capabilities.takes_trees(model)
    expected = faster_pass._logits(model), faster_pass._of_tree(model)
    cuda_graphs.attach(model, Recorder())
    replayed = faster_pass._logits(model), faster_pass._of_tree(model)
    cuda_graphs.detach(model)
    assert not all(map(torch.equal, replayed, expected))
    assert all(map(tryouts.agree, replayed, expected))


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_wrong_is_seen_in_any_dtype(dtype):
    model = deep(dtype)
    text, guesses = (ids := tryouts.tokens(model, 6))[:3], ids[3:]

    def tree(parents: list[int]) -> torch.Tensor:
        cached = CachedModel(model)
        cached.logits(text, 1)
        return cached.tree(text, guesses, parents, 4)

    right = tree([-1, -1, 0])
    assert not tryouts.agree(tree([-1, 0, 0]), right)
    assert not tryouts.agree(tree([-1, -1, 1]), right)
    shape = right.shape
    assert not tryouts.agree(right + torch.eye(*shape, dtype=dtype) * float("nan"), right)
    assert not tryouts.agree(right.flip(-1), right)
    assert not tryouts.agree(torch.zeros_like(right), right)
    with torch.no_grad():
        model.model.layers[3].self_attn.v_proj.weight *= -1
    assert not tryouts.agree(tree([-1, -1, 0]), right)


@pytest.mark.parametrize("never", [float("-inf"), BIG, float("nan")])
def test_tokens_that_are_never_chosen_hide_no_fault(never):
    right = torch.randn(3, 400, generator=torch.Generator().manual_seed(1)).half()
    right[:, 300:] = never
    assert tryouts.agree(right.clone(), right)
    wrong = right.clone()
    wrong[1, :300] = wrong[1, :300].flip(0)
    assert not tryouts.agree(wrong, right)
    wrong = right.clone()
    wrong[2, 350] = 1
    assert not tryouts.agree(wrong, right)


@pytest.mark.parametrize(
    ("marks", "first"),
    [
        ({"bos_token_id": 1, "pad_token_id": 2}, 1),
        ({"bos_token_id": None}, 40),
        ({"bos_token_id": 50256, "eos_token_id": 50256}, 40),
        ({"bos_token_id": 7, "pad_token_id": 7}, 40),
        ({"bos_token_id": -1}, 40),
    ],
)
def test_a_text_is_tried_that_the_model_may_have_read(marks, first):
    """Ordinary tokens, after the one that begins a text where there is one; not a vocabulary's
    first ones, which may never have been trained."""
    model = make_model()
    for name, value in marks.items():
        setattr(model.config, name, value)
    ids = tryouts.tokens(model, 16)
    assert ids[0] == pytest.approx(first, abs=4)
    assert len({*ids}) == 16
    assert all(20 <= i < 320 for i in ids[1:])
    assert not {*ids[1:]} & {0, *marks.values()}
    assert tryouts.tokens(model, 5) == ids[:5]
