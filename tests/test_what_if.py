"""One run says what every other K would have taken: counts exactly, seconds by the prices."""

from __future__ import annotations

from dataclasses import replace

import pytest
from recordings import head

from stairs_core import choice, hindsight, metrics
from stairs_core.bench import HELD_OUT, read_prompts
from stairs_core.models import load_pair
from stairs_core.race import Runner, race
from stairs_core.sampling import Sampling
from stairs_core.settings import Settings
from stairs_core.trace import Prediction, Prices, Recording, Step, Stop, Token

PROMPTS = read_prompts(HELD_OUT, 10)
GREEDY = choice.Greedy(choice.Processors())


@pytest.fixture(scope="module")
def bundled():
    return load_pair("bundled", "cpu", "float32")


def decoded(pair, prompt: str, k: int, new: int = 48, **settings) -> Recording:
    runner = Runner(pair, prompt, Settings(k=k, max_new_tokens=new, **settings))
    assert list(runner.decode())
    return runner.recording()


def counts(recording: Recording) -> tuple[int, int, int]:
    found = metrics.fold(recording.steps)
    return found.steps, found.accepted, found.new_tokens


@pytest.mark.parametrize("prompt", PROMPTS, ids=range(len(PROMPTS)))
def test_one_run_counts_the_steps_of_every_k(bundled, prompt):
    told = metrics.what_if(decoded(bundled, prompt, 5), ks=range(1, 13))
    real = [counts(decoded(bundled, prompt, k)) for k in range(1, 13)]
    assert [(w.steps, w.accepted, w.new_tokens) for w in told] == real


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
        assert (first.stop.reason, len(first.stop.agrees or "")) == ("eos", new)
        told = metrics.what_if(first, ks=ks)
        real = [counts(decoded(pair, "Once upon a time", k)) for k in ks]
        assert [(w.steps, w.accepted, w.new_tokens) for w in told] == real


def test_steps_are_counted_up_to_the_context(tiny_pair):
    pair = replace(tiny_pair, context_length=40)
    told = metrics.what_if(decoded(pair, "The fox ran", 3, 96), ks=(1, 2, 4, 8))
    runs = [decoded(pair, "The fox ran", k, 96) for k in (1, 2, 4, 8)]
    assert {r.stop.reason for r in runs} == {"context"}
    assert [(w.steps, w.accepted, w.new_tokens) for w in told] == [counts(r) for r in runs]
    drafted = [metrics.fold(r.steps).drafted for r in runs]
    assert [w.drafted for w in told] == drafted, "no end of text was guessed"


def test_a_run_that_was_stopped_is_looked_back_on_too(tiny_pair):
    runner = Runner(tiny_pair, "Once upon a time", Settings(k=4))
    stops = [event for _, event in race([runner], lambda: len(runner.steps) == 3)][-1:]
    assert isinstance(stops[0], Stop)
    assert stops[0] == runner.recording().stop
    told = {w.k: w.steps for w in metrics.what_if(runner.recording())}
    assert told[4] == len(runner.steps)


def test_long_texts_are_read_in_parts(tiny_pair, monkeypatch):
    told = decoded(tiny_pair, "Once upon a time", 4)
    monkeypatch.setattr(hindsight, "_PART", 7)
    assert hindsight.agrees(tiny_pair, GREEDY, told) == told.stop.agrees


def test_what_the_run_saw_overrules_what_the_draft_says_later(tiny_pair):
    told = decoded(tiny_pair, "Once upon a time", 4)
    other = replace(tiny_pair, draft=tiny_pair.target)  # agrees with all of its own text
    bits = hindsight.agrees(other, GREEDY, told)
    assert bits is not None
    for step in told.steps:
        at = step.start - len(told.run.prompt_ids)
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
        told = decoded(tiny_pair, "Once upon a time", 4, 12, **settings)
        assert told.stop.agrees is None
        assert metrics.what_if(told) == []
    whole = decoded(tiny_pair, "Once upon a time", 4, 12)
    assert metrics.what_if(replace(whole, stop=replace(whole.stop, agrees="1"))) == []


def step(index: int, guesses: int, draft: float, verify: float, before: float) -> Step:
    """All of its guesses hold; the rest takes 0.1 s."""
    tokens = [Token(3, "a", "accepted", "model")] * guesses + [Token(3, "a", "bonus", "target")]
    times = (draft, verify, 0.1, before + draft + verify + 0.1)
    said = (Prediction(3, "a", 1.0),) * len(tokens)
    start = 2 + index * len(tokens)
    return Step(index, start, tuple(tokens), said, guesses, *times)


