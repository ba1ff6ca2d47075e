"""What a token sees and where it stands: past windows, past what rotary angles were made for."""

from __future__ import annotations

from dataclasses import replace

import elsewhere
import families
import pytest
import torch
from tiny_models import make_model, make_tokenizer, perturb, save_pair
from transformers import (
    EncoderDecoderConfig,
    EncoderDecoderModel,
    RobertaConfig,
    RobertaForCausalLM,
)

from stairs_core.errors import InputError
from stairs_core.forward.cached_model import CachedModel
from stairs_core.forward.capabilities import takes_trees
from stairs_core.forward.lean_llama import LeanLlama
from stairs_core.integration import custom_generate
from stairs_core.measuring import same_text
from stairs_core.measuring.race import race
from stairs_core.measuring.runner import Runner
from stairs_core.models.load import load_pair
from stairs_core.settings.settings import BACKENDS, Settings

PROMPT = "Once upon a time"
LONG = PROMPT + " there was a small fox who had a key. The fox ran to the river and sang"
NEW = 50
WAYS = [(b, "fast") for b in BACKENDS] + [("single_kv", "strict"), ("single", "strict")]
FEW = [("single_kv", "fast"), ("matrix_kv", "fast"), ("single_kv", "strict")]
FACTORS = {"short_factor": [1.0] * 4, "long_factor": [8.0] * 4}
LONGROPE = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 24}
ROPES = {
    "longrope": {"rope_parameters": {**LONGROPE, **FACTORS}},
    "dynamic": {
        "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0},
        "max_position_embeddings": 32,
    },
}


def load(name: str, folder, **changes):
    model = families.make(name, **{**families.WINDOWED.get(name, {}), **changes})
    save_pair(folder, model, perturb(model))
    return replace(load_pair(str(folder), "cpu", "float32", "off"), eos_ids=frozenset())


def plain(pair, prompt: str, new: int, use_cache: bool = True) -> list[int]:
    """transformers' own greedy decoding of the target."""
    ids = torch.tensor([pair.tokenizer.encode(prompt)])
    mask = torch.ones_like(ids)
    given = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0, "use_cache": use_cache}
    out = pair.target.generate(ids, attention_mask=mask, max_new_tokens=new, **given)
    return out[0, ids.shape[1] :].tolist()


def decode(pair, prompt: str, new: int, drafter: str, way: tuple[str, str], k: int = 5):
    runner = Runner(pair, prompt, Settings(drafter, k, new, way[0], numerics=way[1]))
    return [t.id for step in runner.decode() for t in step.committed]


def agree(pair, prompt: str, new: int, ways=FEW, use_cache: bool = True) -> list[str]:
    """The ways to decode that are refused; all others must write what ``generate`` writes."""
    text, refused = plain(pair, prompt, new, use_cache), []
    assert len(set(text)) > new // 5
    for drafter in ("model", "tree"):
        for way in ways:
            if drafter == "tree" and way[1] == "strict":
                continue
            try:
                assert decode(pair, prompt, new, drafter, way) == text, (drafter, way)
            except InputError as e:
                refused.append(f"{drafter} {way}: {e}")
    return refused


# One of a kind; the others are like Mistral or Gemma 3 in this.
KINDS = ("Mistral", "Gemma3", "Qwen2", "GptOss", "Llama4", "GPTNeo")
EVERY = [n if n in KINDS else pytest.param(n, marks=pytest.mark.slow) for n in families.WINDOWED]


@pytest.mark.parametrize("name", EVERY)
def test_the_text_goes_on_far_past_a_window(name, tmp_path):
    pair = load(name, tmp_path)
    refused = agree(pair, PROMPT, NEW, WAYS if name in ("Gemma3", "Mistral") else FEW)
    if name == "GPTNeo":  # its own window counts places in the cache: refused, and for this reason
        assert len(refused) == 2
        assert all("does not take the masks" in reason for reason in refused)
    elif name != "GptOss" or elsewhere.DEVICE == "cpu":
        assert not refused


