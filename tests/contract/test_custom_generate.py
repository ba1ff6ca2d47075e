"""Inside ``transformers``: with our loop ``generate`` returns what it returns alone."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from elsewhere import placed
from heads import save_heads
from tiny_models import make_model, make_tokenizer, perturb
from transformers import (
    DynamicCache,
    EosTokenCriteria,
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessor,
    MaxLengthCriteria,
    StoppingCriteria,
    StopStringCriteria,
    T5Config,
    T5ForConditionalGeneration,
    TextIteratorStreamer,
)
from transformers.generation.logits_process import (
    SynthIDTextWatermarkLogitsProcessor,
    UnbatchedClassifierFreeGuidanceLogitsProcessor,
)
from transformers.generation.streamers import BaseStreamer

import stairs_core
from stairs_core.errors import InputError
from stairs_core.forward.kv_cache import argument
from stairs_core.settings import methods

PROMPT = torch.tensor([[70, 90, 110, 70, 90]])


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """With heads in its folder, as a model that was loaded from one may have."""
    model, folder = make_model(layers=4), tmp_path_factory.mktemp("target")
    model.config.name_or_path = str(folder)
    save_heads(folder / "heads", model)
    return model


@pytest.fixture(scope="module")
def draft(target):
    return perturb(target)


def alone(model, ids=PROMPT, **options):
    options = {"max_new_tokens": 40, "do_sample": False, "pad_token_id": 0} | options
    return model.generate(ids, attention_mask=torch.ones_like(ids), **options)


def ours(model, ids=PROMPT, **options):
    return alone(model, ids, custom_generate=stairs_core.custom_generate, **options)


class After(StoppingCriteria):
    """Stops when the text, prompt included, has so many tokens."""

    def __init__(self, length):
        self.length = length

    def __call__(self, input_ids, scores, **kwargs):
        return torch.tensor([input_ids.shape[1] >= self.length])


class Sure(StoppingCriteria):
    """Stops when the likeliest tokens add up; looks at scores, of which there is one a token."""

    def __call__(self, input_ids, scores, **kwargs):
        assert len(scores) == input_ids.shape[1] - PROMPT.shape[1]
        return torch.tensor([bool(torch.cat(scores).softmax(-1).amax(-1).sum() > 2)])


class InPlace(LogitsProcessor):
    """Writes to the scores that it is given, and looks at the text."""

    def __call__(self, input_ids, scores):
        scores[:, input_ids[0, -3:]] = -math.inf
        return scores


def cases(target) -> dict[str, dict]:
    text = alone(target)[0, PROMPT.shape[1] :].tolist()
    tokenizer = make_tokenizer()
    pieces = [tokenizer.decode([token]) for token in text]
    piece = next(p for p in pieces[12:] if p.isascii() and p not in "".join(pieces[:12]))
    return {
        "max_new_tokens": {},
        "max_length": {"max_new_tokens": None, "max_length": 30},
        "eos": {"eos_token_id": [text[18], next(i for i in range(320) if i not in text)]},
        "stop string": {"stopping_criteria": [StopStringCriteria(tokenizer, [piece])]},
        "own criterion": {"stopping_criteria": [After(22)]},
        "criterion on scores": {
            "stopping_criteria": [Sure()],
            "return_dict_in_generate": True,
            "output_scores": True,
        },
        "processors": {
            "repetition_penalty": 1.4,
            "no_repeat_ngram_size": 2,
            "bad_words_ids": [[7]],
        },
        "min length": {"eos_token_id": [*range(0, 320, 2)], "min_new_tokens": 25},
        "own processor": {"logits_processor": [InPlace()]},
    }


CASES = [
    "max_new_tokens",
    "max_length",
    "eos",
    "stop string",
    "own criterion",
    "criterion on scores",
    "processors",
    "min length",
    "own processor",
]
SHORTER = {"eos", "stop string", "own criterion", "criterion on scores", "max_length", "min length"}


GRID = [
    *((name, case) for name in ("model", "lookup", "tree") for case in CASES),
    *(
        (name, "own criterion")
        for name in [n for n in methods.EXACT if not methods.REGISTRY[n].reads_text]
    ),
    ("itself", "stop string"),
]


@pytest.mark.parametrize(("drafter", "case"), sorted(set(GRID)))
def test_it_returns_what_generate_returns(target, draft, drafter, case):
    options = cases(target)[case]
    expected = alone(target, **options)
    sequence = expected if isinstance(expected, torch.Tensor) else expected.sequences
    assert (sequence.shape[1] < PROMPT.shape[1] + 40) == (case in SHORTER)
    named = {"assistant_model": target} if drafter == "itself" else {"drafter": drafter}
    for k in (2, 9):
        found = ours(target, **{"assistant_model": draft, "k": k} | named | options)
        assert torch.equal(found if type(found) is torch.Tensor else found.sequences, sequence)


@pytest.mark.parametrize("backend", ["single_kv", "single", "matrix_kv", "matrix"])
def test_options_reach_the_loop(target, draft, backend):
    def steps(**options):
        found = []
        assert torch.equal(
            ours(target, backend=backend, on_step=found.append, **options), alone(target)
        )
        return found

    by_model = steps(assistant_model=draft, k=3)
    assert {len(s.drafted) for s in by_model[:-2]} == {3}
    assert {t.source for s in by_model for t in s.drafted} == {"model"}
    assert any(s.accepted for s in by_model)
    copied = {t.source for s in steps(prompt_lookup_num_tokens=2) for t in s.drafted}
    assert copied == {"lookup"}
    assert steps(assistant_model=draft, k="auto")


class OddLength(MaxLengthCriteria):
    def __call__(self, input_ids, scores, **kwargs):
        return super().__call__(input_ids, scores) & (input_ids.shape[1] % 2 == 1)


class NeverEarly(EosTokenCriteria):
    def __call__(self, input_ids, scores, **kwargs):
        return super().__call__(input_ids, scores) & (input_ids.shape[1] > 20)


@pytest.mark.parametrize(
    ("criteria", "length"),
    [
        ([MaxLengthCriteria(40), MaxLengthCriteria(25)], 25),
        ([OddLength(22)], 23),
        ([NeverEarly([*range(320)])], 21),
    ],
)
def test_every_criterion_is_asked(target, draft, criteria, length):
    options = {"stopping_criteria": criteria}
    found = ours(target, assistant_model=draft, **options)
    assert found.shape[1] == length
    assert torch.equal(found, alone(target, **options))


def test_what_generate_is_told_of_an_assistant_is_kept_to(target, draft, monkeypatch):
    def guesses(**options):
        steps = []
        found = ours(target, on_step=steps.append, **options)
        assert torch.equal(found, alone(target))
        return [len(s.drafted) for s in steps[:-2]]

    assert set(guesses(assistant_model=target)) == {6}
    assert set(guesses(num_assistant_tokens=2)) != {2}, "no assistant, no word of one"
    assert set(guesses(assistant_model=target, num_assistant_tokens=2)) == {2}
    assert set(guesses(assistant_model=target, num_assistant_tokens=2, k=3)) == {3}
    told = {"num_assistant_tokens": 2, "num_assistant_tokens_schedule": "heuristic"}
    assert guesses(assistant_model=target, **told)[:3] == [2, 4, 6]
    unsure = guesses(assistant_model=target, **told, assistant_confidence_threshold=1.0)
    assert set(unsure) == {1}
    # Where transformers itself looks.
    monkeypatch.setattr(draft.generation_config, "num_assistant_tokens", 4)
    assert set(guesses(assistant_model=draft)) == {4}
    monkeypatch.setattr(draft.generation_config, "num_assistant_tokens", 40)
    assert guesses(assistant_model=draft)[0] == 32


def test_what_a_models_own_config_carries_was_not_asked_for(target, monkeypatch):
    expected = alone(target)
    monkeypatch.setattr(target.generation_config, "cache_implementation", "static")
    assert torch.equal(ours(target), expected)


def test_a_run_is_cut_in_the_midst_of_what_was_accepted(target):
    steps = []
    options = {"stopping_criteria": [After(22)], "on_step": steps.append}
    ours(target, assistant_model=target, k=10, **options)
    assert steps[-1].stop == "stopped"
    assert [t.status for t in steps[-1].tokens] == ["accepted"] * 6 + ["dropped"] * 5


class Recording(BaseStreamer):
    def __init__(self):
        self.heard = []

    def put(self, value):
        self.heard.append(value.tolist())

    def end(self):
        self.heard.append("end")


def test_a_streamer_hears_the_same_in_the_same_order(target, draft):
    heard, texts = [], []
    for way in (alone, lambda *a, **o: ours(*a, assistant_model=draft, **o)):
        streamer = Recording()
        way(target, streamer=streamer)
        heard.append(streamer.heard)
        iterator = TextIteratorStreamer(make_tokenizer(), skip_prompt=True)  # type: ignore[arg-type]
        way(target, streamer=iterator)
        texts.append([*iterator])
    assert heard[0] == heard[1]
    assert len(heard[0]) == 1 + 40 + 1
    assert texts[0] == texts[1]


def test_rows_are_returned_when_asked_for(target, draft):
    options = {"return_dict_in_generate": True, "repetition_penalty": 1.4, "max_new_tokens": 23}
    wants = {"output_scores": True, "output_logits": True}
    expected = alone(target, **options, **wants)
    found = ours(target, assistant_model=draft, **options, **wants)
    assert type(found) is type(expected)
    assert torch.equal(found.sequences, expected.sequences)
    for name in ("scores", "logits"):
        rows, others = found[name], expected[name]
        assert len(rows) == len(others) == 23
        assert {r.shape for r in rows} == {o.shape for o in others}
        torch.testing.assert_close(torch.cat(rows), torch.cat(others), atol=1e-4, rtol=1e-4)
    assert ours(target, assistant_model=draft, **options).keys() == {"sequences"}


def test_an_exception_ends_nothing_but_the_run(target, draft):
    def stop(step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ours(target, assistant_model=draft, on_step=stop)
    assert torch.equal(ours(target, assistant_model=draft), alone(target))


def tiny(seed: int):
    config = LlamaConfig(
        vocab_size=5,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        eos_token_id=None,
        bos_token_id=None,
        pad_token_id=None,
    )
    torch.manual_seed(seed)
    model = placed(LlamaForCausalLM(config)).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.7)
    return model


def law(model, rules) -> dict[tuple[int, ...], float]:
    """Of the first two tokens, from the scores that transformers itself computes."""

    def after(*more: int) -> list[float]:
        ids = torch.tensor([[1, 2, *more]])
        asked = {"return_dict_in_generate": True, "output_scores": True, "max_new_tokens": 1}
        return alone(model, ids, **rules, **asked).scores[0][0].softmax(-1).tolist()

    return {(a, b): p * q for a, p in enumerate(after()) for b, q in enumerate(after(a)) if p * q}


def surprise(seen: Counter, expected: dict[tuple[int, ...], float]) -> float:
    """Pearson's statistic, in standard deviations over its mean; rare pairs are taken together."""
    runs = sum(seen.values())
    assert set(seen) <= set(expected)
    rare = [pair for pair, p in expected.items() if p * runs < 5]
    cells = [[pair] for pair in expected if pair not in rare] + ([rare] if rare else [])
    total = 0.0
    for cell in cells:
        wanted = runs * sum(expected[pair] for pair in cell)
        total += (sum(seen[pair] for pair in cell) - wanted) ** 2 / wanted
    free = len(cells) - 1
    return (total - free) / math.sqrt(2 * free)


