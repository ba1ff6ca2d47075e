"""One run says what every other K would have taken: counts exactly, seconds by the prices."""

from __future__ import annotations

from dataclasses import replace

import pytest
from recordings import PRICES, head, steady_lane

from stairs_core.decoding import samplers
from stairs_core.measuring import draft_matches
from stairs_core.measuring.bench import HELD_OUT, read_prompts
from stairs_core.measuring.race import race
from stairs_core.measuring.runner import Runner
from stairs_core.models.load import load_pair
from stairs_core.settings.sampling import Sampling
from stairs_core.settings.settings import Settings
from stairs_core.traces import metrics
from stairs_core.traces.records import Recording, Stop
from stairs_core.traces.what_if import what_if

PROMPTS = read_prompts(HELD_OUT, 10)
GREEDY = samplers.Greedy(samplers.Processors())


@pytest.fixture(scope="module")
def bundled():
    return load_pair("bundled", "cpu", "float32")


def decoded(pair, prompt: str, k: int, new: int = 48, **settings) -> Recording:
    runner = Runner(pair, prompt, Settings(k=k, max_new_tokens=new, **settings))
    assert list(runner.decode())
    runner.match_draft()
    return runner.recording()


def counts(recording: Recording) -> tuple[int, int, int]:
    found = metrics.fold(recording.steps)
    return found.steps, found.accepted, found.new_tokens


@pytest.mark.parametrize(
    "prompt",
    [pytest.param(p, marks=pytest.mark.slow if i > 3 else ()) for i, p in enumerate(PROMPTS)],
    ids=range(len(PROMPTS)),
)
def test_one_run_counts_the_steps_of_every_k(bundled, prompt):
    found = what_if(decoded(bundled, prompt, 5), ks=range(1, 13))
    real = [counts(decoded(bundled, prompt, k)) for k in range(1, 13)]
    assert [(w.steps, w.accepted, w.new_tokens) for w in found] == real


def cut(pair, prompt: str, at: int):
    """The pair for which the text of ``prompt`` ends with new token ``at``."""
    text = [t.id for s in decoded(pair, prompt, 5).steps for t in s.committed]
    end = text[at]
    return replace(pair, eos_ids=frozenset([end])), text.index(end) + 1


@pytest.mark.parametrize("numerics", ["fast", "strict"])
def test_steps_are_counted_up_to_an_end_of_text(tiny_pair, numerics):
    for at, ks in ((9, (1, 4, 8)), (14, (2, 3, 12)), (22, (6, 7))):
        pair, new = cut(tiny_pair, "Once upon a time", at)
        first = decoded(pair, "Once upon a time", 5, numerics=numerics)
        assert (first.stop.reason, len(first.stop.draft_matches or "")) == ("eos", new)
        found = what_if(first, ks=ks)
        real = [counts(decoded(pair, "Once upon a time", k)) for k in ks]
        assert [(w.steps, w.accepted, w.new_tokens) for w in found] == real


def test_steps_are_counted_up_to_the_context(tiny_pair):
    pair = replace(tiny_pair, context_length=40)
    found = what_if(decoded(pair, "The fox ran", 3, 96), ks=(1, 2, 4, 8))
    runs = [decoded(pair, "The fox ran", k, 96) for k in (1, 2, 4, 8)]
    assert {r.stop.reason for r in runs} == {"context"}
    assert [(w.steps, w.accepted, w.new_tokens) for w in found] == [counts(r) for r in runs]
    drafted = [metrics.fold(r.steps).drafted for r in runs]
    assert [w.drafted for w in found] == drafted, "no end of text was guessed"


def test_a_run_that_was_stopped_is_looked_back_on_too(tiny_pair):
    runner = Runner(tiny_pair, "Once upon a time", Settings(k=4))
    stopped = race([runner], lambda: len(runner.steps) == 3, match_drafts=True)
    *_, (_, stop) = stopped
    assert isinstance(stop, Stop)
    assert stop == runner.recording().stop
    steps_by_k = {w.k: w.steps for w in what_if(runner.recording())}
    assert steps_by_k[4] == len(runner.steps)


def test_long_texts_are_read_in_parts(tiny_pair, monkeypatch):
    lane = decoded(tiny_pair, "Once upon a time", 4)
    monkeypatch.setattr(draft_matches, "_PART", 7)
    assert draft_matches.compute(tiny_pair, GREEDY, lane) == lane.stop.draft_matches


def test_what_the_run_saw_overrules_what_the_draft_says_later(tiny_pair):
    lane = decoded(tiny_pair, "Once upon a time", 4)
    other = replace(tiny_pair, draft=tiny_pair.target)  # agrees with all of its own text
    bits = draft_matches.compute(other, GREEDY, lane)
    assert bits is not None
    for step in lane.steps:
        at = step.start - len(lane.run.prompt_ids)
        seen = ["01"[t.status == "accepted"] for t in step.drafted if t.status != "unchecked"]
        assert bits[at : at + len(seen)] == "".join(seen)
    assert "0" in bits < "1" * len(bits)


