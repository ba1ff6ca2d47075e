"""What each drafter promises beyond the contract: its guesses are those that its method makes."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import replace

import pytest
import torch
from conftest import make_model, perturb, save_pair
from test_contract import GREEDY, build, committed, decode, plain

from stairs_core import lengths
from stairs_core.metrics import fold
from stairs_core.models import load_pair
from stairs_core.protocols import Outcome
from stairs_core.trees import depths


@pytest.mark.parametrize("drafter", ["recycle", "lookahead"])
def test_a_target_alone_guesses_its_own_loop(looping, drafter):
    """Each learns from passes already made: once round, most of the next round is guessed."""
    ids = looping.tokenizer.encode("The fox")
    steps = decode(looping, ids, drafter, "single_kv", 6, 120, frozenset())
    assert committed(steps) == plain(looping, ids, 120, frozenset())
    assert fold(steps[len(steps) // 2 :]).tokens_per_target_call > 2.5


def test_jacobi_guesses_what_was_said_behind_the_accepted_rows(tiny_pair):
    ids = tiny_pair.tokenizer.encode("The fox")
    drafter = build("jacobi", tiny_pair, lengths.build("constant", 4))
    first = drafter.propose(ids, 4)
    logits = torch.nn.functional.one_hot(torch.tensor([11, 12, 13, 14, 15]), 320).float()
    drafter.observe(Outcome(first, [0], [first.tokens[0], 12], logits))
    again = drafter.propose([*ids, first.tokens[0], 12], 4).tokens
    assert (len(again), again[:3]) == (4, [13, 14, 15])


def likeliest(pair, ids: list[int], count: int) -> set[tuple[int, ...]]:
    """The branches that the draft is likeliest to take, best first, from a plain pass for each."""
    found: set[tuple[int, ...]] = set()
    heap: list[tuple[float, tuple[int, ...]]] = [(-1.0, ())]
    while len(found) < count + 1:  # the empty one is the text
        chance, branch = heapq.heappop(heap)
        found.add(branch)
        with torch.inference_mode():
            law = pair.draft(torch.tensor([[*ids, *branch]])).logits[0, -1].softmax(-1)
        for token, p in enumerate(law.tolist()):
            heapq.heappush(heap, (chance * p, (*branch, token)))
    return found - {()}


@pytest.mark.parametrize("k", [1, 2, 5, 9, 24])
@pytest.mark.parametrize("masked", [True, False])
def test_the_tree_is_the_drafts_best(tiny_pair, k, masked):
    """Also where the draft does not take masks, and reads its branches as rows."""
    ids = tiny_pair.tokenizer.encode("Once upon a time")
    pair = replace(tiny_pair)
    pair.__dict__["draft_takes_trees"] = masked
    for _ in range(2):
        proposal = build("tree", pair, lengths.build("constant", k)).propose(ids, k)
        ours = {tuple(proposal.branch(i + 1)) for i in range(k)}
        assert ours == likeliest(pair, ids, k)
        ids += proposal.branch(k)[:2]


def test_a_tree_gets_further_than_a_chain_of_as_many_tokens(tmp_path):
    """Same target cost: K tokens a step. The sums are over several prompts and drafts."""
    steps = {"tree": 0, "model": 0}
    for seed in range(3):
        target = make_model(seed=seed)
        folder = save_pair(tmp_path / str(seed), target, perturb(target, 0.2, seed))
        pair = load_pair(str(folder), "cpu", "float32", "off")
        for drafter, prompt in itertools.product(steps, ("The fox", "Once upon", "a key")):
            ids = pair.tokenizer.encode(prompt)
            steps[drafter] += len(decode(pair, ids, drafter, "single_kv", 6, 60, frozenset()))
    assert steps["tree"] < steps["model"]


def test_a_window_is_read_but_never_accepted(looping):
    """Lookahead's window stays out of the trace, and out of what may be kept."""
    ids = looping.tokenizer.encode("The fox")
    drafter = build("lookahead", looping, lengths.build("constant", 4))
    first = drafter.propose(ids, 4)
    assert first.guesses == []
    assert first.probe == len(first.tokens) == 14
    assert first.parents is not None
    assert sorted(depths(first.parents)) == sorted(
        [*range(4), *(row + i for row in range(2) for i in range(5))]
    )
    logits = torch.zeros(15, 320)
    logits[:, first.tokens[0]] = 1.0
    verdict = GREEDY.judge(ids, first, logits)
    assert (verdict.path, verdict.own, len(verdict.predictions)) == ([], first.tokens[0], 1)
