"""The hidden states that drafters are handed are those of a plain pass over the whole text."""

from __future__ import annotations

import pytest
import torch

from stairs_core import drafters
from stairs_core.decoding import draft_lengths, samplers, verify
from stairs_core.decoding.clock import Clock
from stairs_core.decoding.engine import Limits, generate
from stairs_core.decoding.recorder import Recorder
from stairs_core.drafters import DrafterInputs
from stairs_core.forward import hidden_states
from stairs_core.forward.cached_model import CachedModel
from stairs_core.forward.lean_llama import LeanLlama
from stairs_core.settings.settings import BACKENDS

LAYERS = (1, 3, 4)
GREEDY = samplers.Greedy(samplers.Processors())
WAYS = [(b, "fast") for b in BACKENDS] + [("single_kv", "strict"), ("single", "strict")]


class Reader:
    """Another drafter, which also keeps the hidden states that it is handed."""

    reads_layers = LAYERS

    def __init__(self, inner) -> None:
        self._inner = inner
        self.handed: list[torch.Tensor] = []

    def propose(self, context, k):
        return self._inner.propose(context, k)

    def observe(self, outcome):
        self._inner.observe(outcome)
        if self.handed:  # the token that was pending, and all that was committed but the last
            assert len(outcome.hidden) == len(outcome.committed)
        self.handed.append(outcome.hidden.clone())


def run(pair, ids, drafter: str, backend: str, numerics: str = "fast", target=None):
    """(text, what was handed over, target) of one greedy run of 30 tokens."""
    policy = draft_lengths.build("constant", 4)
    reader = Reader(drafters.build(drafter, DrafterInputs(pair, policy, GREEDY)))
    target = target or verify.build(backend, pair.target, numerics)
    parts = (Recorder(pair.speller, ids), Clock(pair.device), Limits(len(ids) + 30, "length"))
    steps = generate(ids, target, reader, GREEDY, *parts, policy)
    text = ids + [t.id for s in steps for t in s.committed]
    return text, torch.cat(reader.handed), target


def plainly(model, text: list[int]) -> torch.Tensor:
    """[tokens, layers, width] of a stock model: hidden states of the whole text but its last
    token. The last layer's are taken before the final norm, as ``output_hidden_states`` does not.
    """
    seen = []
    hook = model.model.norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        out = model(torch.tensor([text[:-1]]), output_hidden_states=True)
    hook.remove()
    found = [*out.hidden_states[:-1], seen[0]]
    return torch.stack([found[layer][0] for layer in LAYERS], 1)


@pytest.mark.parametrize(("backend", "numerics"), WAYS)
@pytest.mark.parametrize("drafter", ["none", "model", "tree"])
@pytest.mark.parametrize("lean", [False, True], ids=["stock", "lean"])
def test_they_are_those_of_a_plain_pass(tiny_pair, lean_pair, drafter, backend, numerics, lean):
    if drafter == "tree" and numerics == "strict":
        pytest.skip("trees are not for strict numerics")
    pair = lean_pair if lean else tiny_pair
    ids = pair.tokenizer.encode("Once upon a time")
    text, handed, target = run(pair, ids, drafter, backend, numerics)
    expected = plainly(tiny_pair.target, text)
    assert handed.shape == expected.shape
    torch.testing.assert_close(handed, expected, atol=2e-4, rtol=1e-4)
    again, handed, _ = run(pair, ids, drafter, backend, numerics, target)
    assert again == text
    torch.testing.assert_close(handed, expected, atol=2e-4, rtol=1e-4)


def test_nothing_is_kept_for_a_drafter_that_reads_no_layer(tiny_pair, monkeypatch):
    def never(*_):
        raise AssertionError

    monkeypatch.setattr(hidden_states, "decoder_layers", never)
    cached = CachedModel(tiny_pair.target)
    cached.logits([1, 2, 3], 1)
    assert cached.hidden([1, 2], [3], 0) is None
    assert cached._states._rows is None


def test_the_models_ends_give_its_logits(tiny_pair):
    ids = [1, 2, 3, 4]
    for model in (tiny_pair.target, LeanLlama(tiny_pair.target)):
        cached = CachedModel(model)
        cached.read_layers((4,))
        logits = cached.logits(ids, 4)
        states = cached.hidden(ids, [], 0)
        with torch.inference_mode():
            again = hidden_states.output_layer(model)(states[:, 0])
        torch.testing.assert_close(again, logits, atol=1e-4, rtol=1e-4)
        assert torch.equal(
            hidden_states.embedding(model), tiny_pair.target.model.embed_tokens.weight
        )


@pytest.mark.cpu
def test_a_fingerprint_tells_weights_apart_and_not_dtypes(tiny_pair):
    import copy

    model = copy.deepcopy(tiny_pair.target)
    del model.weights_fingerprint
    own = hidden_states.fingerprint(model)
    assert own == hidden_states.fingerprint(LeanLlama(tiny_pair.target))
    other = copy.deepcopy(model).bfloat16()
    del other.weights_fingerprint
    assert hidden_states.fingerprint(other) == own
    with torch.no_grad():
        other.model.layers[2].mlp.up_proj.weight.mul_(1.1)
    del other.weights_fingerprint
    assert hidden_states.fingerprint(other) != own
