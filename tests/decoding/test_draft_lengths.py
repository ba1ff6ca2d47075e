"""How much is drafted next, and what that decision rests on."""

from __future__ import annotations

import random
import statistics
from dataclasses import replace

import pytest
import torch

from stairs_core.decoding import draft_lengths
from stairs_core.measuring.pass_timing import PassCosts
from stairs_core.measuring.runner import Runner
from stairs_core.protocols import Outcome, Proposal
from stairs_core.settings.settings import Settings

CHEAP = PassCosts(((1, 1.0), (33, 1.0)), 0.01)
DEAR = PassCosts(((1, 1.0), (33, 1.0)), 2.0)


def outcome(drafted: int, accepted: int, **seconds: float) -> Outcome:
    """Of so many guesses in a row, of which the first ones were accepted."""
    return Outcome(
        proposal=Proposal([1] * drafted, "model"),
        path=[*range(accepted)],
        committed=[1],
        logits=torch.empty(0),
        **seconds,
    )


def test_costs_are_learned_from_the_run():
    """Measured as cheap, seen to be dear: no more guesses; and the other way round."""
    for costs, seen, most in ((CHEAP, 2.0, 1), (DEAR, 0.01, 16)):
        policy = draft_lengths.CostByPosition(16, costs)
        assert (policy.next() > 8) == (costs is CHEAP)
        for _ in range(40):
            n = max(policy.next(), 1)
            policy.observe(outcome(n, n, draft_seconds=seen * n, verify_seconds=1.0))
        assert (policy.next() <= 1) == (most == 1)


def seconds(costs: PassCosts, n: int) -> dict[str, float]:
    """What a step takes where passes cost what was measured."""
    return {"draft_seconds": costs.draft * n, "verify_seconds": costs.target(n + 1)}


def settle(costs: PassCosts, right: float, most: int = 16) -> list[int]:
    """The lengths chosen while guesses hold with a probability, the last fifty of 200."""
    policy, generator, chosen = (
        draft_lengths.CostByPosition(most, costs),
        torch.Generator().manual_seed(0),
        [],
    )
    for _ in range(200):
        n = policy.next()
        chosen.append(n)
        held = torch.rand(n, generator=generator) < right
        policy.observe(outcome(n, int(held.cumprod(0).sum()), **seconds(costs, n)))
    return chosen[-50:]


def test_constant_is_constant():
    policy = draft_lengths.build("constant", 5)
    policy.observe(outcome(5, 0))
    assert (policy.next(), policy.keep_drafting) == (5, None)


def test_heuristic_is_the_rule_of_transformers():
    policy = draft_lengths.build("heuristic", 5)
    for accepted, expected in ((5, 7), (3, 6), (6, 8), (0, 7)):
        policy.observe(outcome(policy.next(), accepted))
        assert policy.next() == expected
    for _ in range(20):
        policy.observe(outcome(policy.next(), 0))
    assert policy.next() == 1
    for _ in range(40):
        policy.observe(outcome(policy.next(), policy.next()))
    assert policy.next() == 32


def test_confidence_stops_after_the_first_doubt():
    policy = draft_lengths.build("confidence", 9)
    assert policy.keep_drafting is not None
    assert policy.next() == 9
    assert [policy.keep_drafting(p) for p in (0.9, 0.41, 0.39)] == [True, True, False]


def test_cumulative_adapts_its_bound():
    policy = draft_lengths.build("cumulative", 9)
    assert policy.keep_drafting is not None

    def drafted(p: float) -> int:
        assert policy.keep_drafting is not None
        most = policy.next()
        return next((i for i in range(1, most + 1) if not policy.keep_drafting(p)), most)

    assert drafted(0.2) == 3  # 0.2 ** 3 < 0.01
    for _ in range(4):
        policy.observe(outcome(3, 1))
    assert drafted(0.2) == 2  # the bound is 0.16 now
    for _ in range(9):
        policy.observe(outcome(3, 3))
    assert drafted(0.2) > 3


