"""The probabilities and ranks in a trace: recomputed from the text alone, and off the clock."""

from __future__ import annotations

import json

import pytest
import torch

from stairs_core.decoding import clock, recorder
from stairs_core.forward.cached_model import CachedModel
from stairs_core.measuring.runner import Runner
from stairs_core.settings.sampling import Sampling
from stairs_core.settings.settings import Settings
from stairs_core.traces import files

PROMPT = "Once upon a time there was a small fox"
DRAFTED = {"model": True, "tree": True, "hybrid": True, "lookup": False, "lookahead": False}


@pytest.mark.parametrize("sampling", [None, Sampling(temperature=0.5, seed=3)], ids=["", "drawn"])
@pytest.mark.parametrize("drafter", DRAFTED)
def test_probabilities_are_those_after_the_text_before_a_token(tiny_pair, drafter, sampling):
    settings = Settings(drafter, k=4, max_new_tokens=16, sampling=sampling)
    runner = Runner(tiny_pair, PROMPT, settings)
    text, seen = list(runner.prompt_ids), 0
    for step in runner.decode():
        branches = [[]]
        for i, token in enumerate(step.drafted):
            parent = i - 1 if step.parents is None else step.parents[i]
            branches.append([*branches[parent + 1], token.id])
        for token, row in zip(step.tokens, step.rows, strict=True):
            before = text + branches[row]
            expected, rank = probability_and_rank(tiny_pair.target, before, token.id)
            assert token.probability == pytest.approx(expected, rel=2e-3)
            assert token.rank == rank
            if token.source in ("model", "tree"):
                expected, _ = probability_and_rank(tiny_pair.draft, before, token.id)
                assert token.draft_probability == pytest.approx(expected, rel=2e-3)
                seen += 1
            else:
                assert token.draft_probability is None
        text += [token.id for token in step.committed]
    assert bool(seen) == DRAFTED[drafter]
    lanes = [runner.recording()]
    assert files.loads(files.dumps(lanes)) == lanes
    long = [t for s in lanes[0].steps for t in s.tokens if len(json.dumps(t.probability)) > 12]
    assert not long, "four digits are enough"


def probability_and_rank(model, text: list[int], token: int) -> tuple[float, int]:
    row = CachedModel(model, cached=False).logits(text, 1)[0].double()
    return row.softmax(-1)[token].item(), 1 + int((row > row[token]).sum())


def test_a_token_that_the_target_does_not_have_is_impossible_and_last():
    rows = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    found = recorder._stacked(rows, [1, 5]).flatten().tolist()
    assert found == pytest.approx([0.5, 1.0, 0.0, 3.0])


def test_probabilities_are_not_on_the_clock(tiny_pair, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(clock, "perf_counter", lambda: now[0])
    add = recorder.add_probabilities

    def slow(*args):
        now[0] += 1000.0
        return add(*args)

    monkeypatch.setattr(recorder, "add_probabilities", slow)
    runner = Runner(tiny_pair, PROMPT, Settings(k=3, max_new_tokens=8))
    assert [step.elapsed for step in runner.decode()] == [0.0] * len(runner.steps)
    assert now[0] >= 1000
