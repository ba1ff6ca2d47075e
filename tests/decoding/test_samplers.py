"""Sampled text has the target's own distribution, whoever drafts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from chi_square import LIMIT, SAMPLING, VOCABULARY, distance, sampled, sampler_of
from elsewhere import placed
from tiny_models import make_model, perturb, save_pair

from stairs_core.decoding import acceptance
from stairs_core.forward.lean_llama import LeanLlama
from stairs_core.measuring.race import race
from stairs_core.measuring.runner import Runner
from stairs_core.models.load import load_pair
from stairs_core.settings import methods
from stairs_core.settings.sampling import Sampling
from stairs_core.settings.settings import Settings
from stairs_core.traces.metrics import compare

RUNS = 300
ALIKE = ("suffix", "reference", "jacobi", "chimera", "hidden-transfer", "firp", "hybrid-eagle")
"""Their guesses are judged by the same code as those of ``lookup``, ``medusa`` and ``hybrid``."""
"""So many that a wrong rule is seen (``test_the_test_sees_p_in_the_place_of_the_residual``)."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Six tokens only, so that the distribution of the first two can be counted; in our own forward
    pass, which takes a fraction of the time."""
    target = make_model(layers=3, vocab_size=VOCABULARY)
    head = torch.nn.init.normal_(target.lm_head.weight.detach().cpu(), std=0.12)
    target.lm_head.weight.data = placed(head)
    folder = save_pair(tmp_path_factory.mktemp("six"), target, perturb(target, 1.2))
    pair = replace(load_pair(str(folder), "cpu", "float32", "off"), eos_ids=frozenset())
    return replace(pair, target=LeanLlama(pair.target), draft=LeanLlama(pair.draft))


@pytest.mark.parametrize(
    "drafter",
    [pytest.param(d, marks=pytest.mark.slow if d in ALIKE else ()) for d in methods.EXACT],
)
def test_the_distribution_of_two_tokens_is_the_targets(pair, drafter):
    found, accepted = distance(pair, drafter, SAMPLING, RUNS)
    assert found < LIMIT
    assert (accepted > 0) == (drafter != "none")


def test_the_test_sees_p_in_the_place_of_the_residual(pair, monkeypatch):
    monkeypatch.setattr(acceptance, "residual", lambda p, q: p)
    found, _ = distance(pair, "model", SAMPLING, RUNS)
    assert found > LIMIT


def test_coupled_sampling_has_the_distribution_too(pair):
    found, _ = distance(pair, "none", replace(SAMPLING, rule="coupled"), RUNS)
    assert found < LIMIT


@pytest.mark.parametrize("drafter", methods.EXACT)
def test_with_coupled_sampling_a_seed_has_one_text(pair, coupled_texts, drafter):
    for seed, text in enumerate(coupled_texts):
        assert coupled_text(pair, drafter, seed) == text


def coupled_text(pair, drafter: str, seed: int) -> list[int]:
    sampling = replace(SAMPLING, rule="coupled", seed=seed)
    return [t.id for s in sampled(pair, drafter, sampling, 30) for t in s.committed]


@pytest.fixture(scope="module")
def coupled_texts(pair):
    return [coupled_text(pair, "none", seed) for seed in range(4)]


def test_the_same_seed_gives_the_same_text(tiny_pair):
    def text(seed: int) -> list[int]:
        settings = Settings("model", 4, 40, sampling=Sampling(seed=seed))
        runner = Runner(tiny_pair, "Once upon a time", settings)
        return [t.id for s in runner.decode() for t in s.committed]

    assert text(7) == text(7)
    assert text(7) != text(8)


@pytest.mark.parametrize("drafter", ["model", "tree", "lookup"])
def test_a_penalty_without_sampling_is_token_exact(tiny_pair, drafter):
    sampling = Sampling(temperature=0.0, repetition_penalty=1.3)
    runner = Runner(tiny_pair, "Once upon a time", Settings(drafter, 4, 40, sampling=sampling))
    ours = [t.id for s in runner.decode() for t in s.committed]
    ids = torch.tensor([runner.prompt_ids])
    out = tiny_pair.target.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        repetition_penalty=1.3,
        max_new_tokens=40,
        pad_token_id=0,
    )
    assert ours == out[0, ids.shape[1] :].tolist()
    assert runner.run.exactness == "token-exact"


@pytest.mark.parametrize(("rule", "same"), [("speculative", None), ("coupled", True)])
def test_texts_are_compared_where_they_must_be_the_same(tiny_pair, rule, same):
    sampling = Sampling(rule=rule, seed=5)
    lanes = [Settings(name, 4, 30, sampling=sampling) for name in ("none", "model")]
    runners = [Runner(tiny_pair, "Once upon a time", lane) for lane in lanes]
    for _ in race(runners):
        pass
    assert compare(*(r.recording() for r in runners)).identical is same
    assert runners[1].run.sampling == sampling


def test_coupled_sampling_tells_the_margin_of_its_draw(tiny_pair, lean_pair):
    """The margin is that of the draw, and finite where only one token could be drawn."""
    sampling = Sampling(rule="coupled", seed=1)
    runner = Runner(tiny_pair, "Once upon a time", Settings("none", 4, 12, sampling=sampling))
    step = list(runner.decode())[-1]
    text = runner.prompt_ids + [t.id for s in runner.steps[:-1] for t in s.committed]
    sampler = sampler_of(tiny_pair, sampling, text)
    logits = tiny_pair.target(torch.tensor([text])).logits[:, -1].detach()
    probabilities = sampler.probs([text], logits)
    best = probabilities[0].log().topk(2)
    assert step.tokens[-1].id == int(best.indices[0])
    assert step.predictions[0].margin == pytest.approx(float(best.values.diff().abs()), rel=1e-2)
    only = Settings("none", 4, 3, sampling=replace(sampling, top_k=1))
    margins = [p.margin for s in Runner(tiny_pair, "a", only).decode() for p in s.predictions]
    assert all(0 < margin <= 1e4 + 100 for margin in margins)