def test_cost_finds_the_best_length():
    assert min(settle(CHEAP, 0.98)) >= 14
    middle = settle(PassCosts(((1, 1.0), (33, 1.6)), 0.2), 0.8)
    assert all(3 <= n <= 6 for n in middle), middle
    assert max(settle(PassCosts(((1, 1.0), (33, 1.6)), 0.2), 0.3)) <= 2


def test_cost_stops_drafting_where_it_does_not_pay_and_tries_again():
    chosen = settle(DEAR, 0.9)
    assert set(chosen) == {0, 1}
    assert 4 <= sum(chosen) <= 8


def doubting(costs: PassCosts, right: list[float], sure: list[float]) -> list[int]:
    """The lengths chosen where the draft is right, and says it is, with these probabilities."""
    policy, generator, chosen = draft_lengths.CostByProbability(16, costs), random.Random(0), []
    for _ in range(300):
        drafted, held = 0, []
        most = policy.next()
        while drafted < most:
            easy = generator.randrange(len(right))
            held.append(generator.random() < right[easy])
            drafted += 1
            if not policy.keep_drafting(sure[easy]):
                break
        accepted = held.index(False) if False in held else drafted
        policy.observe(outcome(drafted, accepted, **seconds(costs, drafted)))
        chosen.append(drafted)
    return chosen[-100:]


def test_cost_listens_to_doubt_as_far_as_doubt_was_right():
    costs = PassCosts(((1, 1.0), (33, 1.6)), 0.1)
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


def test_the_end_of_a_trees_branch_is_no_rejection():
    """Two of three guesses hold, and nothing stood after the second: so does a chain of two."""
    tree, chain = (draft_lengths.CostByPosition(8, CHEAP) for _ in range(2))
    branch = Proposal([1, 2, 3], "tree", parents=[-1, 0, -1])
    guesses = Proposal([1, 2], "model")
    became = {"path": [0, 1], "committed": [1, 2, 9], "logits": torch.empty(0)}
    for _ in range(60):
        tree.observe(Outcome(branch, **became))
        chain.observe(Outcome(guesses, **became))
    assert tree.next() == chain.next() == 8


BRANCHES = {(0, 1, 3, 5): 0.5, (2, 4): 0.1, (6,): 0.05, (7,): 0.03, (8,): 0.01, (9,): 0.01}
PARENTS = [-1, 0, -1, 1, 2, 3, -1, -1, -1, -1]
"""A tree's ten likeliest guesses, by branches, and how often the text goes on with the first of
each; 0.7 times as often with each next one."""


@pytest.mark.parametrize("guess", [0.05, 0.4, 2.0])
def test_cost_finds_the_best_tree(guess):
    """Passes of the draft are as many as the tree is deep, and copies tell nothing of trees."""

    def seconds(n: int) -> tuple[float, float]:
        return guess * max(sum(node < n for node in b) for b in BRANCHES), 1.0 + 0.04 * n

    def rate(n: int) -> float:
        chances = (w * 0.7**i for b, w in BRANCHES.items() for i, node in enumerate(b) if node < n)
        return (1 + sum(chances)) / sum(seconds(n))

    costs = PassCosts(((1, 1.0), (33, 1.0 + 32 * 0.04)), 0.0)
    policy, chance, chosen = draft_lengths.CostByNode(10, costs), random.Random(3), []
    for i in range(300):
        n = policy.next()
        chosen.append(n)
        draft, verify = seconds(n)
        if i % 3 == 2:  # all copies hold
            policy.observe(outcome(n, n, verify_seconds=verify))
            continue
        (branch,) = chance.choices([(), *BRANCHES], [0.3, *BRANCHES.values()])
        depth = next((d for d in range(1, len(branch)) if chance.random() > 0.7), len(branch))
        path = [node for node in branch[:depth] if node < n]
        tree = Proposal([1] * n, "tree", parents=PARENTS[:n])
        times = {"draft_seconds": draft, "verify_seconds": verify}
        policy.observe(Outcome(tree, path, [1], torch.empty(0), **times))
    settled = int(statistics.median(chosen[-100:]))
    assert rate(settled) > 0.95 * max(map(rate, range(11))), chosen[-100:]


