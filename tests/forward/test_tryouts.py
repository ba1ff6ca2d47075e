"""A model is tried out on a few tokens: rounding is not taken for a fault, nor a fault for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from graph_standin import Recorder
from paths import ROOT
from tiny_models import make_model
from transformers import AutoModelForCausalLM

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
    tolerance = tryouts.rounding(model)
    expected = faster_pass._logits(model), faster_pass._of_tree(model)
    cuda_graphs.attach(model, Recorder())
    replayed = faster_pass._logits(model), faster_pass._of_tree(model)
    cuda_graphs.detach(model)
    assert not all(map(torch.equal, replayed, expected))
    for ours, stock in zip(replayed, expected, strict=True):
        assert tryouts.agree(ours, stock, tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_wrong_is_seen_in_any_dtype(dtype):
    model = deep(dtype)
    text, guesses = (ids := tryouts.tokens(model, 6))[:3], ids[3:]
    tolerance = tryouts.rounding(model)

    def tree(parents: list[int]) -> torch.Tensor:
        cached = CachedModel(model)
        cached.logits(text, 1)
        return cached.tree(text, guesses, parents, 4)

    def agrees(logits: torch.Tensor) -> bool:
        return tryouts.agree(logits, right, tolerance)

    right = tree([-1, -1, 0])
    assert agrees(right.clone())
    assert not agrees(tree([-1, 0, 0]))
    assert not agrees(tree([-1, -1, 1]))
    assert not agrees(right + torch.eye(*right.shape, dtype=dtype) * float("nan"))
    assert not agrees(right.flip(-1))
    assert not agrees(torch.zeros_like(right))
    few = right.clone()
    few.scatter_(-1, few.topk(5).indices, 0)  # few of 2,000 logits, but the ones that matter
    assert not agrees(few)
    with torch.no_grad():
        model.model.layers[3].self_attn.v_proj.weight *= -1
    assert not agrees(tree([-1, -1, 0]))


@pytest.mark.cpu
@pytest.mark.parametrize("role", ["target", "draft"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("left_out", ["position_ids", "attention_mask"])
def test_a_tree_that_is_placed_wrongly_is_seen_on_real_weights(monkeypatch, role, dtype, left_out):
    """Noise of a real model, and faults that move its logits by little."""
    folder = ROOT / "assets" / "pair" / role
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    assert capabilities.takes_trees(model)
    placed = CachedModel._placed

    def wrongly(self: CachedModel, *tree: Any) -> dict[str, Any]:
        return {k: v for k, v in placed(self, *tree).items() if k != left_out}

    monkeypatch.setattr(CachedModel, "_placed", wrongly)
    assert not capabilities.takes_trees(model)


@pytest.mark.parametrize("never", [float("-inf"), BIG, float("nan"), -300.0])
def test_tokens_that_are_never_chosen_hide_no_fault(never):
    right = torch.randn(3, 400, generator=torch.Generator().manual_seed(1)).half()
    right[:, 300:] = never
    assert tryouts.agree(right.clone(), right, 0.1)
    wrong = right.clone()
    wrong[1, :300] = wrong[1, :300].flip(0)
    assert not tryouts.agree(wrong, right, 0.1)
    wrong = right.clone()
    wrong[2, 350] = 1
    assert not tryouts.agree(wrong, right, 0.1)
    shifted = right + 1  # of which no probability depends
    assert never == BIG or tryouts.agree(shifted, right, 0.1)
    assert tryouts.agree(torch.full((2, 5), never), torch.full((2, 5), never), 1e-3)


@pytest.mark.parametrize("low", [0.0, 1e-6, -1.0])
def test_logits_near_zero_are_no_more_exact_than_others(low):
    right = torch.randn(4, 3000, generator=torch.Generator().manual_seed(1)) + 5
    right[:, ::50] = low
    noise = torch.randn(4, 3000, generator=torch.Generator().manual_seed(2))
    assert tryouts.agree(right + 1e-3 * noise, right, 2e-3)
    assert not tryouts.agree(right + 1e-2 * noise, right, 2e-3)


def test_logits_of_another_dtype_are_as_rounded_as_their_model():
    """Some models raise their logits to float32, which are no more exact for it."""
    model = deep(torch.bfloat16)
    stock = tryouts.rounding(model)
    real = model.forward

    def raised(*inputs: Any, **named: Any) -> Any:
        out = real(*inputs, **named)
        out.logits = out.logits.float()
        return out

    model.forward = raised
    assert tryouts.rounding(model) == stock > 0.03
    capabilities.check_strict(model, "it")


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
