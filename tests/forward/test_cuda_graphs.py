"""Passes over a static cache, and the graphs that replay them, give what the model's pass gives.

On a CPU a stand-in records them; with a GPU (``-k cuda``) they are tried there too.
"""

from __future__ import annotations

import copy
import gc
import weakref
from dataclasses import replace

import pytest
import torch
from decoding import GREEDY, PROMPTS, committed, decode
from graph_standin import Recorder
from tiny_models import make_model
from transformers import AutoModelForCausalLM, MistralConfig, Qwen2Config, Qwen3Config

from stairs_core.forward import cuda_graphs, faster_pass, static_llama
from stairs_core.forward.cached_model import CachedModel
from stairs_core.forward.fitted_draft import Fitted
from stairs_core.forward.static_llama import StaticLlama
from stairs_core.measuring.race import race
from stairs_core.measuring.runner import Runner
from stairs_core.models.load import load_pair
from stairs_core.render import labels
from stairs_core.settings import methods
from stairs_core.settings.settings import BACKENDS, Settings

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=on_a_gpu)]
CHANGES = [{}, {"attention_bias": True, "mlp_bias": True}, {"tie_word_embeddings": True}]
OTHERS = [MistralConfig, Qwen2Config, Qwen3Config]


def with_graphs(model):
    """A copy of a model, with graphs."""
    twin = copy.deepcopy(model)
    cuda_graphs.attach(twin, None if model.device.type == "cuda" else Recorder())
    return twin


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("changes", CHANGES)
def test_the_logits_are_the_models_own(changes: dict, device: str):
    """Over prompts, one token, a few, more than a pass takes, and after tokens were dropped."""
    stock = make_model(layers=3, **changes).to(device)
    ours, theirs = CachedModel(with_graphs(stock)), CachedModel(stock)
    text, other = list(range(3, 303)), [7] * 300
    ways = [(text, end, last) for end, last in ((5, 1), (6, 1), (11, 5), (31, 12), (80, 3))]
    ways += [([*text[:70], *other], end, last) for end, last in ((74, 4), (75, 1), (255, 1))]
    ways += [([*text[:70], *other], end, last) for end, last in ((260, 5), (261, 1), (360, 9))]
    for ids, end, last in ways:
        a, b = (lane.logits([i % 320 for i in ids[:end]], last) for lane in (ours, theirs))
        assert torch.allclose(a, b, atol=1e-4, rtol=1e-4), (end, last)


