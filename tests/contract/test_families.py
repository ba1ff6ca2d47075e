"""The text is the target's own in every family there is a model of, or the family is refused."""

from __future__ import annotations

import re
from dataclasses import replace

import families
import pytest
import torch
import transformers
from tiny_models import make_tokenizer

from stairs_core.errors import InputError
from stairs_core.forward import capabilities, packed_linear
from stairs_core.measuring.runner import Runner
from stairs_core.models.load import load_pair
from stairs_core.settings.settings import BACKENDS, Settings

PROMPT, NEW = "Once upon a time", 16
FAR = 50
DRAFTERS = ("none", "model", "lookup", "tree")
MORE = [*families.MORE, *families.MORE_TWO_SIDED]
NO_TREES = {"Bloom", "Mpt", "Falcon", "GPTNeo", *families.TWO_SIDED, *families.MORE_TWO_SIDED}
"""Their tokens' places are told by more than positions and masks: ALiBi, own windows or counts."""
REFUSED = {
    "ProphetNet": "cannot read several tokens in one pass over its cache",
    "OpenAIGPT": "keeps no KV cache",
    "XLNet": "keeps no KV cache",
    "Bert": "lets each token of a pass see those after it",
    "FSMT": "lets each token of a pass see those after it",
    "DeepseekV32": "does not run over a plain cache of keys and values",
    "Lfm2Moe": "does not run over a plain cache of keys and values",
}
STATES = {
    "Mamba": {"num_hidden_layers": 1},
    "Mamba2": {"num_hidden_layers": 1, "num_heads": 4, "head_dim": 8, "n_groups": 1},
    "RecurrentGemma": {"num_hidden_layers": 3, "num_attention_heads": 2, "lru_width": 16},
}


def load(name: str, folder, **changes):
    pair = load_pair(families.save(name, folder, **changes), "cpu", "float32", "off")
    return replace(pair, eos_ids=frozenset())


def plain(pair, new: int) -> list[int]:
    """transformers' own greedy decoding of the target."""
    ids = torch.tensor([pair.tokenizer.encode(PROMPT)])
    out = pair.target.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        num_beams=1,
        max_new_tokens=new,
        eos_token_id=None,
        pad_token_id=0,
    )
    return out[0, -new:].tolist()


@pytest.mark.parametrize("name", [*families.DECODERS, *families.TWO_SIDED])
def test_the_text_is_the_targets_own(name, tmp_path):
    pair = load(name, tmp_path)
    text = plain(pair, NEW)
    assert len(set(text)) > NEW // 4
    for drafter in ("none", "model", "lookup", "tree"):
        for backend in BACKENDS:
            settings = Settings(drafter, 5, NEW, backend)
            if drafter == "tree" and backend.startswith("single") and name in families.TWO_SIDED:
                with pytest.raises(InputError, match=f"{name.lower()}.* does not take the masks"):
                    Runner(pair, PROMPT, settings)
                continue
            steps = list(Runner(pair, PROMPT, settings).decode())
            assert [t.id for s in steps for t in s.committed] == text, (drafter, backend)
            if drafter in ("model", "tree"):
                assert 0 < sum(s.accepted for s in steps) < sum(len(s.drafted) for s in steps)


PACKED = [*families.DECODERS, *families.TWO_SIDED, "HunYuanMoEV1", "LongcatFlash"]


@pytest.mark.cpu
@pytest.mark.parametrize("name", PACKED)
def test_packed_weights_write_the_same_text(name, tmp_path, monkeypatch):
    stock = load(name, tmp_path)
    monkeypatch.setattr(packed_linear, "pays", lambda _: torch.backends.mkldnn.is_available())
    pair = replace(load_pair(str(tmp_path), "cpu", "float32", "auto"), eos_ids=frozenset())
    steps = Runner(pair, PROMPT, Settings("model", 5, NEW)).decode()
    assert [t.id for s in steps for t in s.committed] == plain(stock, NEW)


def agrees(pair, drafter: str, backend: str, text: list[int], numerics: str = "fast") -> None:
    settings = Settings(drafter, 5, len(text), backend, numerics=numerics)
    runner = Runner(pair, PROMPT, settings)
    steps = list(runner.decode())
    assert [t.id for s in steps for t in s.committed] == text, settings
    assert runner.recording().stop.reason == "length"
    if drafter == "model":
        assert 0 < sum(s.accepted for s in steps) < sum(len(s.drafted) for s in steps)


