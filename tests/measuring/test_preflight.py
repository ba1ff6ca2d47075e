"""Before a run: what it may gain here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stairs_core.errors import InputError
from stairs_core.measuring import pass_timing
from stairs_core.measuring.preflight import ALPHAS, preflight
from stairs_core.render import preflight_card
from stairs_core.render.terminal.text import Paint
from stairs_core.settings.settings import AUTO, Settings
from stairs_core.traces.pass_costs import PassCosts


@pytest.fixture
def priced(unmeasured, monkeypatch):
    """The tiny pair with costs that are known: plain decoding 10 ms a token, a guess 1 ms."""

    def measured(pair, backend, numerics, *, drafts, roughly=False, look=bool):
        last = 0.02 if backend == "single_kv" else 0.2
        return PassCosts(((1, 0.01), (17, last)), 0.001 * drafts, 100)

    monkeypatch.setattr(pass_timing, "measure", measured)
    return replace(unmeasured, parameters=(1000, 100))


def best_by_hand() -> tuple[int, float]:
    """The best K and its speedup where 70 % of the guesses hold."""

    def at(k: int) -> float:
        return sum(0.7**i for i in range(k + 1)) / (1 + k / 16 + k * 0.1)

    best = max(range(1, 17), key=at)
    return best, at(best)


def test_the_card_reckons_by_the_formula(priced):
    found = preflight(priced, Settings(k=4))
    assert found.v[0] == (1, 1.0)
    assert dict(found.v)[5] == pytest.approx(1.25)
    assert found.c == pytest.approx(0.1)
    assert [p.alpha for p in found.promises] == list(ALPHAS)
    expected = 1 + 0.7 + 0.7**2 + 0.7**3 + 0.7**4
    assert found.promises[1].speedup == pytest.approx(expected / (1.25 + 4 * 0.1))
    assert found.best_k == best_by_hand()[0]


def test_with_k_auto_the_card_promises_the_best_k(priced):
    best, speedup = best_by_hand()
    auto = preflight(priced, Settings(**AUTO))
    assert auto.k is None
    assert (auto.promises[1].k, auto.promises[1].speedup) == (best, pytest.approx(speedup))


@pytest.mark.cpu
def test_the_card_is_drawn_with_its_promises_and_warnings(priced):
    found = preflight(priced, Settings(k=4))
    assert found.tokenizers == "the same"
    assert len(found.warnings) == 1
    assert "CPU" in found.warnings[0]
    drawn = "\n".join(preflight_card.lines(found, Paint(False)))
    assert f"70 % hold       {found.promises[1].speedup:.2f} × with K = 4" in drawn


def test_only_guesses_of_known_cost_get_promises(priced):
    for name in ("lookup", "none", "tree"):
        other = preflight(priced, Settings(name))
        assert bool(other.promises) == (name == "lookup")
        assert other.c == pytest.approx(0.1 * (name == "tree"))
        assert preflight_card.lines(other, Paint(False))


@pytest.mark.cpu
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


@pytest.mark.parametrize(
    ("name", "k", "width"), [("space", 4, 25), ("space", 9, 36), ("lookahead", 9, 24)]
)
def test_what_a_pass_reads_besides_guesses_counts(priced, name, k, width):
    (words,) = [w for w in preflight(priced, Settings(name, k=k)).warnings if "A pass" in w]
    assert (
        words
        == f"A pass over {width} tokens costs {0.02 * width / 17 / 0.01:.1f} times a pass over one."
    )


def test_a_pair_that_cannot_do_it_is_refused(priced):
    with pytest.raises(InputError, match="no draft model"):
        preflight(replace(priced, draft=None), Settings())
