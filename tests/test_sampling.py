"""Sampled text follows the target's own law, whoever drafts."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from conftest import make_model, perturb, save_pair
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from stairs_core import choice, defaults, drafters, lengths, rules, verify
from stairs_core.clock import Clock
from stairs_core.engine import Limits, generate
from stairs_core.errors import InputError
from stairs_core.metrics import compare, fold
from stairs_core.models import load_pair
from stairs_core.protocols import Document, Kit
from stairs_core.race import Runner, race
from stairs_core.sampling import Sampling
from stairs_core.scribe import Scribe
from stairs_core.settings import Settings

VOCABULARY = 6
IDS = [1, 2, 3, 1, 2, 4, 1, 2]
SAMPLING = Sampling(0.9, top_k=5, top_p=0.97, min_p=0.01, repetition_penalty=1.1)
LIMIT = 80.0
"""Of chi-square with 35 degrees of freedom at most: passed by chance once in 50,000."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Six tokens only, so that the law of the first two can be counted."""
    target = make_model(layers=3, vocab_size=VOCABULARY)
    torch.nn.init.normal_(target.lm_head.weight, std=0.12)
    folder = save_pair(tmp_path_factory.mktemp("six"), target, perturb(target, 0.5))
    return replace(load_pair(str(folder), "cpu", "float32"), eos_ids=frozenset())


def law(pair, sampling: Sampling) -> dict[tuple[int, int], float]:
    """Of the first two tokens, from plain passes and transformers' own processors."""
    processors = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty),
            TemperatureLogitsWarper(sampling.temperature),
            TopKLogitsWarper(sampling.top_k),
            TopPLogitsWarper(sampling.top_p),
            MinPLogitsWarper(sampling.min_p),
        ]
    )

    def after(ids: list[int]) -> list[float]:
        logits = pair.target(torch.tensor([ids])).logits[:, -1]
        return processors(torch.tensor([ids]), logits).softmax(-1)[0].tolist()

    firsts = after(IDS)
    return {
        (a, b): firsts[a] * p for a in range(VOCABULARY) for b, p in enumerate(after([*IDS, a]))
    }


def rule_of(pair, sampling: Sampling, ids: list[int]):
    found = defaults.processors(pair.target, ids, 4, pair.eos_ids, sampling)
    return choice.build(sampling, pair.device, choice.Processors(found))


def draw(pair, drafter: str, sampling: Sampling, new: int = 4) -> list:
    """The steps of one run; four tokens, so that guesses two deep are made at its start."""
    policy = lengths.build("constant", 3)
    rule = rule_of(pair, sampling, IDS)
    kit = Kit(pair, policy, rule, [Document("words", [1, 2, 5, 0, 1, 2, 3, 3])])
    target, clock = verify.build("single_kv", pair.target), Clock(pair.device)
    limits = Limits(len(IDS) + new, "length")
    guesser, scribe = drafters.build(drafter, kit), Scribe(pair.speller, IDS)
    return list(generate(IDS, target, guesser, rule, scribe, clock, limits, policy))


def distance(pair, drafter: str, sampling: Sampling, runs: int) -> tuple[float, int]:
    """Chi-square of the first two tokens over many seeds, and how many guesses were accepted."""
    seen: Counter[tuple[int, int]] = Counter()
    accepted = 0
    for seed in range(runs):
        steps = draw(pair, drafter, replace(sampling, seed=seed))
        first, second = [t.id for s in steps for t in s.committed][:2]
        seen[first, second] += 1
        accepted += fold(steps).accepted
    expected = law(pair, sampling)
    assert not [cell for cell in seen if expected[cell] == 0]
    return sum((seen[c] - runs * p) ** 2 / (runs * p) for c, p in expected.items() if p), accepted


@pytest.mark.parametrize("drafter", drafters.NAMES)
def test_the_law_of_two_tokens_is_the_targets(pair, drafter):
    found, accepted = distance(pair, drafter, SAMPLING, 500)
    assert found < LIMIT
    assert (accepted > 0) == (drafter != "none")


