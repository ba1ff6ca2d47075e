"""What passes cost, between and past the widths that were measured."""

from __future__ import annotations

from dataclasses import replace

import pytest
from recordings import PRICES, steady_lane

from stairs_core.traces.pass_costs import PassCosts, Passes, at_the_pace, monotone, unsteadiness


def test_costs_are_read_between_what_was_measured():
    costs = PassCosts(((1, 2.0), (5, 4.0), (9, 6.0)), 0.5)
    assert [costs.target(n) for n in (1, 3, 5, 7, 9)] == [2, 3, 4, 5, 6]
    assert costs.target(18) == 12


def test_a_price_is_never_less_for_more():
    assert monotone([[3.0], [1.0, 1.0, 1.1], [2.0]]) == [1.0, 1.0, 2.0]
    assert monotone([[1.0] * 5, [0.3], [1.2] * 5]) == [1.0, 1.0, 1.2]


def test_passes_of_the_run_overrule_what_was_measured_before():
    before = PassCosts(((1, 1.0), (5, 2.0), (9, 9.0)), 0.1)
    passes = Passes(before, floor=[3.0, 3.0])
    assert [passes(n) for n in (1, 3, 5)] == [3.0, 3.0, 3.0]
    for seconds in (4.0, 4.0, 40.0):
        passes.saw(5, seconds)
    assert passes(5) == 4.0
    assert (passes.made(5), passes.made(9)) == (True, False)
    assert 3.0 <= passes(3) <= 4.0
    assert passes(9) == 4.0 * 9.0 / 2.0
    passes.saw(9, 4.4)
    assert passes(9) == 18.0, "of one, nobody could say that it was disturbed"
    passes.saw(9, 4.4)
    assert (passes(9), passes(7)) == (4.4, pytest.approx(4.2))


def test_tokens_that_are_no_guesses_count_for_the_width_of_a_pass():
    lane = steady_lane(6, 2, 0.0, 2.0, 0.0, prices=(PRICES,))  # 1 s over one token, 2 s over five
    assert at_the_pace(lane)["single_kv"].target(1) == pytest.approx(2.0 / 1.5)
    more = [replace(step, probe=2) for step in lane.steps]
    assert [step.width for step in more] == [5] * 6
    assert at_the_pace(replace(lane, steps=tuple(more)))["single_kv"].target(1) == 1.0
    mixed = [replace(s, probe=2, verify_seconds=3.0) if s.index % 2 else s for s in lane.steps]
    assert unsteadiness(mixed) == 1.0, "passes of two widths, each as long as the others of it"
