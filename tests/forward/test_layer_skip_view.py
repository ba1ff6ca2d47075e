"""Models without some of their sublayers: what such a view says, and how the best is found."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from decoding import build, committed, decode, plain
from elsewhere import placed
from tiny_models import make_model, save_pair
from transformers import AutoConfig, AutoModelForCausalLM, T5Config, T5ForConditionalGeneration

from stairs_core.decoding import draft_lengths
from stairs_core.drafters.layer_skip import Search
from stairs_core.errors import InputError
from stairs_core.forward.cached_model import CachedModel
from stairs_core.forward.capabilities import check_skipping
from stairs_core.forward.encoder_decoder import bind
from stairs_core.forward.layer_skip_view import skip
from stairs_core.forward.lean_llama import LeanLlama
from stairs_core.models.load import load_pair
from stairs_core.traces.metrics import fold

HEADS = {"head_dim": 8}
FAMILIES = {
    "llama": {},
    "mistral": {},
    "qwen2": {},
    "qwen3": HEADS,
    "gemma2": HEADS,
    "gemma3_text": HEADS,
    "gpt2": {"n_inner": 64},
    "gpt_neox": {},
    "phi3": {},
    "granite": {},
    "smollm3": {},
    "mixtral": HEADS,
}
IDS = [*range(12)]
ATTENTIONS, MLPS = {1, 2}, {2, 3}
LEFT_OUT = [
    *([str(i), name] for i in ATTENTIONS for name in ("self_attn", "attention", "attn")),
    *([str(i), "mlp"] for i in MLPS),
]


def tiny(family: str, **changes):
    config = AutoConfig.for_model(
        family,
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=1,
        eos_token_id=0,
        pad_token_id=None,
        **changes,
    )
    torch.manual_seed(0)
    return placed(AutoModelForCausalLM.from_config(config)).eval()


def nothing(module, inputs, output):
    """A forward hook under which a sublayer adds nothing."""
    return (output[0] * 0, *output[1:]) if type(output) is tuple else output * 0


def zeroed(model) -> torch.Tensor:
    """[12, vocabulary]: logits of the whole model, of which some sublayers add nothing."""
    hooks = [
        module.register_forward_hook(nothing)
        for name, module in model.named_modules()
        if name.split(".")[-2:] in LEFT_OUT
    ]
    assert len(hooks) == len(ATTENTIONS) + len(MLPS)
    out = CachedModel(model, cached=False).logits(IDS, len(IDS))
    for hook in hooks:
        hook.remove()
    return out


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_view_is_the_model_whose_sublayers_add_nothing(family):
    model = tiny(family, **FAMILIES[family])
    check_skipping(model, family)
    before = CachedModel(model).logits(IDS, len(IDS))
    view = skip(model, ATTENTIONS, MLPS)
    said = CachedModel(view, cached=False).logits(IDS, len(IDS))
    assert close(said, zeroed(model))
    assert not close(said, before)
    assert torch.equal(CachedModel(skip(model, (), ())).logits(IDS, len(IDS)), before)
    assert torch.equal(CachedModel(model).logits(IDS, len(IDS)), before)
    assert {id(p) for p in view.parameters()} < {id(p) for p in model.parameters()}


@pytest.mark.parametrize("lean", [False, True])
def test_a_view_decodes_over_a_cache(lean):
    """Of which some layers are never written: with rejected tokens, rows and trees."""
    model = make_model(layers=5)
    whole = LeanLlama(model) if lean else model
    view = skip(whole, ATTENTIONS, MLPS)
    ids = [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
    said = CachedModel(view, cached=False).logits(ids, len(ids))
    other = CachedModel(skip(model, ATTENTIONS, MLPS), cached=False).logits(ids, len(ids))
    assert torch.allclose(said, other, atol=1e-3)
    lane = CachedModel(view)
    lane.logits([*ids[:6], 1, 2], 1)
    assert torch.allclose(lane.logits(ids[:8], 2), said[6:8], atol=1e-3)
    assert torch.allclose(lane.stairs(ids[:8], ids[8:10], [-1, 0]), said[7:10], atol=1e-3)
    tree = lane.tree(ids[:10], [1, *ids[10:]], [-1, -1, 1], 4)
    assert torch.allclose(tree[[0, 2, 3]], said[9:], atol=1e-3)
    assert torch.allclose(lane.logits(ids, 1), said[-1:], atol=1e-3)
    untouched = CachedModel(skip(whole, (), ())).logits(ids, 3)
    assert torch.equal(CachedModel(whole).logits(ids, 3), untouched)


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 32}, "opt have no attention and MLP"),
        ("bloom", {}, "bloom. does not run without its inner"),
    ],
)
def test_what_has_no_such_parts_is_refused(family, changes, words):
    with pytest.raises(InputError, match=words):
        check_skipping(tiny(family, **changes), "tiny")


def test_a_model_with_another_forward_is_refused():
    """A copy's would still be bound to the original, and skip nothing."""
    model = make_model(layers=4)
    model.model.forward = model.model.forward
    with pytest.raises(InputError, match="compiled or spread model: use --compile auto"):
        check_skipping(model, "tiny")


def test_an_encoder_decoder_model_is_refused():
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 3, "num_heads": 4}
    config = T5Config(vocab_size=64, decoder_start_token_id=0, **sizes)
    with pytest.raises(InputError, match="is an encoder-decoder model, of which nothing"):
        check_skipping(bind(T5ForConditionalGeneration(config).eval(), IDS), "tiny")


def test_a_model_of_two_layers_is_refused(looping):
    with pytest.raises(InputError, match="no layer between its first and its last"):
        build("layer-skip", looping, draft_lengths.build("constant", 3))


FREE = frozenset({(1, "MLP"), (3, "attention"), (4, "MLP")})


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A target of six layers, three of whose sublayers add nothing."""
    target = make_model(layers=6)
    for layer, part in FREE:
        parts = target.model.layers[layer]
        out = parts.mlp.down_proj if part == "MLP" else parts.self_attn.o_proj
        torch.nn.init.zeros_(out.weight)
    pair = load_pair(
        str(save_pair(tmp_path_factory.mktemp("planted"), target, make_model(layers=1))),
        "cpu",
        "float32",
        "off",
    )
    return replace(pair, eos_ids=frozenset())


def test_the_search_finds_what_can_be_spared(planted):
    text = plain(planted, [1, 2, 3], 60, frozenset())
    search = Search(planted.target)
    while not search.done:
        search.step([1, 2, 3, *text])
    assert search.best == FREE


def test_what_is_found_is_drafted_with(planted):
    ids = planted.tokenizer.encode("Once upon a time")
    pair = replace(planted, target=LeanLlama(planted.target))
    steps = decode(pair, ids, "layer-skip", "single_kv", 3, 230, frozenset())
    assert committed(steps) == plain(planted, ids, 230, frozenset())
    assert fold(steps[:6]).alpha < 0.9
    assert fold(steps[-6:]).alpha == 1.0
