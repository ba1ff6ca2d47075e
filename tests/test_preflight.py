"""Before a run: what it may gain here. After it: why it did, or did not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_what_if import PRICES, lane

from stairs_core import pair as pairs
from stairs_core.errors import InputError
from stairs_core.preflight import ALPHAS, preflight
from stairs_core.prices import Costs
from stairs_core.render import card
from stairs_core.render.cells import Paint
from stairs_core.render.why import why
from stairs_core.settings import AUTO, Settings
from stairs_core.trace import Recording, Stop, Token


@pytest.fixture
def priced(tiny_pair, monkeypatch):
    """The tiny pair with costs that are known: plain decoding 10 ms a token, a guess 1 ms."""

    def measured(pair, backend, numerics, *, drafts, roughly=False):
        last = 0.02 if backend == "single_kv" else 0.2
        return Costs(((1, 0.01), (17, last)), 0.001 * drafts, 100)

    monkeypatch.setattr(pairs.costs, "measure", measured)
    return replace(tiny_pair, parameters=(1000, 100))


def test_the_card_reckons_by_the_formula(priced):
    found = preflight(priced, Settings(k=4))
    assert found.v[0] == (1, 1.0)
    assert dict(found.v)[5] == pytest.approx(1.25)
    assert found.c == pytest.approx(0.1)
    assert [p.alpha for p in found.promises] == list(ALPHAS)
    expected = 1 + 0.7 + 0.7**2 + 0.7**3 + 0.7**4
    assert found.promises[1].speedup == pytest.approx(expected / (1.25 + 4 * 0.1))

    def at(k: int) -> float:
        return sum(0.7**i for i in range(k + 1)) / (1 + k / 16 + k * 0.1)

    best = max(range(1, 17), key=at)
    assert found.best_k == best
    auto = preflight(priced, Settings(**AUTO))
    assert auto.k is None
    assert (auto.promises[1].k, auto.promises[1].speedup) == (best, pytest.approx(at(best)))
    assert found.tokenizers == "the same"
    assert len(found.warnings) == 1
    assert "CPU" in found.warnings[0]
    drawn = "\n".join(card.lines(found, Paint(False)))
    assert f"70 % hold       {found.promises[1].speedup:.2f} × with K = 4" in drawn
    for name in ("lookup", "none", "tree"):
        other = preflight(priced, Settings(name))
        assert bool(other.promises) == (name == "lookup")
        assert other.c == pytest.approx(0.1 * (name == "tree"))
        assert card.lines(other, Paint(False))


def test_the_card_warns(priced):
    priced.target.config.num_local_experts = 8
    try:
        heavy = replace(priced, parameters=(1000, 500))
        words = preflight(heavy, Settings(k=6, backend="matrix")).warnings
    finally:
        del priced.target.config.num_local_experts
    for word in ("mixture", "2.0 times", "CPU", "over 7 tokens costs 8.1 times", "No K pays"):
        assert sum(word in sentence for sentence in words) == 1, word
    assert all(w.endswith(".") and w.count(". ") == 0 for w in words)


def test_a_pair_that_cannot_do_it_is_refused(priced):
    with pytest.raises(InputError, match="no draft model"):
        preflight(replace(priced, draft=None), Settings())


def test_other_lengths_are_marked():
    run = lane(3, 2, 1.0, 3.0, 10.0, max_new_tokens=9, prices=(PRICES,))
    run = replace(run, stop=replace(run.stop, agrees="110111110"))
    from stairs_core.metrics import what_if

    told = card.other_lengths(what_if(run, None, (1, 2, 3)), 1, Paint(False))
    assert [line.split()[:2] for line in told] == [
        ["K", "steps"],
        ["1", "5"],
        ["2", "3"],
        ["3", "3"],
    ]
    assert told[1].endswith("  this run")
    assert told[2].endswith("  best")


def wrong(run: Recording, guesses: int) -> Recording:
    """The same times, but ``guesses`` of every step did not hold."""
    steps = []
    for i, step in enumerate(run.steps):
        tokens = list(step.tokens)
        tokens[-1 - guesses : -1] = [Token(3, "a", "rejected", "model")] * guesses
        kept, each = step.accepted - guesses, len(tokens) - guesses
        start = 2 + i * each
        steps.append(replace(step, tokens=tuple(tokens), accepted=kept, start=start))
    return replace(run, steps=tuple(steps))


PLAIN = lane(40, 0, 0.0, 1.9, 0.0, drafter="none", prices=(replace(PRICES, draft=0.0),))
MODEL = {"draft": "d", "prices": (replace(PRICES, draft=0.25),)}


def test_why_it_paid_or_not():
    """Plain decoding takes 2 s a token."""
    busier = lane(4, 4, 1.3, 1.9, 0.0, **MODEL)
    busier = [replace(s, other_seconds=0.6, elapsed=3.8 * (s.index + 1)) for s in busier.steps]
    said = why(PLAIN, replace(lane(4, 4, 1.3, 1.9, 0.0, **MODEL), steps=tuple(busier)))
    assert said == (
        "It paid: measured 2.63 ×, where passes alone allow 3.03 × at these guesses; 100 % of the "
        "guesses held, and what cost most was guessing, 34 % of the time."
    )
    slow = why(PLAIN, lane(4, 4, 1.0, 19.0, 0.0, draft="d"))
    assert slow == (
        "It did not pay: measured 0.50 ×, where passes alone allow 0.50 × at these guesses; 100 % "
        "of the guesses held, and what cost most was checking several tokens at once, 10.0 times a "
        "pass over one."
    )
    missed = why(PLAIN, wrong(lane(4, 4, 0.1, 1.9, 0.0), 4))
    assert missed == (
        "It did not pay: measured 0.95 ×, where passes alone allow 0.95 × at these guesses; 0 % of "
        "the guesses held, and what cost most was the guesses that did not hold."
    )
    copied = why(PLAIN, lane(4, 4, 5.0, 1.9, 0.0, drafter="lookup"))
    assert "what cost most was looking for guesses, 71 % of the time." in copied
    stopped = why(PLAIN, replace(lane(4, 4, 1.3, 1.9, 0.0), stop=Stop("stopped", "a")))
    assert stopped.startswith(
        "It paid: measured 3.03 × until it was stopped, where passes alone allow 3.03 × at"
    )
    assert why(PLAIN, PLAIN) == (
        "Nothing was guessed, so nothing could be gained: measured 1.00 ×."
    )
    assert why(lane(4, 2, 1.0, 1.9, 0.0), lane(4, 2, 1.0, 1.9, 0.0)).startswith("Measured 1.00 ×,")
    nothing = replace(PLAIN, steps=())
    assert why(PLAIN, nothing) == "There are no times of both lanes to compare."