@pytest.mark.parametrize("name", ["Gemma3", "Llama4"])
def test_a_prompt_may_be_longer_than_the_window(name, tmp_path):
    assert not agree(load(name, tmp_path), LONG, 30)


def test_a_token_of_a_tree_has_its_window_at_its_depth(tmp_path):
    """Wide trees: many places in the cache, at the same position."""
    pair = load("Mistral", tmp_path, sliding_window=6)
    text = plain(pair, PROMPT, 40)
    for backend in BACKENDS:
        assert decode(pair, PROMPT, 40, "tree", (backend, "fast"), k=16) == text


def test_layers_may_be_skipped_and_looked_ahead_past_a_window(tmp_path):
    pair = load("Gemma3", tmp_path, num_hidden_layers=4)
    text = plain(pair, PROMPT, 60)
    for drafter in ("layer-skip", "lookahead", "jacobi", "recycle", "hybrid"):
        assert decode(pair, PROMPT, 60, drafter, ("single_kv", "fast")) == text, drafter


def test_a_model_whose_own_window_counts_places_is_found_by_its_try_out(tmp_path):
    """However wide the window: the try-out stands past it, at the price of a few tokens."""
    for window in (16, 150):
        model = families.make("GPTNeo", window_size=window)
        assert not takes_trees(model)
    wide = families.make("GPTNeo", attention_types=[[["global"], 2]])
    assert takes_trees(wide)


def test_a_mask_that_forgets_the_window_is_found(tmp_path, monkeypatch):
    from stairs_core.forward import sliding_windows

    pair = load("Mistral", tmp_path, sliding_window=200)
    pair.require_trees()
    pair.require_strict()
    monkeypatch.setattr(sliding_windows, "_slides", lambda window, queries, keys: keys <= queries)
    pair = replace(pair)
    for ask in (pair.require_trees, pair.require_strict):
        with pytest.raises(InputError, match="does not take the masks"):
            ask()


def phi(folder):
    changes = {"sliding_window": None, "original_max_position_embeddings": 24}
    return load("Phi3", folder, **ROPES["longrope"], **changes)