@pytest.mark.parametrize("name", MORE)
def test_more_architectures_write_the_targets_own_text(name, tmp_path, request):
    """All drafters, each by another way to check (all ways under ``--slow``), past every window."""
    families.require(name)
    pair = load(name, tmp_path)
    text, turn = plain(pair, FAR), MORE.index(name)
    assert len(set(text)) > 4
    for place, drafter in enumerate(DRAFTERS):
        ways = BACKENDS if request.config.getoption("--slow") else [BACKENDS[(turn + place) % 4]]
        for backend in ways:
            if drafter == "tree" and backend.startswith("single") and name in NO_TREES:
                with pytest.raises(
                    InputError, match="does not take the masks and positions that a"
                ):
                    Runner(pair, PROMPT, Settings("tree", 5, FAR, backend))
            else:
                agrees(pair, drafter, backend, text)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*families.DECODERS, *MORE])
def test_half_precision_changes_no_verdict(name):
    """What a model can do is the same in every dtype: rounding neither hides a fault nor is one."""
    families.require(name)
    verdicts = set()
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        model = families.make(name).to(dtype)
        capabilities.check_model(model, name)
        verdicts.add(capabilities.takes_trees(model))
    assert len(verdicts) == 1


def test_a_strict_pass_that_fails_is_refused_with_a_sentence(tmp_path):
    """Falcon's own code fails on masks for each token."""
    families.require("Falcon")
    pair = load("Falcon", tmp_path)
    with pytest.raises(InputError, match="does not take the masks that strict numerics needs"):
        pair.require_strict()


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_strict_numerics_write_it_too_or_are_refused(name, tmp_path):
    families.require(name)
    pair = load(name, tmp_path)
    refused = ""
    try:
        pair.require_strict()
    except InputError as e:
        refused = str(e)
    if refused:
        assert re.search("not take the masks|rounds differently|counts its decoder's", refused)
    else:
        agrees(pair, "model", "single_kv", plain(pair, FAR), "strict")


@pytest.mark.parametrize("name", ["Mixtral", "Qwen3Moe", "DeepseekV3", "GptOss"])
@pytest.mark.parametrize("compile", ["auto", "off"])
def test_experts_keep_to_strict_numerics(name, compile, tmp_path):
    """And a fast run after it computes them as before."""
    load(name, tmp_path)
    pair = replace(load_pair(str(tmp_path), "cpu", "float32", compile), eos_ids=frozenset())
    before = pair.target.config._experts_implementation
    pair.require_strict()
    text = []
    for drafter in ("none", "model"):
        steps = Runner(pair, PROMPT, Settings(drafter, 5, NEW, numerics="strict")).decode()
        text.append([t.id for s in steps for t in s.committed])
    assert text[0] == text[1]
    assert pair.target.config._experts_implementation == before


def test_experts_losses_of_training_are_left_out(tmp_path):
    """Computed over the mask of a tree, they would fail."""
    pair = load("Qwen3Moe", tmp_path, output_router_logits=True)
    pair.require_trees()
    agrees(pair, "tree", "single_kv", plain(pair, NEW))


def test_where_a_text_model_is_one_part_of_a_model_its_layers_are_found(tmp_path):
    """Also where the part that sees has as many."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4}
    sizes |= {"num_attention_heads": 4}
    vision = {**sizes, "image_size": 28, "patch_size": 14}
    text = {**sizes, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 320}
    config = transformers.Gemma3Config(text_config=text, vision_config=vision)
    transformers.Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    load_pair(str(tmp_path), "cpu", "float32", "off").require_skipping()


def test_a_kind_without_a_text_model_is_refused(tmp_path):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**sizes),
        text_config=transformers.LlamaConfig(**sizes),
    )
    transformers.LlavaForConditionalGeneration(config).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"of a kind \(llava\) .* choose a model that reads and"):
        load_pair(str(tmp_path), "cpu", "float32", "off")


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_check_guesses_is_refused_and_says_why(name, tmp_path):
    families.require(name)
    model = families.make(name)
    model.save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    kind = model.config.model_type
    with pytest.raises(InputError, match=rf"\({kind}\) {REFUSED[name]}.*: choose a"):
        load_pair(str(tmp_path), "cpu", "float32", "off")


@pytest.mark.parametrize("name", STATES)
def test_models_whose_state_cannot_be_rolled_back_are_refused(name, tmp_path):
    sizes = {"vocab_size": 320, "hidden_size": 16, **STATES[name]}
    config = getattr(transformers, f"{name}Config")(**sizes)
    getattr(transformers, f"{name}ForCausalLM")(config).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(InputError, match=rf"\({config.model_type}\) keeps a state that cannot be"):
        load_pair(str(tmp_path), "cpu")
