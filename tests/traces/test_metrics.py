"""Every number comes from the records, and means what its definition says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from recordings import add_step, head

from stairs_core.traces.metrics import compare, fold, progress
from stairs_core.traces.records import Prediction, Recording, Step, Stop, Token


def record(*steps: tuple[str, int, float], reason="length", margin=2.0, ids=None) -> Recording:
    """Each step is (first letters of its tokens' statuses, accepted, seconds).

    Half of the seconds are verifying, a quarter drafting.
    """
    names = {
        s[0]: s for s in ("accepted", "rejected", "unchecked", "correction", "bonus", "dropped")
    }
    made: list[Step] = []
    fresh = iter(ids or range(100, 999))
    for index, (letters, accepted, seconds) in enumerate(steps):
        tokens = tuple(
            Token(next(fresh) if x in "acb" else 7, x, names[x], "model") for x in letters
        )
        rows = tuple(Prediction(t.id, t.text, margin) for t in tokens)
        parts = (seconds / 4, seconds / 2, seconds / 4)
        stop = reason if index == len(steps) - 1 else None
        add_step(made, tokens, rows, accepted, parts, prompt=3, stop=stop)
    run = head(prompt_ids=(1, 2, 3), prompt_tokens=("a", "b", "c"), draft="D", k=3)
    return Recording(run, tuple(made), Stop(reason, ""))


ASSISTED = record(("aab", 2, 0.3), ("aruc", 1, 0.3), ("rc", 0, 0.2), ("aadd", 3, 0.2), reason="eos")


def test_fold():
    s = fold(ASSISTED.steps)
    assert (s.new_tokens, s.steps, s.stop_reason) == (8, 4, "eos")
    assert (s.drafted, s.accepted, s.checked) == (9, 5, 7)
    assert s.acceptance_rate == 5 / 9
    assert s.alpha == 5 / 7
    assert s.tokens_per_target_call == 2.0
    assert s.seconds == pytest.approx(1.0)
    assert s.tokens_per_second == pytest.approx(8.0)
    assert s.draft_seconds + s.verify_seconds + s.other_seconds == pytest.approx(s.seconds)


def test_nothing_drafted_has_no_rate_instead_of_a_zero():
    s = fold(record(("b", 0, 0.1), ("b", 0, 0.1)).steps)
    assert (s.acceptance_rate, s.alpha, s.tokens_per_target_call) == (None, None, 1.0)
    assert fold([]).tokens_per_second == 0.0


def test_progress_starts_at_nothing():
    seconds, tokens = progress(ASSISTED.steps)
    assert seconds == pytest.approx([0, 0.3, 0.6, 0.8, 1.0])
    assert tokens == [0, 3, 5, 6, 8]


def test_the_same_text_faster():
    plain = record(*[("b", 0, 0.25)] * 8, reason="eos")
    c = compare(plain, ASSISTED)
    assert c.speedup == pytest.approx(2.0)
    assert (c.identical, c.first_difference, c.calls_saved) == (True, None, 4)


@pytest.mark.parametrize(("margin", "verdict"), [(1e-5, "rounding tie"), (0.5, "bug")])
def test_a_difference_is_named(margin: float, verdict: str):
    plain = record(*[("b", 0, 0.1)] * 4, ids=[1, 2, 3, 4])
    other = record(("ab", 1, 0.1), ("ab", 1, 0.1), ids=[1, 2, 9, 4], margin=margin)
    for noise, expected in ((1e-5, verdict), (None, "not measured")):
        told = replace(other, stop=replace(other.stop, noise=noise))
        c = compare(plain, told)
        assert not c.identical
        assert c.first_difference is not None
        assert (c.first_difference.position, c.first_difference.verdict) == (2, expected)


def test_a_shorter_text_is_the_same_only_when_it_was_stopped():
    plain = record(*[("b", 0, 0.1)] * 4, ids=[1, 2, 3, 4])
    stopped = record(("b", 0, 0.1), ids=[1], reason="stopped")
    shorter = record(("b", 0, 0.1), ids=[1])
    assert compare(plain, stopped).identical
    assert compare(plain, stopped).calls_saved is None
    assert not compare(plain, shorter).identical


def test_a_race_that_was_interrupted_is_judged_by_what_both_wrote():
    """Ctrl-C comes between steps: no step says that the run was stopped."""
    plain = record(*[("b", 0, 0.1)] * 4, ids=[1, 2, 3, 4])
    short = replace(plain, steps=plain.steps[:2], stop=replace(plain.stop, reason="stopped"))
    c = compare(plain, short)
    assert (c.identical, c.calls_saved) == (True, None)
