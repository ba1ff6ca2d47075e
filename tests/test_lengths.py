"""How much is drafted next, and what that decision rests on."""

from __future__ import annotations

import random
import statistics
from dataclasses import replace

import pytest
import torch

from stairs_core import lengths
from stairs_core.costs import Costs, measure
from stairs_core.ngrams import NGrams
from stairs_core.protocols import Outcome, Proposal
from stairs_core.race import Runner
from stairs_core.settings import Settings

CHEAP = Costs(((1, 1.0), (33, 1.0)), 0.01)
DEAR = Costs(((1, 1.0), (33, 1.0)), 2.0)


def told(policy, drafted: int, accepted: int) -> None:
    policy.observe(
        Outcome(Proposal([1] * drafted, "model"), [*range(accepted)], [1], torch.empty(0))
    )


def test_costs_are_learned_from_the_run():
    """Measured as cheap, seen to be dear: no more guesses; and the other way round."""
    for costs, seen, most in ((CHEAP, 2.0, 1), (DEAR, 0.01, 16)):
        policy = lengths.CostByPosition(16, costs)
        assert (policy.next() > 8) == (costs is CHEAP)
        for _ in range(40):
            n = max(policy.next(), 1)
            guess = Proposal([1] * n, "model")
            policy.observe(Outcome(guess, [*range(n)], [1], torch.empty(0), seen * n, 1.0))
        assert (policy.next() <= 1) == (most == 1)


def settle(costs: Costs, right: float, most: int = 16) -> list[int]:
    """The lengths chosen while guesses hold with a probability, the last fifty of 200."""
    policy, generator, chosen = (
        lengths.CostByPosition(most, costs),
        torch.Generator().manual_seed(0),
        [],
    )
    for _ in range(200):
        n = policy.next()
        chosen.append(n)
        held = torch.rand(n, generator=generator) < right
        told(policy, n, int(held.cumprod(0).sum()))
    return chosen[-50:]


def test_constant_is_constant():
    policy = lengths.build("constant", 5)
    told(policy, 5, 0)
    assert (policy.next(), policy.go_on) == (5, None)


def test_heuristic_is_the_rule_of_transformers():
    policy = lengths.build("heuristic", 5)
    for accepted, expected in ((5, 7), (3, 6), (6, 8), (0, 7)):
        told(policy, policy.next(), accepted)
        assert policy.next() == expected
    for _ in range(20):
        told(policy, policy.next(), 0)
    assert policy.next() == 1
    for _ in range(40):
        told(policy, policy.next(), policy.next())
    assert policy.next() == 32


def test_confidence_stops_after_the_first_doubt():
    policy = lengths.build("confidence", 9)
    assert policy.go_on is not None
    assert policy.next() == 9
    assert [policy.go_on(p) for p in (0.9, 0.41, 0.39)] == [True, True, False]


def test_cumulative_adapts_its_bound():
    policy = lengths.build("cumulative", 9)
    assert policy.go_on is not None

    def drafted(p: float) -> int:
        assert policy.go_on is not None
        most = policy.next()
        return next((i for i in range(1, most + 1) if not policy.go_on(p)), most)

    assert drafted(0.2) == 3  # 0.2 ** 3 < 0.01
    for _ in range(4):
        told(policy, 3, 1)
    assert drafted(0.2) == 2  # the bound is 0.16 now
    for _ in range(9):
        told(policy, 3, 3)
    assert drafted(0.2) > 3


def test_cost_finds_the_best_length():
    assert min(settle(CHEAP, 0.98)) >= 14
    middle = settle(Costs(((1, 1.0), (33, 1.6)), 0.2), 0.8)
    assert all(3 <= n <= 6 for n in middle), middle
    assert max(settle(Costs(((1, 1.0), (33, 1.6)), 0.2), 0.3)) <= 2


def test_cost_stops_drafting_where_it_does_not_pay_and_tries_again():
    chosen = settle(DEAR, 0.9)
    assert set(chosen) == {0, 1}
    assert 4 <= sum(chosen) <= 8


def doubting(costs: Costs, right: list[float], sure: list[float]) -> list[int]:
    """The lengths chosen where the draft is right, and says it is, with these probabilities."""
    policy, generator, chosen = lengths.CostByProbability(16, costs), random.Random(0), []
    for _ in range(300):
        drafted, held = 0, []
        most = policy.next()
        while drafted < most:
            easy = generator.randrange(len(right))
            held.append(generator.random() < right[easy])
            drafted += 1
            if not policy.go_on(sure[easy]):
                break
        accepted = held.index(False) if False in held else drafted
        told(policy, drafted, accepted)
        chosen.append(drafted)
    return chosen[-100:]


def test_cost_listens_to_doubt_as_far_as_doubt_was_right():
    costs = Costs(((1, 1.0), (33, 1.6)), 0.1)
    always = doubting(costs, [0.99], [0.95])
    assert min(always) >= 12
    # Half of the tokens are hard, and the draft knows which: it stops there.
    knowing = doubting(costs, [0.99, 0.2], [0.95, 0.2])
    blind = doubting(costs, [0.99, 0.2], [0.6, 0.6])
    assert len(set(knowing)) > len(set(blind))
    # A draft that is always sure and mostly wrong is not believed for long.
    assert statistics.mean(doubting(costs, [0.3], [0.99])) <= 2


def test_cost_by_probability_stops_where_it_does_not_pay_and_tries_again():
    assert set(doubting(DEAR, [0.9], [0.9])) == {0, 1}


