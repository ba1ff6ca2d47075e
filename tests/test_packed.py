"""Packed weights change how a product is computed, not what comes out."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import make_model

from stairs_core import packed


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch):
    """Tiny matrices may not gain; what is computed has to be right all the same."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(packed, "_pays", lambda linear: True)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("changes", [{}, {"attention_bias": True}, {"tie_word_embeddings": True}])
def test_the_logits_are_the_stock_models(changes: dict):
    stock = make_model(**changes)
    model = copy.deepcopy(stock)
    assert packed.pack(model) == 15
    assert not [m for m in model.modules() if type(m) is torch.nn.Linear]
    for rows in (1, 2, 6, 33):
        ids = torch.arange(rows)[None]
        with torch.inference_mode():
            ours, theirs = model(input_ids=ids).logits, stock(input_ids=ids).logits
        assert torch.allclose(ours, theirs, atol=1e-4, rtol=1e-4)
        assert torch.equal(ours.argmax(-1), theirs.argmax(-1))


@pytest.mark.usefixtures("always")
def test_other_dtypes_are_left_alone():
    assert packed.pack(make_model().bfloat16()) == 0


def test_nothing_is_packed_where_it_does_not_pay(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packed, "_pays", lambda linear: False)
    model = make_model()
    assert packed.pack(model) == 0
    assert [m for m in model.modules() if type(m) is torch.nn.Linear]