@pytest.mark.parametrize("prompt", [PROMPT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("name", ["Phi3", "Llama"])
def test_angles_that_depend_on_the_length_are_generates(name, prompt, tmp_path):
    """Phi-3 reads the text anew where they change. Llama goes on from its cache."""
    anew = name == "Phi3"
    pair = phi(tmp_path) if anew else load(name, tmp_path, **ROPES["longrope"])
    assert not agree(pair, prompt, 50, WAYS, use_cache=not anew)


def test_generate_with_its_cache_reads_the_text_anew_too(tmp_path):
    pair = phi(tmp_path)
    text, anew = (plain(pair, PROMPT, 50, use_cache) for use_cache in (True, False))
    if text != anew:
        pytest.skip("this version of transformers reads one token, not the text")
    assert decode(pair, PROMPT, 50, "model", ("single_kv", "fast")) == text


@pytest.mark.parametrize("prompt", [PROMPT, LONG], ids=["short", "long"])
def test_dynamic_angles_are_those_of_a_model_just_loaded(prompt, tmp_path):
    pair = load("Llama", tmp_path, **ROPES["dynamic"])
    assert pair.context_length == 128
    assert not agree(pair, prompt, 60)


@pytest.mark.parametrize("kind", ["longrope", "dynamic"])
def test_layers_may_turn_by_angles_of_their_own_past_a_window(kind, tmp_path):
    """Of Gemma 3: every other layer turns by the length, the others slide; layers are skipped."""
    own = ROPES[kind]["rope_parameters"] | {"factor": 8.0}
    default = {"rope_type": "default", "rope_theta": 1e4}
    ropes = {"full_attention": own, "sliding_attention": default}
    kinds = ["sliding_attention", "full_attention"] * 2
    sizes = {"max_position_embeddings": 32, "num_hidden_layers": 4, "layer_types": kinds}
    pair = replace(load("Gemma3", tmp_path, rope_parameters=ropes, **sizes), context_length=256)
    text = plain(pair, PROMPT, 50)
    for drafter in ("tree", "layer-skip"):
        assert decode(pair, PROMPT, 50, drafter, ("single_kv", "fast")) == text


def test_k_and_numerics_do_not_matter_where_a_cache_is_left(tmp_path):
    """Phi-3 reads the text anew at its 25th token, wherever in a step that falls."""
    pair = phi(tmp_path / "long")
    text = plain(pair, PROMPT, 30, use_cache=False)
    assert text != plain(load("Phi3", tmp_path / "default", sliding_window=None), PROMPT, 30)
    for k in (2, 3, 6, 11):
        for way in FEW:
            assert decode(pair, PROMPT, 30, "model", way, k) == text
    assert decode(pair, PROMPT, 30, "none", ("single_kv", "fast")) == text


def test_a_lane_may_go_back_to_before_the_cache_was_left(tmp_path):
    model = phi(tmp_path).for_prompt([3] * 8).target
    ids = [3 + i % 90 for i in range(40)]
    held = CachedModel(model)
    for end, last in ((24, 1), (30, 5), (27, 6), (22, 2), (25, 4), (40, 20), (24, 24)):
        rows = [
            CachedModel(model, cached=False).logits(ids[:n], 1)[0]
            for n in range(end - last + 1, end + 1)
        ]
        assert torch.allclose(held.logits(ids[:end], last), torch.stack(rows), atol=1e-4)


@pytest.mark.parametrize(
    ("rope", "reads"),
    [
        ({"rope_type": "yarn", "factor": 4.0}, 128),
        ({"rope_type": "linear", "factor": 2.0}, 64),
        (
            {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            },
            128,
        ),
        ({"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 8}, 32),
        ({"rope_type": "default"}, 32),
    ],
)
def test_a_text_ends_where_the_model_was_made_for(rope, reads, tmp_path):
    changes = {"rope_parameters": {**rope, "rope_theta": 1e4}, "max_position_embeddings": 32}
    pair = load("Llama", tmp_path, **changes)
    assert pair.context_length == reads
    lean = replace(pair, target=LeanLlama(pair.target), draft=LeanLlama(pair.draft))
    text = plain(pair, PROMPT, 150)
    for one in (pair, lean):
        runner = Runner(one, PROMPT, Settings("model", 5, 150))
        new = [t.id for step in runner.decode() for t in step.committed]
        assert new == text[: reads - len(runner.prompt_ids)]
        assert runner.recording().stop.reason == "context"


def test_learned_positions_end_where_their_table_does(tmp_path):
    assert load("GPT2", tmp_path, n_positions=40).context_length == 40


@pytest.mark.parametrize("two_sided", [False, True])
def test_positions_that_are_counted_from_the_pad_token_end_sooner(tmp_path, two_sided):
    """RoBERTa's table of 66 has places for 64 tokens."""
    sizes = {"vocab_size": 320, "hidden_size": 32, "intermediate_size": 64}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 66}
    config = RobertaConfig(**sizes, pad_token_id=1, bos_token_id=0, eos_token_id=2, is_decoder=True)
    model = RobertaForCausalLM(config)
    if two_sided:
        both = EncoderDecoderConfig.from_encoder_decoder_configs(
            config, config, decoder_start_token_id=0, pad_token_id=1, eos_token_id=2
        )
        model = EncoderDecoderModel(both)
    model.save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    pair = replace(load_pair(str(tmp_path), "cpu", "float32", "off"), eos_ids=frozenset())
    lane = Runner(pair, "Once upon a time", Settings("lookup", 5, 200))
    ids = lane.prompt_ids
    assert list(lane.decode())[-1].stop == "context"
    assert len(lane.recording().new_ids) == (63 if two_sided else 64 - len(ids))
    if two_sided:
        with pytest.raises(InputError, match="the encoder reads 64"):
            pair.for_prompt(ids * 40)


def test_mpts_limit_is_known(tmp_path):
    pair = replace(load("Mpt", tmp_path, max_seq_len=40), eos_ids=frozenset())
    assert pair.context_length == 40
    steps = list(Runner(pair, "Once upon a time", Settings("none", 5, 80)).decode())
    assert steps[-1].stop == "context"


@pytest.mark.parametrize("strict", [False, True])
def test_lean_angles_do_not_run_out(strict):
    model = make_model()
    ids = [3 + i % 300 for i in range(300)]  # the config says 256
    lean = CachedModel(LeanLlama(model), strict=strict).logits(ids, 4)
    assert torch.allclose(lean, CachedModel(model).logits(ids, 4), atol=1e-4)


@pytest.mark.cpu
def test_a_window_is_not_leans():
    from stairs_core.forward import lean_llama

    assert lean_llama.fits(make_model())
    assert not lean_llama.fits(families.make("Mistral", sliding_window=20))
    assert not lean_llama.fits(families.make("Qwen2", **families.WINDOWED["Qwen2"]))


@pytest.mark.parametrize("name", ["Gemma3", "Llama"])
def test_custom_generate_has_generates_limits_alone(name):
    changes = {
        "Gemma3": families.WINDOWED["Gemma3"],
        "Llama": ROPES["dynamic"],
    }[name]
    model = elsewhere.placed(families.make(name, **changes))
    ids = torch.tensor([make_tokenizer().encode(PROMPT)])
    given = {"attention_mask": torch.ones_like(ids), "do_sample": False, "eos_token_id": None}
    given |= {"max_new_tokens": 140, "pad_token_id": 0}
    text = model.generate(ids, **given)
    draft = perturb(model)
    for drafter in ("model", "tree"):
        ours = model.generate(
            ids,
            custom_generate=custom_generate.custom_generate,
            assistant_model=draft,
            drafter=drafter,
            **given,
        )
        assert torch.equal(ours, text)


def test_custom_generate_refuses_what_a_table_ends():
    model = elsewhere.placed(families.make("GPT2", n_positions=40))
    with pytest.raises(InputError, match="the models read 40"):
        model.generate(
            torch.tensor([[3, 4, 5]]),
            custom_generate=custom_generate.custom_generate,
            max_new_tokens=60,
            pad_token_id=0,
        )


def test_what_rounding_cannot_do_is_a_bug(tiny_pair, monkeypatch):
    """Passes that differ by a fault are not excused by how much they differ."""
    ids = tiny_pair.tokenizer.encode(LONG)
    honest = same_text.measure(tiny_pair, ids, "single_kv", "fast")
    assert 0 < honest < same_text.rounding_limit(tiny_pair, ids) / 50

    class Shifted(LeanLlama):
        """Goes wrong in passes over several tokens, as a mask of another window does."""

        def __call__(self, *args, **kwargs):
            out = super().__call__(*args, **kwargs)
            if 1 < out.logits.shape[1] < 8:
                out.logits = out.logits.roll(1, -1)
            return out

    pair = replace(tiny_pair, target=Shifted(tiny_pair.target), eos_ids=frozenset())
    runners = [Runner(pair, PROMPT, Settings(d, 3, 24), d) for d in ("none", "model")]
    for _ in race(runners):
        pass
    (result,) = same_text.compare([r.recording() for r in runners])
    where = result.first_difference
    assert where is not None
    assert where.noise is not None
    assert where.rounding is not None
    assert where.noise > where.rounding > 0
    assert where.margin < 4 * where.noise  # a tie, by the noise alone
    assert where.verdict == "bug"
    assert same_text.status([result]) == 1
