"""Packed weights change how a product is computed, not what comes out."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_models import make_model
from transformers import GPT2Config, GPT2LMHeadModel

from stairs_core.forward import faster_pass, lean_llama, packed_linear
from stairs_core.forward.cached_model import CachedModel

pytestmark = pytest.mark.cpu


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch):
    """Tiny matrices may not gain; what is computed has to be right all the same."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(packed_linear, "_pays", lambda *_: True)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("changes", [{}, {"attention_bias": True}, {"tie_word_embeddings": True}])
def test_the_logits_are_the_stock_models(changes: dict):
    stock = make_model(**changes)
    model = copy.deepcopy(stock)
    assert packed_linear.pack(model) == 15
    assert not [m for m in model.modules() if type(m) is torch.nn.Linear]
    for rows in (1, 2, 6, 33):
        ids = torch.arange(rows)[None]
        with torch.inference_mode():
            ours, theirs = model(input_ids=ids).logits, stock(input_ids=ids).logits
        assert torch.allclose(ours, theirs, atol=1e-4, rtol=1e-4)
        assert torch.equal(ours.argmax(-1), theirs.argmax(-1))


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("changes", [{}, {"attention_bias": True}, {"rms_norm_eps": 1e-3}])
def test_our_own_forward_pass_gives_the_stock_models_logits(changes: dict):
    """Without a cache, over one, in a batch, and where positions and masks are given."""
    stock = make_model(**changes)
    assert lean_llama.fits(stock)
    ours = lean_llama.LeanLlama(stock)
    ids = torch.arange(40).view(2, 20)
    with torch.inference_mode():
        assert torch.allclose(ours(ids).logits, stock(ids).logits, atol=1e-4, rtol=1e-4)
    text = ids[0].tolist()
    for strict in (False, True):
        lanes = [CachedModel(model, strict=strict) for model in (ours, stock)]
        for end in (9, 10, 14, 20):
            one, other = (lane.logits(text[:end], min(end, 5)) for lane in lanes)
            assert torch.allclose(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("said", "taken"), [([True], True), ([False, True], True), ([False] * 3, False)]
)
def test_one_measurement_in_a_busy_moment_does_not_decide(monkeypatch, said, taken):
    measured = iter(said)
    monkeypatch.setattr(packed_linear, "_faster", lambda *_: next(measured))
    found = packed_linear._pays.__wrapped__(64, 32, 2)  # not what it said before
    assert found is taken
    assert list(measured) == []


@pytest.mark.usefixtures("always")
def test_a_model_is_made_faster_only_where_that_is_known_to_be_right(monkeypatch):
    lean = faster_pass.build(make_model(), "auto", make_model)
    assert isinstance(lean, lean_llama.LeanLlama)
    assert faster_pass.kind(lean) == "lean"
    assert type(faster_pass.build(make_model(), "off", make_model)) is type(make_model())
    gpt = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=320)).eval()
    assert faster_pass.build(gpt, "auto", never) is gpt
    odd = make_model(hidden_act="gelu")
    assert faster_pass.build(odd, "auto", never) is odd
    assert isinstance(odd.lm_head, packed_linear.PackedLinear)
    half = make_model().bfloat16()
    assert faster_pass.build(half, "auto", never) is half
    assert type(half.lm_head) is torch.nn.Linear
    assert [faster_pass.kind(model) for model in (odd, half)] == ["packed", "stock"]
    monkeypatch.setattr(packed_linear, "_pays", lambda *_: False)
    slow = make_model()
    assert faster_pass.build(slow, "auto", never) is slow
    assert type(slow.lm_head) is torch.nn.Linear


def wrong(self, x, *_, **__):
    return x.new_zeros(*x.shape[:-1], self.out_features)


def read(self, *_, **__):
    return self.weight.dtype


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("forward", [wrong, read])
@pytest.mark.parametrize("act", ["silu", "gelu"])
def test_a_model_that_is_another_when_it_is_packed_stays_as_it_was(monkeypatch, forward, act):
    monkeypatch.setattr(packed_linear.PackedLinear, "forward", forward)
    before = CachedModel(make_model(hidden_act=act)).logits([1, 2, 3], 1)
    stayed = faster_pass.build(
        make_model(hidden_act=act), "auto", lambda: make_model(hidden_act=act)
    )
    assert torch.equal(CachedModel(stayed).logits([1, 2, 3], 1), before)


def never():
    raise AssertionError("it has not been used up")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's own, of itself
def test_a_compiled_model_gives_the_same_logits():
    stock = make_model()
    compiled = faster_pass.build(copy.deepcopy(stock), "on", never)
    assert [faster_pass.kind(model) for model in (compiled, stock)] == ["compiled", "stock"]
    one, other = CachedModel(compiled), CachedModel(stock)
    for end in (9, 10, 14, 20):
        a, b = (lane.logits(list(range(end)), 3) for lane in (one, other))
        assert torch.allclose(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("always")
def test_passes_of_all_lengths_need_few_kernels(monkeypatch):
    """Else every length of a prompt leaves megabytes behind for good."""
    linear = torch.nn.Linear(24, 40)
    layer = packed_linear.PackedLinear(linear)
    met: set[int] = set()
    for name in ("_unary", "_binary"):
        own = getattr(layer, name)
        monkeypatch.setattr(layer, name, lambda x, *o, own=own: met.add(len(x)) or own(x, *o))
    with torch.inference_mode():
        for rows in range(17, 600):
            layer(torch.zeros(rows, 24))
        for shape in ((1, 37), (3, 50), (2, 3, 9)):
            x, other = torch.randn(*shape, 24), torch.randn(*shape, 40)
            plain = linear(x)
            for ours, theirs in (
                (layer(x), plain),
                (layer(x, add=other), plain + other),
                (layer(x, times=other), plain * other),
                (layer(x, "relu"), plain.relu()),
            ):
                assert ours.shape == theirs.shape
                assert torch.allclose(ours, theirs, atol=1e-5)
    assert len(met) <= 12