@pytest.mark.parametrize("device", DEVICES)
def test_a_trees_logits_are_the_models_own(device: str):
    """Whole, grown by some tokens, after the text went on along a branch, and too wide for bits."""
    stock = make_model(layers=3).to(device)
    ours, theirs = CachedModel(with_graphs(stock)), CachedModel(stock)
    text, parents = [*range(3, 43)], [-1, 0, -1, 2, 0, 4]
    tokens = [100 + i for i in range(len(parents))]
    for lane in (ours, theirs):
        lane.read_layers([1, 3])
        lane.logits(text, 1)
    goes_on = [*text, 50, 51]
    branch = [*goes_on, 102, 103]
    wide = [i % 320 for i in range(40)]
    for context, more, follow, last in (
        (text, tokens[:3], parents[:3], 4),
        (text, tokens, parents, 3),  # only those that are new
        (goes_on, tokens, parents, 7),  # with two of the text
        (branch, tokens, parents, 7),  # of which two were in the tree, not side by side
        (branch, wide[:30], [-1] * 30, 31),
        ([*branch, 5], wide[:32], [*range(-1, 31)], 33),
        ([*branch, 5], wide, [*range(-1, 31), *[31] * 8], 8),
    ):
        a, b = (lane.tree(context, more, follow, last) for lane in (ours, theirs))
        assert torch.allclose(a, b, atol=1e-4, rtol=1e-4), (context, last)
        a, b = (lane.hidden(context, [more[0]], len(context) - 1) for lane in (ours, theirs))
        assert a is not None
        assert b is not None
        assert torch.allclose(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", OTHERS)
def test_other_families_logits_are_their_own(kind, device: str):
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "intermediate_size": 64, "head_dim": 8}
    heads = {"num_attention_heads": 6, "num_key_value_heads": 2, "sliding_window": None}
    torch.manual_seed(0)
    stock = AutoModelForCausalLM.from_config(kind(vocab_size=99, **sizes, **heads)).eval()
    for name, weight in stock.named_parameters():
        if "norm" in name or "bias" in name:
            torch.nn.init.normal_(weight, mean=1.0)  # or leaving them out would not be noticed
        else:
            torch.nn.init.normal_(weight, std=0.3)
    stock = stock.to(device)
    assert static_llama.fits(stock)
    ours, theirs = CachedModel(with_graphs(stock)), CachedModel(stock)
    for end, last in ((9, 1), (10, 1), (15, 5)):
        a, b = (lane.logits([*range(end)], last) for lane in (ours, theirs))
        assert torch.allclose(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_the_hidden_states_are_the_models_own(device: str):
    stock = make_model(layers=3).to(device)
    lanes = [CachedModel(with_graphs(stock)), CachedModel(stock)]
    for lane in lanes:
        lane.read_layers([1, 3])
    for end in (6, 7, 12, 10):
        text = [*range(9), *range(end, 9, -1)]
        for lane in lanes:
            lane.logits(text, 1)
        a, b = (lane.hidden(text, [], len(text) - 1) for lane in lanes)
        assert a is not None
        assert b is not None
        assert torch.allclose(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_a_draft_over_another_vocabulary_is_fitted(device: str):
    stock = make_model().to(device)
    ours, theirs = (
        CachedModel(Fitted(model, 330, {*range(7, 300)})) for model in (with_graphs(stock), stock)
    )
    for ids, last in (([8, 9, 325], 1), ([8, 9, 325, 3, 10], 2), ([8, 9, 325, 3, 10, 11], 1)):
        a, b = (lane.logits(ids, last) for lane in (ours, theirs))
        assert a.shape == (last, 330)
        assert a[:, :7].eq(float("-inf")).all()
        assert torch.allclose(a, b, atol=1e-4, rtol=1e-4)
    assert ours._static is not None


@pytest.mark.parametrize("device", DEVICES)
def test_what_follows_a_text_is_a_static_pass_and_nothing_else_is(monkeypatch, device: str):
    """Without this, the others would hold if nothing were replayed at all."""
    passes: list[tuple[int, int, bool]] = []
    run = StaticLlama.__call__

    def noted(self, ids, start, cache, seen, layers=(), tree=None):
        passes.append((len(ids), seen, tree is not None))
        return run(self, ids, start, cache, seen, layers, tree)

    monkeypatch.setattr(StaticLlama, "__call__", noted)
    lane = CachedModel(with_graphs(make_model().to(device)))
    lane.logits([*range(200)], 1)  # a prompt
    lane.stairs([*range(200)], [3], [-1])
    assert passes == []
    lane = CachedModel(with_graphs(make_model().to(device)))
    lane.logits([*range(200)], 1)
    lane.logits([*range(201)], 1)
    lane.logits([*range(207)], 6)
    lane.write([*range(230)], 3, GREEDY)  # 23 of the text, then one and one
    lane.logits([*range(258)], 1)  # 28, and the padding ends beyond 256
    lane.logits([*range(300)], 1)  # 42: more than a pass takes
    lane.tree([*range(300)], [3, 4], [-1, -1], 3)
    lane.tree([*range(301)], [3] * 40, [-1] * 40, 41)  # likewise
    once = [(1, 256, False), (7, 256, False), (33, 256, False), (33, 512, False), (3, 512, True)]
    assert [*dict.fromkeys(passes)] == once
    # Recorded six times, since the cache grew at 230 tokens; each runs twice, on a GPU before and
    # while it is recorded. A replay runs the pass again on a CPU alone: once, of one token.
    assert len(passes) == (13 if device == "cpu" else 12)


@pytest.fixture(scope="module")
def on(tiny_pair_dir):
    """By device: the tiny pair without graphs and with them."""
    found = {}

    def pairs(device: str):
        if device not in found:
            pair = load_pair(str(tiny_pair_dir), device, "float32", "off")
            twins = {name: with_graphs(getattr(pair, name)) for name in ("target", "draft")}
            found[device] = pair, replace(pair, **twins)
        return found[device]

    return pairs


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("drafter", methods.EXACT)
@pytest.mark.parametrize("prompt", PROMPTS[:1])
def test_whoever_drafts_the_text_is_the_targets_own(on, device, drafter, prompt):
    stock, ours = on(device)
    ids = ours.tokenizer.encode(prompt)
    expected = decode(stock, ids, "none", "single_kv", 1, 60, frozenset())
    steps = decode(ours, ids, drafter, "single_kv", 6, 60, frozenset())
    assert committed(steps) == committed(expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("numerics", ["fast", "strict"])
def test_other_ways_to_compute_the_stairs_are_as_before(on, device, backend, numerics):
    if numerics == "strict" and not backend.startswith("single"):
        pytest.skip("strict passes are single ones")
    stock, ours = on(device)
    ids = ours.tokenizer.encode(PROMPTS[0])
    expected, steps = (
        decode(pair, ids, "model", backend, 3, 40, frozenset(), numerics) for pair in (stock, ours)
    )
    assert [(s.accepted, [t.id for t in s.tokens]) for s in steps] == [
        (s.accepted, [t.id for t in s.tokens]) for s in expected
    ]


@pytest.mark.parametrize("device", DEVICES)
def test_a_run_says_what_computed_its_passes(on, device):
    stock, ours = on(device)
    strict, rows = {"numerics": "strict"}, {"backend": "matrix_kv"}
    for pair, settings, passes in (
        (stock, {}, "stock"),
        (ours, {}, "graphs"),
        (ours, strict, "stock"),
        (ours, rows, "stock"),
    ):
        run = Runner(pair, PROMPTS[0], Settings("model", 3, 8, **settings)).recording().run
        assert run.passes == passes
        assert ("CUDA graphs" if passes == "graphs" else "transformers'") in labels.place(run)


def test_a_cache_is_lent_to_one_model_at_a_time_and_lent_again():
    model = with_graphs(make_model())
    text = [*range(20)]
    alone = CachedModel(make_model()).logits(text, 1)
    one, other = CachedModel(model), CachedModel(model)
    for lane in (one, other):
        lane.logits(text[:10], 1)
    other.logits([5] * 12, 2)  # would be seen by the one, were the cache the same
    assert torch.allclose(one.logits(text, 10)[-1:], alone, atol=1e-4)
    assert one._static is not other._static
    first = one._static
    del one, lane
    gc.collect()
    again = CachedModel(model)
    assert torch.allclose(again.logits(text, 1), alone, atol=1e-4)  # nothing is left of the last
    assert again._static is first


@pytest.mark.parametrize("device", DEVICES)
@torch.inference_mode()
def test_what_is_no_number_stays_in_its_own_text(device):
    """A masked value that is NaN makes a sum of it NaN, so a cache is lent again without it."""
    model = with_graphs(make_model().to(device))
    text = [*range(40)]
    lane = CachedModel(model)
    lane.logits(text, 1)
    lane.logits([*text, 1], 1)
    lane._static._buffers.fill_(float("nan"))
    first = lane._static
    del lane
    gc.collect()
    again = CachedModel(model)
    again.logits([1, 2, 3], 1)
    assert again.logits([1, 2, 3, 4], 1).isfinite().all()
    assert again.tree([1, 2, 3, 4], [5, 6], [-1, -1], 3).isfinite().all()
    assert again._static is first


@pytest.mark.parametrize("device", DEVICES)
def test_a_chain_wider_than_was_recorded_is_read_in_parts(device):
    """What a draft missed while others guessed: nothing is recorded for it on the clock."""
    stock = make_model(layers=3).to(device)
    ours, theirs = CachedModel(with_graphs(stock)), CachedModel(stock)
    text = [i % 320 for i in range(60)]
    for lane in (ours, theirs):
        lane.read_layers([1, 3])
    with cuda_graphs.ahead(cuda_graphs.Run(1, 100, 3, trees=False)):
        ours.logits(text[:8], 1)
    theirs.logits(text[:8], 1)
    for end, last in ((20, 1), (31, 11)):
        a, b = (lane.logits(text[:end], last) for lane in (ours, theirs))
        assert torch.allclose(a, b, atol=1e-4, rtol=1e-4)
        a, b = (lane.hidden(text[:end], [], end - last) for lane in (ours, theirs))
        assert a is not None
        assert b is not None
        assert torch.allclose(a, b, atol=1e-4, rtol=1e-4)
    assert {key[0] for key in ours._static._recorded} == {1, 2, 3}


def test_views_and_other_families_run_as_before():
    model = with_graphs(make_model(layers=4))
    assert cuda_graphs.of(model) is not None
    assert cuda_graphs.of(copy.copy(model)) is None
    assert cuda_graphs.of(object()) is None
    assert not cuda_graphs.fits(make_model().cpu())
    cuda_graphs.detach(model)
    assert cuda_graphs.of(model) is None


def test_a_model_that_is_let_go_takes_its_graphs_with_it():
    model = with_graphs(make_model())
    fitted, gone = Fitted(model, 330, range(320)), weakref.ref(model)
    for lane in (CachedModel(model), CachedModel(fitted)):
        lane.logits([1, 2, 3], 1)
        lane.logits([1, 2, 3, 4], 1)
    of = weakref.ref(cuda_graphs.of(fitted))
    del lane, fitted, model
    gc.collect()
    assert gone() is None
    assert of() is None


def test_weights_are_in_memory_once():
    model = with_graphs(make_model())
    attention = model.model.layers[0].self_attn
    parts = [attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]
    assert len({part.untyped_storage().data_ptr() for part in parts}) == 1


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("drafter", "k"),
    [("model", 4), ("lookup", 12), ("tree", 9), ("eagle-tree", 16), ("lookahead", 9), ("space", 2)]
    + [("hybrid", 3), ("hybrid-eagle", 3), ("hybrid-eagle-tree", 5)],
)
def test_a_race_records_nothing_on_its_clock(on, monkeypatch, device, drafter, k):
    _, pair = on(device)
    settings = [Settings(drafter=d, k=k, max_new_tokens=40) for d in ("none", drafter)]
    runners = [Runner(pair, " ".join([PROMPTS[0]] * 23), s) for s in settings]
    assert 195 < len(runners[0].prompt_ids) < 215  # its passes read more than one length of cache
    events, recorded = race(runners), []
    for _ in runners:
        next(events)  # their warm-ups are over
    kind = cuda_graphs.Recorder if device == "cuda" else Recorder
    record = kind.record

    def noted(self, run):
        recorded.append(run)
        return record(self, run)

    monkeypatch.setattr(kind, "record", noted)
    list(events)
    assert recorded == []
    texts = [runner.recording().new_ids for runner in runners]
    assert texts[0] == texts[1]


def test_a_run_is_given_the_cache_of_its_own_warm_up(on):
    """Which of a race's lanes starts first must not matter: each has recorded what it needs."""
    _, pair = on("cpu")
    runners = [Runner(pair, PROMPTS[0], Settings("none", max_new_tokens=n)) for n in (9, 200)]
    for runner in runners:
        runner.warm_up()
    lent = []
    for runner in runners:
        assert runner._parts is not None
        lent.append(runner._parts[0]._model._static)
    assert lent[0] is not lent[1]
    for runner, cache in zip(runners, lent, strict=True):
        steps = runner.decode()
        next(steps)
        assert runner._parts[0]._model._static is cache
        steps.close()
        assert runner._parts is None


@on_a_gpu
def test_a_model_on_a_gpu_is_given_graphs():
    model = make_model().to("cuda", torch.bfloat16)
    assert faster_pass.build(model, "off", make_model) is model
    assert cuda_graphs.of(model) is None
    assert faster_pass.build(model, "auto", make_model) is model
    assert cuda_graphs.of(model) is not None