def test_nothing_leaks_from_one_run_to_the_next(tiny_pair):
    settings = Settings(k=8, length="heuristic", max_new_tokens=40)
    runs = [list(Runner(tiny_pair, "Once upon a time", settings).decode()) for _ in range(2)]
    assert len({tuple(len(s.drafted) for s in steps) for steps in runs}) == 1
    assert len(runs[0][0].drafted) == 8


def test_costs_are_read_between_what_was_measured():
    costs = Costs(((1, 2.0), (5, 4.0), (9, 6.0)), 0.5)
    assert [costs.target(n) for n in (1, 3, 5, 7, 9)] == [2, 3, 4, 5, 6]
    assert costs.target(18) == 12


def test_costs_of_a_pair_are_seconds(tiny_pair):
    costs = measure(tiny_pair, "single_kv", "fast", drafts=True)
    assert [n for n, _ in costs.passes] == [1, 2, 3, 5, 7, 9, 13, 17, 33]
    assert all(0 < seconds < 1 for _, seconds in costs.passes)
    assert 0 < costs.draft < 1
    assert measure(tiny_pair, "single_kv", "strict", drafts=False).draft == 0
    assert tiny_pair.costs() is tiny_pair.costs()


def test_copying_takes_the_longest_and_the_latest():
    def find(text: list[int], count: int) -> tuple[list[int], int]:
        copy = NGrams().copy(text, count)
        return copy.tokens, copy.same

    assert find([1, 2, 3], 4) == ([], 0)
    text = [7, 1, 2, 3, 50, 51, 9, 1, 2, 3, 60, 61, 8, 2, 3, 70, 1, 2, 3]
    assert find(text, 2) == ([60, 61], 3)
    assert find([*text, 70], 3) == ([1, 2, 3], 3)
    assert find([4, 5, 6, 6], 2) == ([6, 6], 1)


def test_copying_goes_on_into_what_it_copied():
    text = [1, 2, 3, 1, 2, 3, 1, 2, 3]
    copy = NGrams().copy(text, 7, look=99)
    assert copy.tokens == [1, 2, 3, 1, 2, 3, 1]
    assert copy.same == 6
    assert [text[origin.at] for origin in copy.origins] == copy.tokens
    assert NGrams().copy(text, 7, look=5).same == 5


def test_copying_forgets_another_text():
    index = NGrams()
    assert index.copy([1, 2, 3, 4, 1, 2], 2).tokens == [3, 4]
    assert index.copy([9, 9, 1, 2], 2).tokens == []
    assert index.copy([9, 9, 1, 2, 9], 1).tokens == [1]


def test_the_end_of_a_trees_branch_is_no_rejection():
    """Two of three guesses hold, and nothing stood after the second: so does a chain of two."""
    tree, chain = (lengths.CostByPosition(8, CHEAP) for _ in range(2))
    for _ in range(60):
        branch = Proposal([1, 2, 3], "tree", [-1, 0, -1])
        tree.observe(Outcome(branch, [0, 1], [1, 2, 9], torch.empty(0)))
        chain.observe(Outcome(Proposal([1, 2], "model"), [0, 1], [1, 2, 9], torch.empty(0)))
    assert tree.next() == chain.next() == 8


WIDTHS = (1, 2, 3, 5, 7, 9, 13, 17)
TRUE = {n: 1.0 + 0.03 * (n - 1) for n in WIDTHS}


def wrongly_priced():
    """Prices that a busy moment made wrong by a factor of three: one, the upper half, or all."""
    for factor in (3.0, 1 / 3):
        for wrong in (*((n,) for n in WIDTHS), WIDTHS[4:], WIDTHS[1:], WIDTHS):
            fitted = Costs.fit({n: [s * (factor if n in wrong else 1)] for n, s in TRUE.items()})
            yield pytest.param(replace(fitted, draft=0.15), id=f"{factor:.2f} at {wrong}")
        yield pytest.param(replace(Costs.fit({1: [1.0]}), draft=0.15 * factor), id=f"{factor} c")


@pytest.mark.parametrize("kind", [lengths.CostByPosition, lengths.CostByProbability])
@pytest.mark.parametrize("costs", [*wrongly_priced()])
def test_a_wrong_first_price_does_not_last(kind, costs):
    """On a machine where guesses hold with 0.8, and passes cost what the prices do not say."""
    right, policy, generator = 0.8, kind(16, costs), random.Random(1)

    def seconds(n: int) -> float:
        return 1.0 + 0.03 * n + 0.15 * n

    tokens, spent = [], []
    for i in range(300):
        most, drafted = policy.next(), 0
        while drafted < most:
            drafted += 1
            if policy.go_on and not policy.go_on(right):
                break
        held = [generator.random() < right for _ in range(drafted)]
        accepted = held.index(False) if False in held else drafted
        noise = generator.uniform(1.0, 1.1)
        verify = (1.0 + 0.03 * drafted) * noise + 20.0 * (i == 0)  # the first reads the prompt
        guess = Proposal([1] * drafted, "model")
        outcome = Outcome(guess, [*range(accepted)], [1], torch.empty(0), 0.15 * drafted, verify)
        policy.observe(outcome)
        tokens.append(accepted + 1)
        spent.append(seconds(drafted))
    best = max(sum(right**i for i in range(k + 1)) / seconds(k) for k in range(17))
    late = slice(150, None)
    assert sum(tokens[late]) / sum(spent[late]) > 0.85 * best
