"""What passes cost: measured when asked, told by a run's head, and refused where it cannot be."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
from recordings import head, recording

from stairs_core import costs, tracefile
from stairs_core.errors import InputError
from stairs_core.prices import Costs
from stairs_core.race import Runner
from stairs_core.settings import BACKENDS, Settings
from stairs_core.trace import Prices


def fresh(pair):
    """The same models, of which nothing has been measured."""
    return replace(pair)


def test_a_run_tells_what_was_measured_and_measures_nothing(tiny_pair, monkeypatch):
    pair = fresh(tiny_pair)
    runner = Runner(pair, "Once upon a time", Settings(k=3, max_new_tokens=4))
    assert runner.run.prices == ()
    pair.measure_prices()
    monkeypatch.setattr(costs, "measure", None)
    head = Runner(pair, "Once upon a time", Settings(k=3, max_new_tokens=4)).run
    assert [p.backend for p in head.prices] == list(BACKENDS)
    assert head.prices[0].widths == (1, 2, 3, 5, 7, 9, 13, 17, 33)
    assert head.prices[3].widths == (1, 3, 5, 9, 17)
    assert all(p.draft > 0 for p in head.prices)
    assert Costs.of(head) == pair.costs(drafts=True)
    assert head.parameters == pair.parameters
    assert head.bytes == tuple(4 * n for n in pair.parameters)
    alone = Runner(pair, "Once upon a time", Settings("none")).run
    assert Costs.of(alone) == pair.costs()
    assert (len(alone.parameters), {p.draft for p in alone.prices}) == (1, {0.0})
    # Of its own strict passes, or of its own backend, only what was measured as such.
    strict = Runner(pair, "Once upon a time", Settings(numerics="strict")).run
    assert "single_kv" not in [p.backend for p in strict.prices]
    assert Costs.of(strict) is None
    empty = replace(recording(), run=head, steps=())
    assert tracefile.loads(tracefile.dumps([empty])) == [empty]


def test_k_auto_knows_its_own_prices(tiny_pair):
    from stairs_core.race import race

    runner = Runner(fresh(tiny_pair), "Once", Settings(k=8, length="cost", max_new_tokens=4))
    assert list(race([runner]))
    assert Costs.of(runner.run) is not None


def test_what_cannot_be_done_or_is_slow_stays_unknown(tiny_pair, monkeypatch):
    pair, measure = fresh(tiny_pair), costs.measure

    def odd(pair, backend, *args, roughly=False, **rest):
        if backend == "matrix_kv":
            raise RuntimeError("no such kernel")
        return measure(pair, backend, *args, roughly=roughly, **rest)

    monkeypatch.setattr(costs, "measure", odd)
    monkeypatch.setattr(costs, "_LONGEST", 0.0)
    pair.measure_prices()
    assert [p.backend for p in pair.prices("single_kv", "fast", drafts=True)] == ["single_kv"]


def test_all_backends_of_the_bundled_pair_are_priced_in_seconds():
    """Of work, as far as other processes let it: the limits are on the clock on the wall."""
    from stairs_core.models import load_pair

    pair = load_pair("bundled", "cpu")
    began = time.process_time()
    pair.measure_prices()
    assert time.process_time() - began < 2 * 4, "two cores"
    assert len(pair.prices("single_kv", "fast", drafts=True)) == 4


BAD = [
    {"widths": [], "seconds": []},
    {"widths": [1, 1]},
    {"widths": [0, 1]},
    {"widths": [3, 2]},
    {"seconds": [1.0]},
    {"seconds": [0.0, 1.0]},
    {"draft": -1.0},
]


@pytest.mark.parametrize("change", BAD, ids=str)
def test_prices_that_nothing_can_have_are_refused(change):
    good = Prices("single_kv", 100, (1, 2), (1.0, 1.5), 0.1)
    priced = replace(recording(), run=head(prices=(good,)))
    assert tracefile.loads(tracefile.dumps([priced])) == [priced]
    lines = tracefile.dumps([priced]).splitlines()
    first = json.loads(lines[0])
    first["prices"][0] |= change
    with pytest.raises(InputError, match="line 1 has a wrong or missing `prices`"):
        tracefile.loads("\n".join([json.dumps(first), *lines[1:]]) + "\n")
