"""Target and draft whose ids are not quite the same, and logits that are no numbers."""

from __future__ import annotations

import json
from dataclasses import replace

import families
import pytest
import torch
from chi_square import IDS, LIMIT, SAMPLING, VOCABULARY, distance
from tiny_models import make_model, make_tokenizer, perturb, save_pair

import stairs_core
from stairs_core.cli import main
from stairs_core.errors import InputError, NoNumbers
from stairs_core.forward import tryouts
from stairs_core.forward.fitted_draft import vocabulary
from stairs_core.measuring import bench
from stairs_core.measuring.baselines import transformers_generate
from stairs_core.measuring.preflight import preflight
from stairs_core.measuring.runner import Runner
from stairs_core.models.load import load_pair
from stairs_core.settings import methods
from stairs_core.settings.sampling import Sampling
from stairs_core.settings.settings import BACKENDS, Settings
from stairs_core.traces import files

PROMPT, NEW = "Once upon a time", 24
READERS = ("model", "tree", "hybrid", "shared", "reencode")


def widened(model, size: int):
    """The same model with more rows, of which the draft is fond; or with fewer."""
    wide = perturb(model, 0.1)
    wide.resize_token_embeddings(size, mean_resizing=False)
    with torch.no_grad():
        torch.nn.init.normal_(wide.lm_head.weight[320:], std=0.5)
    return wide


def load(folder, target, draft, tokenizer=None, other=None):
    save_pair(folder, target, draft, tokenizer)
    if other is not None:
        other.save_pretrained(folder / "draft")
    return load_pair(str(folder), "cpu", "float32", "off")


def ids_of(pair, prompt: str = PROMPT, **settings) -> list[int]:
    asked = {"k": 5, "max_new_tokens": NEW} | settings
    return [t.id for s in Runner(pair, prompt, Settings(**asked)).decode() for t in s.committed]


@pytest.fixture(scope="module", params=[(320, 384), (384, 320), (320, 300)], ids=str)
def unequal(request, tmp_path_factory):
    """Widths of target and draft, of one tokenizer of 320."""
    model = make_model(layers=3)
    target, draft = (widened(model, n) if n != 320 else perturb(model, 0.1) for n in request.param)
    pair = load(tmp_path_factory.mktemp("unequal"), target, draft)
    return replace(pair, eos_ids=frozenset())


@pytest.mark.parametrize("drafter", methods.EXACT[1:])
def test_ids_of_one_model_alone_are_never_drafted(unequal, drafter, tmp_path, request):
    """Each drafter by one way to check; by all ways under ``--slow``."""
    (file := tmp_path / "words.txt").write_text(PROMPT)
    settings = {"drafter": drafter, "references": (str(file),)}
    if drafter not in READERS and vocabulary(unequal.draft) != 384:
        pytest.skip("it never asks the draft: once is enough")
    plain = transformers_generate(unequal, unequal.tokenizer.encode(PROMPT), NEW)
    every = drafter in READERS and request.config.getoption("--slow")
    turn = methods.EXACT.index(drafter) % len(BACKENDS)
    for backend in BACKENDS if every else BACKENDS[turn : turn + 1]:
        assert ids_of(unequal, backend=backend, **settings) == plain
    for rule in rules_of_sampling():
        runner = Runner(unequal, PROMPT, Settings(**settings, sampling=rule, max_new_tokens=NEW))
        steps = list(runner.decode())
        if drafter in READERS:
            both = min(vocabulary(unequal.target), vocabulary(unequal.draft))
            assert all(t.id < both for s in steps for t in s.drafted)
        assert files.loads(files.dumps([runner.recording()]))


def rules_of_sampling():
    return [Sampling(1.5, seed=4, rule=rule) for rule in ("speculative", "coupled")]


def test_the_widths_are_seen_by_these_tests(unequal):
    """A target and a draft that are fond of what the other lacks."""
    ids = unequal.tokenizer.encode(PROMPT)
    wide = max((unequal.target, unequal.draft), key=vocabulary)
    if vocabulary(wide) > 320:
        rows = wide(torch.tensor([ids])).logits[0].detach().softmax(-1)
        assert float(rows[:, 320:].sum(-1).max()) > 0.05