def test_the_test_sees_p_in_the_place_of_the_residual(pair, monkeypatch):
    monkeypatch.setattr(rules, "residual", lambda p, q: p)
    found, _ = distance(pair, "model", SAMPLING, 500)
    assert found > LIMIT


def test_shared_dice_follow_the_law_too(pair):
    found, _ = distance(pair, "none", replace(SAMPLING, rule="coupled"), 500)
    assert found < LIMIT


@pytest.mark.parametrize("drafter", drafters.NAMES)
def test_with_shared_dice_a_seed_has_one_text(pair, drafter):
    for seed in range(12):
        sampling = replace(SAMPLING, rule="coupled", seed=seed)
        texts = [
            [t.id for s in draw(pair, name, sampling, 30) for t in s.committed]
            for name in ("none", drafter)
        ]
        assert texts[0] == texts[1]


def test_a_tree_of_drawn_siblings_keeps_the_law():
    """Two tokens drawn from q, one after the other, against what p says."""
    generator = torch.Generator().manual_seed(3)
    p, q = torch.tensor([0.5, 0.2, 0.2, 0.1]), torch.tensor([0.1, 0.6, 0.1, 0.2])
    seen, runs = torch.zeros(4), 4000
    for _ in range(runs):
        tokens = torch.multinomial(q, 2, replacement=True, generator=generator).tolist()
        path, own = rules.speculative(tokens, [-1, -1], p.repeat(3, 1), q.repeat(2, 1), generator)
        seen[tokens[path[0]] if path else own] += 1
    assert float(((seen - runs * p) ** 2 / (runs * p)).sum()) < 20


def test_the_same_seed_gives_the_same_text(tiny_pair):
    def text(seed: int) -> list[int]:
        settings = Settings("model", 4, 40, sampling=Sampling(seed=seed))
        runner = Runner(tiny_pair, "Once upon a time", settings)
        return [t.id for s in runner.decode() for t in s.committed]

    assert text(7) == text(7)
    assert text(7) != text(8)


@pytest.mark.parametrize("drafter", ["model", "tree", "lookup"])
def test_a_penalty_without_dice_is_token_exact(tiny_pair, drafter):
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


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"temperature": -1}, "temperature is -1, but must be a number from 0 to 10"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0.0}, "top-p is 0.0"),
        ({"top_k": 2.5}, "top-k is 2.5, but must be a whole number"),
        ({"seed": True}, "seed is True"),
        ({"rule": "fair"}, "no rule 'fair'"),
    ],
)
def test_what_cannot_be_sampled_with_is_refused(wrong, words):
    with pytest.raises(InputError, match=words):
        Sampling(**wrong)


def test_shared_dice_say_by_how_much_they_decided(tiny_pair, lean_pair):
    """The margin is that of the throw, and finite where only one token could be drawn."""
    sampling = Sampling(rule="coupled", seed=1)
    runner = Runner(tiny_pair, "Once upon a time", Settings("none", 4, 12, sampling=sampling))
    step = list(runner.decode())[-1]
    text = runner.prompt_ids + [t.id for s in runner.steps[:-1] for t in s.committed]
    rule = rule_of(tiny_pair, sampling, text)
    law = rule.law([text], tiny_pair.target(torch.tensor([text])).logits[:, -1].detach())
    best = law[0].log().topk(2)
    assert step.tokens[-1].id == int(best.indices[0])
    assert step.predictions[0].margin == pytest.approx(float(best.values.diff().abs()), rel=1e-2)
    only = Settings("none", 4, 3, sampling=replace(sampling, top_k=1))
    margins = [p.margin for s in Runner(tiny_pair, "a", only).decode() for p in s.predictions]
    assert all(0 < margin <= 1e4 + 100 for margin in margins)