WIDTHS = (1, 2, 3, 5, 7, 9, 13, 17)
TRUE = {n: 1.0 + 0.03 * (n - 1) for n in WIDTHS}


def wrongly_priced():
    """Prices that a busy moment made wrong by a factor of three: one, the upper half, or all."""
    for factor in (3.0, 1 / 3):
        for wrong in (*((n,) for n in WIDTHS), WIDTHS[4:], WIDTHS[1:], WIDTHS):
            fitted = PassCosts.fit(
                {n: [s * (factor if n in wrong else 1)] for n, s in TRUE.items()}
            )
            yield pytest.param(replace(fitted, draft=0.15), id=f"{factor:.2f} at {wrong}")
        yield pytest.param(
            replace(PassCosts.fit({1: [1.0]}), draft=0.15 * factor), id=f"{factor} c"
        )


def one_step(policy, right: float, generator: random.Random) -> tuple[int, int]:
    """How many guesses are made, and accepted, where each holds with a probability, as is known."""
    most, drafted = policy.next(), 0
    while drafted < most:
        drafted += 1
        if policy.keep_drafting and not policy.keep_drafting(right):
            break
    held = [generator.random() < right for _ in range(drafted)]
    return drafted, held.index(False) if False in held else drafted


@pytest.mark.parametrize("kind", [draft_lengths.CostByPosition, draft_lengths.CostByProbability])
@pytest.mark.parametrize("costs", [*wrongly_priced()])
def test_a_wrong_first_price_does_not_last(kind, costs):
    """On a machine where guesses hold with 0.8, and passes cost what the prices do not say."""
    right, policy, generator = 0.8, kind(16, costs), random.Random(1)

    def seconds(n: int) -> float:
        return 1.0 + 0.03 * n + 0.15 * n

    tokens, spent = [], []
    for i in range(300):
        drafted, accepted = one_step(policy, right, generator)
        noise = generator.uniform(1.0, 1.1)
        verify = (1.0 + 0.03 * drafted) * noise + 20.0 * (i == 0)  # the first reads the prompt
        policy.observe(
            outcome(drafted, accepted, draft_seconds=0.15 * drafted, verify_seconds=verify)
        )
        tokens.append(accepted + 1)
        spent.append(seconds(drafted))
    best = max(sum(right**i for i in range(k + 1)) / seconds(k) for k in range(17))
    late = slice(150, None)
    assert sum(tokens[late]) / sum(spent[late]) > 0.85 * best


@pytest.mark.parametrize("right", [0.5, 0.8, 0.9])
@pytest.mark.parametrize(
    ("step", "guess", "other"),
    [(0.0, 0.1, 0.0), (0.2, 0.07, 0.2), (0.5, 0.07, 0.2), (0.5, 0.2, 0.3), (1.0, 0.05, 0.3)],
)
@pytest.mark.parametrize("kind", [draft_lengths.CostByPosition, draft_lengths.CostByProbability])
def test_what_a_step_costs_by_itself_is_not_taken_for_what_a_guess_costs(
    kind, step, guess, other, right
):
    """As on a GPU, where the first guess takes most, and much passes outside of passes."""
    policy = kind(16, PassCosts(((1, 1.0), (33, 1.3)), step + guess))
    generator, tokens, spent = random.Random(2), [], []

    def cost(n: int) -> tuple[float, float]:
        return step * (n > 0) + guess * n, 1.0 + 0.01 * n

    def expected(n: int) -> float:
        return sum(right**i for i in range(n + 1))

    for _ in range(400):
        drafted, accepted = one_step(policy, right, generator)
        draft, verify = (s * generator.uniform(1.0, 1.1) for s in cost(drafted))
        times = {"draft_seconds": draft, "verify_seconds": verify, "other_seconds": other}
        policy.observe(outcome(drafted, accepted, **times))
        tokens.append(expected(drafted))
        spent.append(sum(cost(drafted)) + other)
    rates = [expected(k) / (sum(cost(k)) + other) for k in range(17)]
    late = slice(150, None)
    assert sum(tokens[late]) / sum(spent[late]) > 0.9 * max(rates)