def test_a_seed_has_one_text_whatever_the_draft_is(unequal):
    same = replace(unequal, draft=perturb(unequal.target, 0.2))
    sampling = Sampling(seed=2, rule="coupled")
    texts = {tuple(ids_of(pair, drafter=d, sampling=sampling))
             for pair in (unequal, same) for d in ("none", "model", "tree")}  # fmt: skip
    assert len(texts) == 1


@pytest.mark.parametrize("extra", [-1, 2])
def test_the_distribution_is_the_targets_where_the_draft_has_other_ids(tmp_path, extra):
    target = make_model(layers=3, vocab_size=VOCABULARY)
    torch.nn.init.normal_(target.lm_head.weight, std=0.12)
    draft = perturb(target, 0.5)
    draft.resize_token_embeddings(VOCABULARY + extra, mean_resizing=False)
    pair = replace(load(tmp_path, target, draft), eos_ids=frozenset())
    assert max(IDS) < VOCABULARY
    found, accepted = distance(pair, "model", SAMPLING, 250)
    assert found < LIMIT
    assert accepted


def added(*names: str):
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [*names]})
    return tokenizer


@pytest.mark.parametrize(
    ("rows", "ours", "theirs"),
    [(320, (), ("[PAD]",)), (321, ("[A]",), ("[PAD]",)), (384, ("[A]", "[B]"), ("[A]",))],
)
def test_an_added_token_is_no_other_tokenizer(tmp_path, rows, ours, theirs):
    model = make_model(layers=3)
    draft = widened(model, rows) if rows > 320 else perturb(model, 0.1)
    pair = load(tmp_path, model, draft, added(*ours), added(*theirs))
    assert not pair.same_tokenizer
    pair = replace(pair, eos_ids=frozenset())
    plain = transformers_generate(pair, pair.tokenizer.encode(PROMPT), NEW)
    for drafter in READERS:
        runner = Runner(pair, PROMPT, Settings(drafter, 5, NEW))
        steps = list(runner.decode())
        assert [t.id for s in steps for t in s.committed] == plain
        assert drafter == "reencode" or all(t.id < 320 for s in steps for t in s.drafted)
        assert drafter == "reencode" or any(s.accepted for s in steps)
    told = preflight(pair, Settings()).tokenizers
    assert told.startswith("the same but for 1 id, never guessed: first 32")
    assert bench.ours(pair, [5], 8, ["model"])
    assert bench.theirs(pair, pair, [5])


def test_a_token_that_the_text_holds_and_the_draft_lacks(tmp_path):
    """It is in the prompt, and reaches every drafter and every backend."""
    model = make_model(layers=3)
    pair = load(
        tmp_path, widened(model, 384), perturb(model, 0.1), added("[PAD]"), make_tokenizer()
    )
    pair = replace(pair, eos_ids=frozenset())
    prompt = "Once [PAD] upon a [PAD] time"
    ids = pair.tokenizer.encode(prompt)
    assert 320 in ids
    plain = transformers_generate(pair, ids, NEW)
    for drafter in READERS:
        for backend in BACKENDS:
            assert ids_of(pair, prompt, drafter=drafter, backend=backend) == plain


def test_an_encoder_reads_what_it_has_rows_for(tmp_path):
    target = families.make("T5", vocab_size=384)
    draft = families.make("T5", vocab_size=320)
    pair = load(tmp_path, target, draft, added("[PAD]"), make_tokenizer())
    pair = replace(pair, eos_ids=frozenset())
    prompt = "Once [PAD] upon a [PAD] time"
    plain = transformers_generate(pair, pair.tokenizer.encode(prompt), 24)
    for drafter, backend in (("model", "single_kv"), ("model", "matrix"), ("tree", "matrix_kv")):
        asked = {"drafter": drafter, "backend": backend, "max_new_tokens": 24}
        assert ids_of(pair, prompt, **asked) == plain


def test_a_prompt_beyond_the_targets_rows_is_refused(tmp_path, capsys):
    model = make_model()
    pair = load(tmp_path, model, perturb(model), added("[PAD]"))
    for drafter in methods.NAMES:
        with pytest.raises(InputError, match=r"id 320 \('\[PAD\]'\), and target has rows for the"):
            Runner(pair, "a [PAD] b", Settings(drafter, references=(__file__,)))
    asked = ["run", "--pair", str(tmp_path), "--device", "cpu", "--prompt", "a [PAD] b"]
    assert main.main(asked) == 2
    assert "leave that token out" in capsys.readouterr().err
    with pytest.raises(InputError, match="holds the id 320, and"):
        model.generate(
            torch.tensor([[5, 320]]),
            max_new_tokens=3,
            do_sample=False,
            custom_generate=stairs_core.custom_generate,
        )