def lane(
    count: int, guesses: int, guessing: float, verify: float, prompt: float, **run
) -> Recording:
    steps: list[Step] = []
    for i in range(count):
        before = steps[-1].elapsed if steps else 0.0
        steps.append(step(i, guesses, guessing, verify + (prompt if i == 0 else 0.0), before))
    return Recording(head(**run), tuple(steps), Stop("length", "a", agrees=None))


PRICES = Prices("single_kv", 100, (1, 5), (1.0, 2.0), 9.0)


def test_a_case_that_was_worked_by_hand():
    """Three steps of two guesses, all right. Checks take twice what was measured, a guess 0.5 s,
    the rest 0.1 s, and the prompt 10 s of the first step."""
    run = lane(3, 2, 1.0, 3.0, 10.0, max_new_tokens=9, prices=(PRICES,))
    run = replace(run, stop=replace(run.stop, agrees="110111110"))
    plain = lane(18, 0, 0.0, 2.0, 0.0, drafter="none")  # twice what was measured, as well
    one, two, five = metrics.what_if(run, plain, (1, 2, 5))
    assert (one.steps, one.drafted, one.accepted) == (5, 5, 4)
    assert (two.steps, two.drafted, two.accepted, two.tokens_per_target_call) == (3, 6, 6, 3.0)
    assert (five.steps, five.drafted, five.accepted, five.acceptance_rate) == (2, 10, 7, 0.7)
    assert two.seconds == pytest.approx(run.steps[-1].elapsed) == pytest.approx(22.3)
    assert one.seconds == pytest.approx(10 + 5 * (2 * 1.25 + 0.5 + 0.1))
    assert five.seconds == pytest.approx(10 + 2 * (2 * 2.4 + 5 * 0.5 + 0.1))
    assert two.speedup == pytest.approx(9 * 2.1 / 22.3)
    last = run.steps[-1]
    slow = replace(last, draft_seconds=last.draft_seconds + 22.3, elapsed=2 * 22.3)
    noisy = metrics.what_if(replace(run, steps=(*run.steps[:-1], slow)), plain, (1, 2))
    assert [w.seconds for w in noisy] == pytest.approx([2 * (one.seconds or 0), 2 * 22.3])
    short = replace(plain, steps=plain.steps[:3])
    assert metrics.what_if(run, short, (2,))[0].speedup == pytest.approx(two.speedup)
    unpriced = replace(run, run=replace(run.run, prices=()))
    (told,) = metrics.what_if(unpriced, plain, (2,))
    assert (told.steps, told.seconds, told.speedup) == (3, None, None)
    assert [w.before for w in (one, two, five)] == [True, False, True]


def test_the_ideal_after_every_step():
    """Plain decoding takes 1.1 s a token; the lane 4.5 s a step, of which 0.6 s are more work
    outside the passes than plain decoding has. What was measured before the run says nothing."""
    run = lane(2, 2, 1.0, 2.9, 0.0)
    steps = [replace(s, other_seconds=0.7, elapsed=4.6 * (i + 1)) for i, s in enumerate(run.steps)]
    run = replace(run, steps=tuple(steps))
    plain = lane(6, 0, 0.0, 1.0, 0.0, drafter="none")
    assert metrics.ideal_speedups(run, plain) == pytest.approx([3.3 / 4.0, 6.6 / 8.0])
    assert metrics.ideal_speedups(plain, plain) == pytest.approx([1.0] * 6)
    assert metrics.ideal_speedups(replace(run, steps=()), plain) == []
    for prices in ((), (PRICES,), (replace(PRICES, seconds=(9.0, 9.0)),)):
        priced = replace(run, run=replace(run.run, prices=prices))
        assert metrics.ideal_speedups(priced, plain) == metrics.ideal_speedups(run, plain)
    assert metrics.ideal_speedups(replace(run, run=head(drafter="tree")), plain) == []
    # What no model guessed costs no pass: the second it takes is lost, too.
    copied = replace(run.steps[0].tokens[0], source="lookup")
    steps = [replace(s, tokens=(copied, copied, s.tokens[-1])) for s in run.steps]
    looked = replace(run, steps=tuple(steps))
    assert metrics.ideal_speedups(looked, plain) == pytest.approx([3.3 / 3.0, 6.6 / 6.0])
