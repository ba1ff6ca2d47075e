"""After a run: why it paid, or did not."""

from __future__ import annotations

from dataclasses import replace

from recordings import PRICES, steady_lane

from stairs_core.render.explain import ahead, why
from stairs_core.traces.records import Recording, Stop, Token


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


PLAIN = steady_lane(40, 0, 0.0, 1.9, 0.0, drafter="none", prices=(replace(PRICES, draft=0.0),))
"""The target alone: 2 s a token."""
MODEL = {"draft": "d", "prices": (replace(PRICES, draft=0.25),)}


def test_it_paid_and_guessing_cost_most():
    busier = steady_lane(4, 4, 1.3, 1.9, 0.0, **MODEL)
    steps = [replace(s, other_seconds=0.6, elapsed=3.8 * (s.index + 1)) for s in busier.steps]
    assert why(PLAIN, replace(busier, steps=tuple(steps))) == (
        "It paid: measured 2.63 ×, where passes alone allow 3.03 × at these guesses; 100 % of the "
        "guesses held, and what cost most was guessing, 34 % of the time."
    )


def test_it_did_not_pay_as_wide_passes_cost_too_much():
    assert why(PLAIN, steady_lane(4, 4, 1.0, 19.0, 0.0, draft="d")) == (
        "It did not pay: measured 0.50 ×, where passes alone allow 0.50 × at these guesses; 100 % "
        "of the guesses held, and what cost most was checking several tokens at once, 10.0 times a "
        "pass over one."
    )


def test_it_did_not_pay_as_no_guess_held():
    assert why(PLAIN, wrong(steady_lane(4, 4, 0.1, 1.9, 0.0), 4)) == (
        "It did not pay: measured 0.95 ×, where passes alone allow 0.95 × at these guesses; 0 % of "
        "the guesses held, and what cost most was the guesses that did not hold."
    )


def test_looking_for_copies_cost_most():
    copied = why(PLAIN, steady_lane(4, 4, 5.0, 1.9, 0.0, drafter="lookup"))
    assert "what cost most was looking for guesses, 71 % of the time." in copied


def test_a_run_that_was_stopped_is_explained_up_to_there():
    lane = steady_lane(4, 4, 1.3, 1.9, 0.0)
    assert why(PLAIN, replace(lane, stop=Stop("stopped", "a"))).startswith(
        "It paid: measured 3.03 × until it was stopped, where passes alone allow 3.03 × at"
    )


def test_nothing_that_can_be_explained():
    assert why(PLAIN, PLAIN) == (
        "Nothing was guessed, so nothing could be gained: measured 1.00 ×."
    )
    chain = steady_lane(4, 2, 1.0, 1.9, 0.0)
    assert why(chain, chain).startswith("Measured 1.00 ×,")
    nothing = replace(PLAIN, steps=())
    assert why(PLAIN, nothing) == "There are no times of both lanes to compare."


def reading_more(more: int, verify: float, **run) -> Recording:
    """A lane of two guesses a step, whose passes read ``more`` tokens for the next guesses."""
    lane = steady_lane(4, 2, 0.01, verify, 0.0, drafter="space", **run)
    return replace(lane, steps=tuple(replace(step, probe=more) for step in lane.steps))


def test_what_is_read_for_the_next_guesses_is_counted_as_measured():
    # Before the run a pass over one token took 1 s, over three 1.5 s; in this run it takes 1.9 s.
    lane = reading_more(6, 5.7, prices=(replace(PRICES, draft=0.0),))
    assert ahead(PLAIN, lane) == (
        "A pass here reads 9 tokens, 6 of them only for the next guesses: 3.00 times the time of a "
        "pass of the target alone. Without those 6 it is 1.50 times, as measured before the run."
    )
    assert "what cost most was reading 6 tokens more in each pass for the next guesses, which " in (
        why(PLAIN, lane)
    )
    assert "makes it 2.0 times as long" in why(PLAIN, lane)


def test_what_was_not_measured_is_said_to_be_so():
    doubtful = replace(PRICES, spread=3.0)
    for prices in ((), (doubtful,), (replace(PRICES, backend="matrix"),)):
        lane = reading_more(6, 5.7, prices=prices)
        said = "What a pass without those 6 takes was not measured."
        assert ahead(PLAIN, lane).endswith(said)
        assert "passes over 9 tokens, 6 of them read for the next guesses: 3.0 times" in (
            why(PLAIN, lane)
        )


def test_nothing_is_said_where_no_more_was_read():
    lane = steady_lane(4, 2, 0.01, 1.9, 0.0)
    assert ahead(PLAIN, lane) == ahead(lane, reading_more(6, 1.9)) == ""
    untimed = [replace(step, verify_seconds=0.0) for step in reading_more(6, 1.0).steps]
    assert ahead(PLAIN, replace(lane, steps=tuple(untimed))) == ""