@pytest.mark.parametrize("drafter", ["model", "lookup"])
def test_sampled_text_has_the_targets_law(drafter):
    rules = {"do_sample": True, "temperature": 0.8, "top_k": 4, "repetition_penalty": 1.3}
    target, draft, ids = tiny(1), tiny(2), torch.tensor([[1, 2]])
    torch.manual_seed(1)
    options = {"assistant_model": draft, "drafter": drafter, "k": 2, "max_new_tokens": 3}
    seen = Counter(
        tuple(ours(target, ids, **rules, **options)[0, 2:4].tolist()) for _ in range(400)
    )
    assert surprise(seen, law(target, rules)) < 4
    near = {pair: law(draft, rules).get(pair, 0.0) + 1e-3 for pair in law(target, rules)}
    assert surprise(seen, near) > 20


def test_the_global_seed_repeats_a_text(target, draft):
    def text(seed):
        torch.manual_seed(seed)
        return ours(target, assistant_model=draft, do_sample=True)[0].tolist()

    assert text(3) == text(3)
    assert len({tuple(text(seed)) for seed in range(4)}) == 4


CACHE = argument(LlamaForCausalLM)
REFUSED = {
    "shared reads texts": {"drafter": "shared"},
    "one sequence at a time, not 2": {"inputs": PROMPT.repeat(2, 1)},
    "one sequence at a time, not 3": {"num_return_sequences": 3, "do_sample": True},
    "not by beam_search": {"num_beams": 2},
    "not by contrastive_search": {"penalty_alpha": 0.6, "top_k": 4},
    "padded": {"attention_mask": torch.tensor([[0, 1, 1, 1, 1]])},
    "inputs_embeds": {"inputs": None, "inputs_embeds": torch.zeros(1, 3, 32)},
    "position_ids": {"position_ids": torch.arange(5)[None] + 7},
    CACHE: {CACHE: DynamicCache()},
    "guidance_scale": {"guidance_scale": 1.5},
    "output_attentions": {"return_dict_in_generate": True, "output_attentions": True},
    "no drafter 'oracle'": {"drafter": "oracle"},
    "no backend 'cloud'": {"backend": "cloud"},
    "K is 0": {"k": 0},
    "prompt_lookup_num_tokens is 40": {"prompt_lookup_num_tokens": 40},
    "num_assistant_tokens is 40": {"assistant_model": make_model(), "num_assistant_tokens": 40},
    "assistant_early_exit=2": {"assistant_early_exit": 2},
    "max_matching_ngram_size=5": {"prompt_lookup_num_tokens": 3, "max_matching_ngram_size": 5},
    "prefill_chunk_size=4": {"prefill_chunk_size": 4},
    "cache_implementation='static'": {"cache_implementation": "static"},
    "leave out assistant_tokenizer": {"assistant_tokenizer": make_tokenizer()},
    "FreeGuidanceLogitsProcessor remembers": {
        "logits_processor": [UnbatchedClassifierFreeGuidanceLogitsProcessor(1.5, None)]  # type: ignore[arg-type]
    },
    "WatermarkLogitsProcessor remembers": {
        "logits_processor": [SynthIDTextWatermarkLogitsProcessor(2, [1, 2], 8, 0, 8, "cpu")]  # type: ignore[arg-type]
    },
    "no draft model": {"drafter": "model"},
    "holds the id 320": {"inputs": torch.tensor([[5, 320]])},
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_done_is_refused_in_one_sentence(target, words):
    options = {"inputs": PROMPT, "max_new_tokens": 9, "pad_token_id": 0, "do_sample": False}
    with pytest.raises(InputError, match=words) as refused:
        target.generate(**options | REFUSED[words], custom_generate=stairs_core.custom_generate)
    assert str(refused.value).endswith(".")
    assert "\n" not in str(refused.value)


def test_an_encoder_decoder_model_is_refused():
    config = T5Config(
        vocab_size=32,
        d_model=8,
        d_kv=4,
        d_ff=8,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
    )
    with pytest.raises(InputError, match="encoder-decoder"):
        ours(placed(T5ForConditionalGeneration(config).eval()), torch.tensor([[3, 4]]))
