"""Encoder-decoder models: the encoder reads the prompt once, the stairs stand on the decoder."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace

import families
import pytest
import torch
from paths import ROOT
from tiny_models import WORDS, make_tokenizer

from stairs_core.decoding import verify
from stairs_core.errors import InputError
from stairs_core.measuring import same_text
from stairs_core.measuring.baselines import against_transformers, gpt_fast
from stairs_core.measuring.race import race
from stairs_core.measuring.runner import Runner
from stairs_core.models.load import load_pair
from stairs_core.protocols import Proposal
from stairs_core.settings.settings import BACKENDS, Settings
from stairs_core.traces.what_if import what_if

PROMPT = "Once upon a time"


@pytest.fixture(scope="module", params=sorted(families.TWO_SIDED))
def pair(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    pair = load_pair(families.save(request.param, folder), "cpu", "float32", "off")
    return replace(pair, eos_ids=frozenset())


def decode(pair, prompt: str = PROMPT, **settings) -> list[int]:
    runner = Runner(pair, prompt, Settings(**{"k": 4, "max_new_tokens": 20, **settings}))
    return [t.id for step in runner.decode() for t in step.committed]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_encoder_runs_once_and_on_the_clock(pair, monkeypatch, backend):
    read: list[tuple[float, torch.Size]] = []
    runner = Runner(pair, PROMPT, Settings("model", 4, 20, backend))
    for model in (pair.target, pair.draft):
        encoder = model.get_encoder()
        forward = encoder.forward

        def watched(*args, forward=forward, **kwargs):
            read.append((runner.clock.elapsed, kwargs["input_ids"].shape))
            return forward(*args, **kwargs)

        monkeypatch.setattr(encoder, "forward", watched)
    runner.warm_up()
    read.clear()
    steps = list(runner.decode())
    assert len(steps) > 4
    shape = (1, len(runner.prompt_ids))  # the draft's in the step's first part, then the target's
    assert read == [(0.0, shape), (steps[0].draft_seconds, shape)]


def test_the_text_depends_on_the_prompt(pair):
    assert len({tuple(decode(pair, prompt)) for prompt in (PROMPT, *WORDS)}) > 1


def test_a_lane_goes_on_where_the_text_changes(pair):
    """One lane asked about several texts and widths, against fresh ones."""
    ids, new = pair.tokenizer.encode(PROMPT), [7, 9, 11, 13, 15]
    bound = pair.for_prompt(ids)
    for backend in ("matrix_kv", "single_kv"):
        held = verify.build(backend, bound.target)
        for text, guess in ((new[:1], new[1:]), (new[:4], [2]), (new[:2], [3, 4, 5]), ([], new)):
            expected = verify.build("matrix", bound.target)(ids + text, Proposal(guess))
            got = held(ids + text, Proposal(guess))
            assert torch.allclose(got, expected, atol=1e-4)


def test_peers_and_noise_read_the_prompt_where_we_do(pair):
    ids, text = pair.tokenizer.encode(PROMPT), decode(pair, drafter="none")
    for peer in [*against_transformers(True).values(), lambda *a: gpt_fast(*a, k=3)]:
        assert peer(pair, ids, 20) == text
    for backend in BACKENDS:
        assert 0 < same_text.measure(pair.for_prompt(ids), ids + text[:8], backend, "fast") < 1e-3


def test_the_cost_policy_has_costs(pair):
    assert decode(pair, length="cost") == decode(pair, drafter="none")


def test_trees_in_one_pass_are_refused_by_name(pair):
    with pytest.raises(InputError, match=r"target \((t5|bart)\) does not take .* matrix_kv or"):
        Runner(pair, PROMPT, Settings("tree", 4))


def test_the_limits_of_bart(tmp_path):
    pair = load_pair(families.save("Bart", tmp_path), "cpu", "float32", "off")
    pair = replace(pair, eos_ids=frozenset())
    runners = [Runner(pair, PROMPT, Settings(d, 6, 400)) for d in ("none", "model")]
    assert list(race(runners))
    for runner in runners:  # 96 positions, the first for the token that starts the decoder
        assert sum(len(s.committed) for s in runner.steps) == 95
        assert runner.recording().stop.reason == "context"
    with pytest.raises(InputError, match=r"has 100 tokens, and the encoder reads 96: shorten .* 4"):
        pair.for_prompt([1] * 100)
    with pytest.raises(InputError, match=r"bart\) counts its decoder's positions itself"):
        Runner(pair, PROMPT, Settings("model", numerics="strict"))


def test_a_draft_that_reads_the_prompt_has_the_targets_tokenizer(tmp_path):
    folder = families.save("T5", tmp_path)
    make_tokenizer("quite other words and words of words").save_pretrained(tmp_path / "draft")
    with pytest.raises(InputError, match="draft is an encoder-decoder model with another tokenize"):
        load_pair(folder, "cpu")


def test_a_draft_may_read_the_prompt_as_text(tmp_path, pair):
    mixed = replace(pair, draft=families.make("Llama"))
    assert decode(mixed, drafter="model") == decode(pair, drafter="none")


def test_layers_of_two_sides_are_not_skipped(pair):
    with pytest.raises(InputError, match="nothing can be skipped"):
        Runner(pair, PROMPT, Settings("layer-skip"))


def test_the_papers_setting_can_be_timed():
    words = "--target tiny --draft tiny --k 3 --prompt 8 --new 6 --repeats 1 --compile off"
    script = runpy.run_path(str(ROOT / "tests" / "scripts" / "paper_setting.py"))
    lines = [*script["measure"](script["options"]().parse_args(words.split()))]
    rows = [line.split("|")[1:3] for line in lines if line.startswith(("| single", "| matrix"))]
    assert [(b.strip(), k.strip()) for b, k in rows] == [
        ("single_kv", "alone"),
        ("single", "alone"),
        *((backend, "3") for backend in BACKENDS),
    ]


def test_strict_passes_of_t5(tmp_path):
    pair = load_pair(families.save("T5", tmp_path), "cpu", "float32", "off")
    pair = replace(pair, eos_ids=frozenset())
    texts = {tuple(decode(pair, drafter=d, numerics="strict")) for d in ("none", "model")}
    assert texts == {tuple(decode(pair, drafter="none"))}


def test_a_forced_first_token_is_given_and_a_forced_last_one_is_not(tmp_path):
    folder = families.save("Bart", tmp_path)
    path = tmp_path / "target" / "generation_config.json"
    forced = {"forced_bos_token_id": 5, "forced_eos_token_id": 0}
    path.write_text(json.dumps(json.loads(path.read_text()) | forced))
    pair = replace(load_pair(folder, "cpu", "float32", "off"), eos_ids=frozenset())
    inputs = torch.tensor([pair.tokenizer.encode(PROMPT)])
    out = pair.target.generate(inputs, do_sample=False, num_beams=1, max_new_tokens=21)
    start, first, *text = out[0].tolist()
    assert (start, first, text[-1]) == (0, 5, 0)
    assert decode(pair, drafter="model")[:-1] == text[:-1]


def test_other_lengths_follow_from_one_run(pair):
    def run(k: int):
        runner = Runner(pair, PROMPT, Settings(k=k, max_new_tokens=20))
        assert list(runner.decode())
        runner.match_draft()
        return runner.recording()

    told = what_if(run(4), ks=(1, 2, 7))
    assert [w.steps for w in told] == [len(run(k).steps) for k in (1, 2, 7)]