@pytest.mark.parametrize("drafter", ["suffix", "reference"])
def test_references_beyond_the_targets_rows_are_not_copied(tmp_path, drafter):
    model = make_model()
    pair = replace(load(tmp_path, model, perturb(model), added("[PAD]")), eos_ids=frozenset())
    (file := tmp_path / "reference.txt").write_text("Once upon a time[PAD][PAD] there")
    plain = ids_of(pair, drafter="none")
    settings = Settings(drafter, 5, NEW, references=(str(file),))
    steps = list(Runner(pair, PROMPT, settings).decode())
    assert [t.id for s in steps for t in s.committed] == plain
    assert [t.id for t in steps[0].drafted][:2] == [0, 0]


@pytest.mark.parametrize("sizes", [(320, 384), (384, 320), (9, 320)])
def test_an_assistant_of_another_width(sizes):
    target, draft = (make_model(layers=2, vocab_size=n, seed=1) for n in sizes)
    ids = torch.tensor([[3, 4, 3, 1]])
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 30, "pad_token_id": 0}
    expected = target.generate(ids, do_sample=False, **options)
    options |= {"custom_generate": stairs_core.custom_generate, "assistant_model": draft}
    for drafter in ("model", "tree", "hybrid"):
        assert torch.equal(target.generate(ids, do_sample=False, drafter=drafter, **options),
                           expected)  # fmt: skip
        out = target.generate(ids, do_sample=True, drafter=drafter, **options)
        assert int(out.max()) < sizes[0]


def broken(value: float, token: int = 90):
    model = make_model()
    with torch.no_grad():
        model.model.embed_tokens.weight[token] = value
    return model


@pytest.mark.parametrize("sampling", [None, Sampling(seed=1), Sampling(seed=1, rule="coupled")])
@pytest.mark.parametrize("drafter", ["none", "model", "tree", "lookup"])
def test_logits_that_are_no_numbers_end_in_a_sentence(tmp_path, drafter, sampling):
    model = make_model()
    pair = load(tmp_path, broken(float("nan")), model)
    prompt = pair.tokenizer.decode([70, 90])
    assert pair.tokenizer.encode(prompt) == [70, 90]
    with pytest.raises(InputError, match="In float32 the logits of the target are no numbers: "):
        ids_of(pair, prompt, drafter=drafter, sampling=sampling)
    half = replace(pair, target=pair.target.to(torch.float16), draft=model.to(torch.float16))
    with pytest.raises(InputError, match="In float16 .* use the dtype bfloat16 or float32.$"):
        ids_of(half, prompt, drafter=drafter, sampling=sampling)


@pytest.mark.parametrize("sampling", [None, Sampling(seed=1)])
def test_a_draft_whose_logits_are_no_numbers_is_named(tmp_path, sampling):
    pair = load(tmp_path, make_model(), broken(float("nan")))
    prompt = pair.tokenizer.decode([70, 90])
    for drafter in ("model", "tree"):
        with pytest.raises(NoNumbers, match="logits of the draft are no numbers"):
            ids_of(pair, prompt, drafter=drafter, sampling=sampling)


def test_a_model_that_is_broken_at_load_is_not_called_stateful(tmp_path, capsys):
    tried = tryouts.tokens(make_model(), 4)[2]
    save_pair(tmp_path, broken(float("nan"), tried), make_model())
    asked = ["run", "--pair", str(tmp_path), "--device", "cpu", "--prompt", "a", "--json"]
    assert main.main(asked) == 2
    assert "In float32 the logits of target are no numbers" in capsys.readouterr().err


def test_a_target_that_rules_tokens_out_leaves_a_whole_trace(tmp_path):
    pair = load(tmp_path, model := make_model(), perturb(model))
    config = pair.target.generation_config
    config.suppress_tokens = [*range(1, 320)]
    runner = Runner(pair, PROMPT, Settings("model", 3, 6))
    assert list(runner.decode())
    text = files.dumps([runner.recording()])
    assert "Infinity" not in text
    assert "NaN" not in text
    for line in text.splitlines():
        json.loads(line, parse_constant=pytest.fail)
    assert files.loads(text)