def test_nothing_is_said_where_guesses_depend_on_more(tiny_pair):
    for settings in (
        {"drafter": "none"},
        {"drafter": "tree"},
        {"drafter": "lookup"},
        {"sampling": Sampling(temperature=0.7)},
        {"sampling": Sampling(temperature=0.0, repetition_penalty=1.3)},
    ):
        lane = decoded(tiny_pair, "Once upon a time", 4, 12, **settings)
        assert lane.stop.draft_matches is None
        assert what_if(lane) == []
    whole = decoded(tiny_pair, "Once upon a time", 4, 12)
    assert what_if(replace(whole, stop=replace(whole.stop, draft_matches="1"))) == []


@pytest.fixture
def plain() -> Recording:
    """Eighteen steps of the target alone, of 2.1 s each: twice what was measured before, too."""
    return steady_lane(18, 0, 0.0, 2.0, 0.0, drafter="none")


@pytest.fixture
def drafted() -> Recording:
    """Three steps of two guesses, all right. Checks take twice what was measured, a guess 0.5 s,
    the rest 0.1 s, and the prompt 10 s of the first step."""
    lane = steady_lane(3, 2, 1.0, 3.0, 10.0, max_new_tokens=9, prices=(PRICES,))
    return replace(lane, stop=replace(lane.stop, draft_matches="110111110"))


def test_other_ks_are_counted_as_worked_by_hand(drafted, plain):
    one, two, five = what_if(drafted, plain, (1, 2, 5))
    assert (one.steps, one.drafted, one.accepted) == (5, 5, 4)
    assert (two.steps, two.drafted, two.accepted, two.tokens_per_target_call) == (3, 6, 6, 3.0)
    assert (five.steps, five.drafted, five.accepted, five.acceptance_rate) == (2, 10, 7, 0.7)


def test_other_ks_are_timed_as_worked_by_hand(drafted, plain):
    one, two, five = what_if(drafted, plain, (1, 2, 5))
    assert two.seconds == pytest.approx(drafted.steps[-1].elapsed) == pytest.approx(22.3)
    assert one.seconds == pytest.approx(10 + 5 * (2 * 1.25 + 0.5 + 0.1))
    assert five.seconds == pytest.approx(10 + 2 * (2 * 2.4 + 5 * 0.5 + 0.1))
    assert two.speedup == pytest.approx(9 * 2.1 / 22.3)
    assert [w.before for w in (one, two, five)] == [True, False, True]


def test_a_slow_moment_makes_every_k_slower_alike(drafted, plain):
    one, _ = what_if(drafted, plain, (1, 2))
    last = drafted.steps[-1]
    slow = replace(last, draft_seconds=last.draft_seconds + 22.3, elapsed=2 * 22.3)
    noisy = what_if(replace(drafted, steps=(*drafted.steps[:-1], slow)), plain, (1, 2))
    assert [w.seconds for w in noisy] == pytest.approx([2 * (one.seconds or 0), 2 * 22.3])


def test_plain_decoding_that_was_stopped_tells_the_same_speedup(drafted, plain):
    (whole,) = what_if(drafted, plain, (2,))
    short = replace(plain, steps=plain.steps[:3])
    assert what_if(drafted, short, (2,))[0].speedup == pytest.approx(whole.speedup)


def test_without_pass_costs_steps_are_counted_and_not_timed(drafted, plain):
    unpriced = replace(drafted, run=replace(drafted.run, prices=()))
    (found,) = what_if(unpriced, plain, (2,))
    assert (found.steps, found.seconds, found.speedup) == (3, None, None)


@pytest.fixture
def busy() -> Recording:
    """Two steps of 4.6 s, of which 0.6 s are more work outside the passes than plain decoding has,
    which takes 1.1 s a token."""
    lane = steady_lane(2, 2, 1.0, 2.9, 0.0)
    steps = [replace(s, other_seconds=0.7, elapsed=4.6 * (i + 1)) for i, s in enumerate(lane.steps)]
    return replace(lane, steps=tuple(steps))


@pytest.fixture
def fast_plain() -> Recording:
    return steady_lane(6, 0, 0.0, 1.0, 0.0, drafter="none")


def test_the_ideal_after_every_step(busy, fast_plain):
    assert metrics.ideal_speedups(busy, fast_plain) == pytest.approx([3.3 / 4.0, 6.6 / 8.0])
    assert metrics.ideal_speedups(fast_plain, fast_plain) == pytest.approx([1.0] * 6)
    assert metrics.ideal_speedups(replace(busy, steps=()), fast_plain) == []


def test_the_ideal_does_not_rest_on_what_was_measured_before(busy, fast_plain):
    for prices in ((), (PRICES,), (replace(PRICES, seconds=(9.0, 9.0)),)):
        priced = replace(busy, run=replace(busy.run, prices=prices))
        assert metrics.ideal_speedups(priced, fast_plain) == metrics.ideal_speedups(
            busy, fast_plain
        )


def test_no_ideal_is_told_of_a_tree(busy, fast_plain):
    assert metrics.ideal_speedups(replace(busy, run=head(drafter="tree")), fast_plain) == []


def test_for_the_ideal_copies_cost_no_pass(busy, fast_plain):
    """The second that looking for them takes is lost, too."""
    copied = replace(busy.steps[0].tokens[0], source="lookup")
    steps = [replace(s, tokens=(copied, copied, s.tokens[-1])) for s in busy.steps]
    looked = replace(busy, steps=tuple(steps))
    assert metrics.ideal_speedups(looked, fast_plain) == pytest.approx([3.3 / 3.0, 6.6 / 6.0])
