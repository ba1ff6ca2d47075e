"""What each drafter promises beyond the contract: its guesses are those that its method makes."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import replace

import pytest
import torch
from decoding import GREEDY, build, committed, decode, plain
from tiny_models import make_model, perturb

from stairs_core.decoding import draft_lengths, recorder
from stairs_core.decoding.samplers import Processors
from stairs_core.errors import InputError
from stairs_core.forward.lean_llama import LeanLlama
from stairs_core.forward.token_trees import depths
from stairs_core.measuring.runner import Runner
from stairs_core.models.load import load_pair
from stairs_core.protocols import Outcome
from stairs_core.settings.methods import REGISTRY
from stairs_core.settings.settings import Settings
from stairs_core.traces.metrics import fold


@pytest.mark.parametrize("drafter", ["recycle", "lookahead"])
def test_a_target_alone_guesses_its_own_loop(looping, drafter):
    """Each learns from passes already made: once round, most of the next round is guessed."""
    ids = looping.tokenizer.encode("The fox")
    steps = decode(looping, ids, drafter, "single_kv", 6, 120, frozenset())
    assert committed(steps) == plain(looping, ids, 120, frozenset())
    assert fold(steps[len(steps) // 2 :]).tokens_per_target_call > 2.5


def test_jacobi_guesses_what_was_said_behind_the_accepted_rows(tiny_pair):
    ids = tiny_pair.tokenizer.encode("The fox")
    drafter = build("jacobi", tiny_pair, draft_lengths.build("constant", 4))
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
            q = pair.draft(torch.tensor([[*ids, *branch]])).logits[0, -1].softmax(-1)
        for token, p in enumerate(q.tolist()):
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
        proposal = build("tree", pair, draft_lengths.build("constant", k)).propose(ids, k)
        ours = {tuple(proposal.branch(i + 1)) for i in range(k)}
        assert ours == likeliest(pair, ids, k)
        ids += proposal.branch(k)[:2]


def test_a_tree_gets_further_than_a_chain_of_as_many_tokens(tiny_pair):
    """Same target cost: K tokens a step. The sums are over several prompts and drafts."""
    steps = {"tree": 0, "model": 0}
    for seed in range(3):
        target = make_model(seed=seed)
        draft = perturb(target, 0.2, seed)
        pair = replace(tiny_pair, target=LeanLlama(target), draft=LeanLlama(draft))
        for drafter, prompt in itertools.product(steps, ("The fox", "Once upon", "a key")):
            ids = pair.tokenizer.encode(prompt)
            steps[drafter] += len(decode(pair, ids, drafter, "single_kv", 6, 60, frozenset()))
    assert steps["tree"] < steps["model"]


def test_a_window_is_read_but_never_accepted(looping):
    """Lookahead's window stays out of the trace, and out of what may be kept."""
    ids = looping.tokenizer.encode("The fox")
    drafter = build("lookahead", looping, draft_lengths.build("constant", 4))
    first = drafter.propose(ids, 4)
    assert first.guesses == []
    assert first.probe == len(first.tokens) == REGISTRY["lookahead"].more(9) == 14
    assert first.parents is not None
    assert sorted(depths(first.parents)) == sorted(
        [*range(4), *(row + i for row in range(2) for i in range(5))]
    )
    logits = torch.zeros(15, 320)
    logits[:, first.tokens[0]] = 1.0
    acceptance = GREEDY.accept(ids, first, logits)
    found = acceptance.path, acceptance.next_token, len(acceptance.predictions)
    assert found == ([], first.tokens[0], 1)


def test_space_guesses_what_stands_at_the_masks_of_the_kept_row(tiny_pair):
    """Two masks after each row; of one accepted guess of two, the second group counts."""
    ids = tiny_pair.tokenizer.encode("The fox")
    drafter = build("space", tiny_pair, draft_lengths.build("constant", 2))
    first = drafter.propose(ids, 2)
    assert (first.guesses, first.tokens, first.parents) == ([], [1, 1], [-1, 0])
    drafter.observe(Outcome(first, [], [9], rows_of([9, 20, 21])))
    second = drafter.propose([*ids, 9], 2)
    assert (second.guesses, second.probe) == ([20, 21], REGISTRY["space"].more(2))
    assert second.parents == [-1, 0, -1, 2, 0, 4, 1, 6]
    outcome = Outcome(second, [0], [20, 30], rows_of([20, 30, 0, 40, 41, 50, 51, 60, 61]))
    assert outcome.tree is None, "a chain for the trace, however its masks are attached"
    drafter.observe(outcome)
    assert drafter.propose([*ids, 9, 20, 30], 2).guesses == [50, 51]


def rows_of(ids: list[int]) -> torch.Tensor:
    """[rows, 320]: logits with these ids ahead, and the mask (id 1) ahead of them all."""
    rows = torch.nn.functional.one_hot(torch.tensor(ids), 320).float()
    rows[:, 1] = 2.0
    return rows


def test_space_guesses_no_further_than_the_target_was_trained(tiny_pair):
    drafter = build("space", tiny_pair, draft_lengths.build("constant", 9))
    assert drafter.propose([5, 6], 9).probe == 5


@pytest.fixture(scope="module")
def bundled():
    return load_pair("bundled", "cpu", "float32")


def test_space_guesses_well_on_the_bundled_target(bundled):
    pair = bundled
    ids = pair.tokenizer.encode("Once upon a time, there was a little girl")
    assert (
        fold(decode(pair, ids, "space", "single_kv", 3, 96, frozenset())).tokens_per_target_call
        > 1.3
    )


@pytest.mark.parametrize("drafter", ["eagle", "eagle-tree"])
def test_eagles_head_guesses_well_on_the_bundled_target(bundled, drafter):
    pair = bundled
    ids = pair.tokenizer.encode("Once upon a time, there was a little girl")
    steps = decode(pair, ids, drafter, "single_kv", 5, 48, frozenset())
    assert fold(steps).tokens_per_target_call > 2.4


@pytest.mark.parametrize("drafter", ["eagle", "eagle-tree"])
def test_a_head_over_few_tokens_guesses_as_over_all(tiny_pair, monkeypatch, drafter):
    """Greedily they are not spread over the target's vocabulary until the clock has stopped."""
    steps = []
    for narrow in (True, False):
        monkeypatch.setattr(Processors, "none", narrow)
        runner = Runner(tiny_pair, "Once upon a time", Settings(drafter, 6, 40))
        columns = []
        wrapped = recorder.add_probabilities

        def noted(step, proposal, logits, columns=columns, wrapped=wrapped):
            columns.append(proposal.columns)
            return wrapped(step, proposal, logits)

        with monkeypatch.context() as patch:
            patch.setattr(recorder, "add_probabilities", noted)
            steps.append([*runner.decode()])
        assert any(c is not None for c in columns) == narrow
    said = [[(t.id, t.status, t.draft_probability) for s in run for t in s.tokens] for run in steps]
    assert said[0] == said[1]
    assert any(probability for _, _, probability in said[0])


def test_space_refuses_a_target_that_has_not_learnt_masks(tiny_pair):
    target = make_model(stairs_space=None)
    other = replace(tiny_pair, target=target)
    assert other.lacks()["space"].why == "this target was not trained to guess at masks"
    with pytest.raises(InputError, match="not trained to guess at mask tokens"):
        build("space", other, draft_lengths.build("constant", 2))
