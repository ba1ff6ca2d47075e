"""What passes cost: measured when asked, and told by a run's head."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from recordings import recording

from stairs_core.errors import InputError
from stairs_core.measuring import pass_timing
from stairs_core.measuring.race import race
from stairs_core.measuring.runner import Runner
from stairs_core.settings.settings import BACKENDS, Settings
from stairs_core.traces import files
from stairs_core.traces.pass_costs import PassCosts


def test_a_run_tells_what_was_measured_and_measures_nothing(unmeasured, monkeypatch, usual_timing):
    pair = unmeasured
    runner = Runner(pair, "Once upon a time", Settings(k=3, max_new_tokens=4))
    assert runner.run.prices == ()
    pass_timing.measure_all(pair)
    monkeypatch.setattr(pass_timing, "measure", None)
    head = Runner(pair, "Once upon a time", Settings(k=3, max_new_tokens=4)).run
    assert [p.backend for p in head.prices] == list(BACKENDS)
    assert head.prices[0].widths == (1, 2, 3, 5, 7, 9, 13, 17, 33)
    assert head.prices[3].widths == (1, 3, 5, 9, 17)
    assert all(p.draft > 0 for p in head.prices)
    assert PassCosts.of(head) == pass_timing.costs(pair, drafts=True)
    assert head.parameters == pair.parameters
    assert head.bytes == tuple(4 * n for n in pair.parameters)
    alone = Runner(pair, "Once upon a time", Settings("none")).run
    assert PassCosts.of(alone) == pass_timing.costs(pair)
    assert (len(alone.parameters), {p.draft for p in alone.prices}) == (1, {0.0})
    # Of its own strict passes, or of its own backend, only what was measured as such.
    strict = Runner(pair, "Once upon a time", Settings(numerics="strict")).run
    assert "single_kv" not in [p.backend for p in strict.prices]
    assert PassCosts.of(strict) is None
    empty = replace(recording(), run=head, steps=())
    assert files.loads(files.dumps([empty])) == [empty]


@pytest.mark.parametrize("passes", [0, 3])
@pytest.mark.parametrize("known", [False, True])  # True: only rough measurements are left
def test_measuring_ends_before_the_next_pass(unmeasured, known, passes):
    pair, looks = unmeasured, 0

    def look():
        nonlocal looks
        looks += 1
        if looks > passes:
            raise InputError("Stopped.")

    if known:
        pass_timing.costs(pair)
        pass_timing.costs(pair, drafts=True)
    with pytest.raises(InputError, match="Stopped"):
        pass_timing.measure_all(pair, look=look)
    assert looks <= passes + 3  # one of them for each backend that is still to be tried
    assert pass_timing._known(pair).rough == {}


def test_k_auto_knows_its_own_prices(unmeasured):
    runner = Runner(unmeasured, "Once", Settings(k=8, length="cost", max_new_tokens=4))
    assert list(race([runner]))
    assert PassCosts.of(runner.run) is not None


def test_what_cannot_be_done_or_is_slow_stays_unknown(unmeasured, monkeypatch):
    pair, measure = unmeasured, pass_timing.measure

    def odd(pair, backend, *args, roughly=False, **rest):
        if backend == "matrix_kv":
            raise RuntimeError("no such kernel")
        return measure(pair, backend, *args, roughly=roughly, **rest)

    monkeypatch.setattr(pass_timing, "measure", odd)
    monkeypatch.setattr(pass_timing, "_LONGEST", 0.0)
    pass_timing.measure_all(pair)
    assert [p.backend for p in pass_timing.prices(pair, "single_kv", "fast", drafts=True)] == [
        "single_kv"
    ]


def test_all_backends_of_the_bundled_pair_are_priced_in_seconds(usual_timing):
    """Of work, as far as other processes let it: the limits are on the clock on the wall."""
    from stairs_core.models.load import load_pair

    pair = load_pair("bundled", "cpu")
    began = time.process_time()
    pass_timing.measure_all(pair)
    assert time.process_time() - began < 2 * 4, "two cores"
    assert len(pass_timing.prices(pair, "single_kv", "fast", drafts=True)) == 4


def test_costs_of_a_pair_are_seconds(tiny_pair):
    costs = pass_timing.measure(tiny_pair, "single_kv", "fast", drafts=True)
    assert [n for n, _ in costs.passes] == [1, 2, 3, 5, 7, 9, 13, 17, 33]
    assert all(0 < seconds < 1 for _, seconds in costs.passes)
    assert 0 < costs.draft < 1
    assert pass_timing.measure(tiny_pair, "single_kv", "strict", drafts=False).draft == 0
    assert pass_timing.costs(tiny_pair) is pass_timing.costs(tiny_pair)


def test_measuring_takes_no_longer_where_rounds_differ_than_it_may(tiny_pair, usual_timing):
    began = time.process_time()
    pass_timing.measure(tiny_pair, "single_kv", "fast", drafts=True)
    assert time.process_time() - began < 2 * 4, "two cores"
