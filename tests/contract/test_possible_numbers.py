"""No impossible number, whatever the machine did: on cards, in sentences, tables and charts."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from chart_data import charts_of, points
from paths import ROOT
from recordings import add_chain, head

from stairs_core.decoding import clock
from stairs_core.errors import InputError
from stairs_core.measuring import pass_timing
from stairs_core.measuring.preflight import preflight
from stairs_core.measuring.race import race
from stairs_core.measuring.runner import Runner
from stairs_core.render import preflight_card, summary
from stairs_core.render.explain import why
from stairs_core.render.terminal.text import Paint
from stairs_core.settings.settings import Settings
from stairs_core.traces import files, metrics
from stairs_core.traces.pass_costs import BUSY, PassCosts, unsteadiness
from stairs_core.traces.records import Prices, Recording, Step, Stop
from stairs_core.traces.what_if import what_if
from stairs_core.web import stage_value

TRACES = sorted((ROOT / "assets" / "traces").glob("*.jsonl"))
WIDTHS = (1, 2, 3, 5, 7, 9, 13, 17, 33)


class Machine:
    """Passes that cost what is known, and moments in which they cost more."""

    def __init__(self, seed: int, noise: float, busy: float, share: float, prompt: float) -> None:
        self.random, self.noise = random.Random(seed), noise
        self.busy, self.share, self.prompt = busy, share, prompt

    def slow(self) -> float:
        busy = self.busy if self.random.random() < self.share else 1.0
        return busy * self.random.uniform(1.0, 1.0 + self.noise)

    def races(self, k: int, right: float, new: int, length: str = "constant", **run) -> list:
        """Both lanes of a race: plain decoding, and K guesses that hold with a probability."""
        plain: list[Step] = []
        lane: list[Step] = []
        for i in range(new):
            add_chain(plain, 0, 0, (0.0, self.slow() * (1.0 + self.prompt * (i == 0)), 0.05))
        matches = "".join("01"[self.random.random() < right] for _ in range(new))
        at = 0
        while at < new:
            most = k if length == "constant" else self.random.randint(0, k)
            drafted = min(most, new - at - 1)
            guess = matches[at : at + drafted]
            accepted = len(guess) - len(guess.lstrip("1"))
            check = 1.0 + 0.05 * drafted + self.prompt * (not lane)
            times = (self.slow() * 0.1 * drafted, self.slow() * check, 0.05)
            add_chain(lane, drafted, accepted, times)
            at += accepted + 1
        told = {"k": k, "length": length, "max_new_tokens": new, **run}
        first = Recording(
            head(drafter="none", max_new_tokens=new), tuple(plain), Stop("length", "")
        )
        return [
            replace(first, run=replace(first.run, prices=told.get("prices", ()))),
            Recording(
                head(draft="d", **told), tuple(lane), Stop("length", "", draft_matches=matches)
            ),
        ]


def wrong_prices() -> list[Prices]:
    """What the machine costs, and the same wrong by three, up and down, at one width or at all."""
    right = [1.0 + 0.05 * (n - 1) for n in WIDTHS]
    found = [Prices("single_kv", 100, WIDTHS, tuple(right), 0.1)]
    for factor in (3.0, 1 / 3):
        for wrong in (*((n,) for n in WIDTHS), WIDTHS[1:], WIDTHS):
            seconds = (
                s * (factor if n in wrong else 1) for n, s in zip(WIDTHS, right, strict=True)
            )
            found.append(Prices("single_kv", 100, WIDTHS, tuple(seconds), 0.1))
        found.append(Prices("single_kv", 100, WIDTHS, tuple(right), 0.1 * factor))
    return found


def said_in(sentence: str, what: str) -> float | None:
    found = re.search(rf"{what} ([\d.]+) ×", sentence)
    return float(found[1]) if found else None


def check(lanes: list[Recording]) -> None:
    """Whatever is said of a race can be."""
    first, *others = lanes
    for i, lane in enumerate(others, 1):
        most = metrics.fold(lane.steps).tokens_per_target_call
        speedup = metrics.compare(first, lane).speedup
        sentence = why(first, lane)
        told = said_in(sentence, "measured"), said_in(sentence, "allow")
        if told[1] is not None and told[0] is not None:
            assert told[0] <= told[1] <= round(most, 2) + 1e-9, sentence
        if speedup and speedup > 1.02 * most and any(s.drafted for s in lane.steps):
            assert "too busy to say" in sentence
        for ideal, step in zip(metrics.ideal_speedups(lane, first), lane.steps, strict=False):
            assert ideal > 0, step
        for what in what_if(lane, first):
            assert what.tokens_per_target_call <= what.k + 1
            if what.speedup is not None and what.seconds is not None:
                assert 0 < what.speedup <= what.tokens_per_target_call
                assert what.seconds > 0
        _check_charts(charts_of(lanes), i, lane, most)
    json.dumps(stage_value.around("x", lanes, "file"), allow_nan=False)


def _check_charts(charts: dict, i: int, lane: Recording, most: float) -> None:
    every = charts["speedup-by-k"]
    if "This recording" not in every["captions"][i] and drawn_at(every, i, lane.run.name):
        ks, gains = points(every, i, lane.run.name)
        assert all(0 < gain <= k + 1 for k, gain in zip(ks, gains, strict=True))
    so_far = charts["speedup-so-far"]
    if drawn_at(so_far, i, "Ideal"):
        _, measured = points(so_far, i, lane.run.name)
        _, ideal = points(so_far, i, "Ideal")
        assert all(a <= b for a, b in zip(measured, ideal, strict=True))
        whole = ideal and points(so_far, i, "Ideal")[0][-1] == metrics.fold(lane.steps).new_tokens
        assert not whole or ideal[-1] <= float(f"{most:.4g}")
    else:
        assert "No ideal is known" in so_far["captions"][i] or not lane.steps


def drawn_at(chart: dict, i: int, name: str) -> bool:
    return any(t["meta"]["lane"] == i and t["name"] == name for t in chart["data"])


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_recorded_runs_tell_no_impossible_number(path):
    check(files.read(path))


@pytest.mark.parametrize("seed", range(60))
def test_random_races_tell_no_impossible_number(seed):
    """Random machines, prices, lengths and ends."""
    dice = random.Random(seed)
    machine = Machine(
        seed, dice.choice([0.0, 0.1, 2.0]), dice.choice([1.0, 3.0, 9.0]), dice.random(),
        dice.choice([0.0, 5.0, 50.0]),
    )  # fmt: skip
    prices = dice.choice([(), (dice.choice(wrong_prices()),), (_anything(dice),)])
    length = dice.choice(["constant", "cost"])
    k, new = dice.randint(1, 20), dice.choice([1, 2, 7, 60])
    lanes = machine.races(k, dice.random(), new, length, prices=prices)
    check(lanes)
    ends = [lane.steps[: dice.randint(0, len(lane.steps))] for lane in lanes]
    cut = [_stopped(lane, steps) for lane, steps in zip(lanes, ends, strict=True)]
    check(cut)
    check([cut[0], lanes[1]])
    check([lanes[0], cut[1]])
    check([_clocked(lane, 0.0) for lane in lanes])
    check([_clocked(lane, 1e-320) for lane in lanes])
    check([lanes[0], _tossed(lanes[1], dice)])


def _anything(dice: random.Random) -> Prices:
    seconds = tuple(10 ** dice.uniform(-6, 3) for _ in WIDTHS)
    return Prices("single_kv", 100, WIDTHS, seconds, dice.choice([0.0, 10 ** dice.uniform(-6, 3)]))


def _stopped(lane: Recording, steps: tuple[Step, ...]) -> Recording:
    new = sum(len(s.committed) for s in steps)
    stop = replace(
        lane.stop, reason="stopped", draft_matches=(lane.stop.draft_matches or "")[:new] or None
    )
    return replace(lane, steps=steps, stop=stop)


def _clocked(lane: Recording, by: float) -> Recording:
    """By a clock that hardly moves, or not at all."""
    names = ("draft_seconds", "verify_seconds", "other_seconds", "elapsed")
    steps = [replace(s, **{name: by * getattr(s, name) for name in names}) for s in lane.steps]
    return replace(lane, steps=tuple(steps))


def _tossed(lane: Recording, dice: random.Random) -> Recording:
    """Times that do not even add up."""
    times = [[10 ** dice.uniform(-4, 2) for _ in range(3)] for _ in lane.steps]
    clocks = sorted(10 ** dice.uniform(-4, 2) for _ in lane.steps)
    steps = [
        replace(s, draft_seconds=a, verify_seconds=b, other_seconds=c, elapsed=elapsed)
        for s, (a, b, c), elapsed in zip(lane.steps, times, clocks, strict=True)
    ]
    return replace(lane, steps=tuple(steps))


@pytest.mark.parametrize("prices", wrong_prices(), ids=range(len(wrong_prices())))
def test_wrong_prices_move_nothing_that_the_run_says_itself(prices):
    """They move other Ks by little, too: what those must cost is known from both sides."""
    quiet = Machine(3, 0.05, 1.0, 0.0, 5.0)
    lanes = quiet.races(5, 0.7, 120, prices=wrong_prices()[:1])
    other = [replace(lane, run=replace(lane.run, prices=(prices,))) for lane in lanes]
    check(other)
    assert why(*other) == why(*lanes)
    assert summary.numbers(*other) == summary.numbers(*lanes)
    assert metrics.ideal_speedups(*other[::-1]) == metrics.ideal_speedups(*lanes[::-1])
    mine, theirs = what_if(*lanes[::-1]), what_if(*other[::-1])
    own = mine[4]
    assert theirs[4] == own
    assert own.speedup == metrics.compare(*lanes).speedup
    assert not own.before
    assert all(w.before for w in theirs if w.k not in (5,))
    for a, b in zip(mine[:5], theirs[:5], strict=True):
        assert a.speedup
        assert b.speedup == pytest.approx(a.speedup, rel=0.15)


def test_a_wrong_price_is_never_less_for_more():
    for prices in wrong_prices():
        levels = [s for _, s in PassCosts.of_record(prices).passes]
        assert levels == sorted(levels)


def test_a_machine_that_is_too_busy_is_told():
    lanes = Machine(1, 0.0, 9.0, 0.5, 0.0).races(4, 0.8, 120, prices=tuple(wrong_prices()[:1]))
    assert max(unsteadiness(lane.steps) for lane in lanes) > BUSY
    assert "too busy to say whether it paid: measured" in why(*lanes)
    assert {w.speedup for w in what_if(*lanes[::-1])} == {None}
    charts = charts_of(lanes)
    assert "too busy" in charts["speedup-by-k"]["captions"][1]
    assert "too busy" in charts["speedup-so-far"]["captions"][1]
    assert charts["speedup-by-k"]["use"][1] is None
    # A pass that grows with the text is not busy; nor is one slow moment.
    steps: list[Step] = []
    for i in range(60):
        add_chain(steps, 0, 0, (0.0, 1.0 + i / 10 + 20.0 * (i == 30), 0.0))
    assert unsteadiness(steps) < 1.1
    # Guesses cannot give more than the tokens of a step.
    plain, lane = Machine(1, 0.05, 1.0, 0.0, 0.0).races(1, 0.9, 60)
    slow = _clocked(plain, 3.0)
    assert "more than the" in metrics.too_busy(lane, slow)
    assert "allow" not in why(slow, lane)


class Simulated:
    """A clock on which passes take what a machine makes of their width, read by the engine."""

    def __init__(self, monkeypatch, slow=lambda: 1.0) -> None:
        self.now, self.slow = 0.0, slow
        monkeypatch.setattr(clock, "perf_counter", lambda: self.now)
        monkeypatch.setattr(pass_timing.time, "perf_counter", lambda: self.now)

    def prices(self, pair, monkeypatch, target: float, draft: float) -> None:
        for model, cost in ((pair.target, target), (pair.draft, draft)):
            forward = model.forward

            def timed(*args, cost=cost, forward=forward, **kwargs):
                ids = kwargs["input_ids"]
                self.now += self.slow() * cost * (1 + 0.04 * (ids.numel() - 1))
                return forward(*args, **kwargs)

            monkeypatch.setattr(model, "forward", timed)


@pytest.mark.parametrize("slow", [1.0, 3.0])
def test_the_card_promises_what_the_run_then_allows(unmeasured, monkeypatch, slow):
    """On a machine that is slower by a factor of three, evenly, as well: nothing changes."""
    pair, dice = unmeasured, random.Random(0)
    machine = Simulated(monkeypatch, lambda: slow * dice.uniform(1.0, 1.1))
    machine.prices(pair, monkeypatch, 0.01, 0.001)
    settings = Settings(k=4, max_new_tokens=60)
    found = preflight(pair, settings)
    assert found.busy is None
    assert found.v[0][1] == pytest.approx(1.0, rel=0.1)
    runners = [Runner(pair, "Once upon a time", s) for s in (settings.alone(), settings)]
    assert list(race(runners))
    first, lane = (r.recording() for r in runners)
    check([first, lane])
    alpha = metrics.fold(lane.steps).acceptance_rate
    assert alpha is not None
    own = pass_timing.costs(pair, drafts=True)
    ideal = metrics.ideal_speedups(lane, first)[-1]
    tokens = metrics.fold(lane.steps).tokens_per_target_call
    for promise in found.promises:
        assert promise.low <= promise.speedup <= promise.high
        assert promise.high <= sum(promise.alpha**i for i in range(promise.k + 1))
    # The same price of a step, so the same speedup for as many tokens of a step.
    low, high = (s / sum(0.7**i for i in range(5)) * tokens for s in own.expected_range(4, 0.7))
    assert 0.9 * low <= ideal <= 1.1 * high
    assert pass_timing.costs(pair, drafts=True) is own, "the run did not contradict it"


def test_prices_of_a_bad_moment_are_forgotten_after_the_run(unmeasured, monkeypatch):
    """Guesses cost three times as much while the card is made, and not in the run."""
    pair, bad = unmeasured, [1.0]
    machine = Simulated(monkeypatch)
    machine.prices(pair, monkeypatch, 0.01, 0.006)
    honest = pair.draft.forward

    def dear(*args, **kwargs):
        machine.now += 0.1 * bad[0]
        return honest(*args, **kwargs)

    monkeypatch.setattr(pair.draft, "forward", dear)
    settings = Settings(k=4, max_new_tokens=40)
    before = preflight(pair, settings)
    bad[0] = 0.0
    runners = [Runner(pair, "Once upon a time", s) for s in (settings.alone(), settings)]
    assert list(race(runners))
    after = preflight(pair, settings)
    assert after.c < before.c / 3
    check([r.recording() for r in runners])


def test_the_card_says_that_the_machine_is_too_busy(unmeasured, monkeypatch, usual_timing):
    pair, dice = unmeasured, random.Random(4)
    machine = Simulated(monkeypatch, lambda: dice.choice([1.0, 9.0]))
    machine.prices(pair, monkeypatch, 0.01, 0.002)
    found = preflight(pair, Settings(k=2))
    assert found.busy
    assert found.busy > BUSY
    assert (found.promises, found.best_k) == ((), None)
    drawn = "\n".join([preflight_card.headline(found), *preflight_card.lines(found, Paint(False))])
    assert "too busy to say what to expect" in drawn
    assert "hold" not in drawn
    assert "No K pays" not in drawn


def test_a_busy_process_beside_makes_no_number_impossible(unmeasured):
    """It takes every core, for a few seconds at most."""
    pair = unmeasured
    spin = f"import time; end = time.time() + 8\nwhile time.time() < end: pass  # {__name__}"
    beside = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(3)]
    guard = threading.Timer(10, lambda: [p.kill() for p in beside])
    guard.start()
    try:
        settings = Settings(k=3, max_new_tokens=32)
        found = preflight(pair, settings)
        runners = [Runner(pair, "Once upon a time", s) for s in (settings.alone(), settings)]
        assert list(race(runners))
    finally:
        guard.cancel()
        for process in beside:
            process.kill()
            process.wait()
    check([r.recording() for r in runners])
    assert bool(found.promises) is (found.busy is None)
    for promise in found.promises:
        assert promise.low <= promise.high <= BUSY * promise.low
        assert promise.high <= promise.k + 1
    assert ("too busy" in preflight_card.headline(found)) is bool(found.busy)


def test_lanes_of_different_lengths_are_compared_over_as_many_tokens():
    """Both read a long prompt first: as dear for ten tokens as for a hundred."""
    plain, lane = Machine(0, 0.0, 1.0, 0.0, 50.0).races(4, 0.9, 100)
    short = _stopped(plain, plain.steps[:10])
    whole = metrics.compare(plain, lane).speedup
    assert metrics.compare(short, lane).speedup == pytest.approx(whole)
    half = _stopped(lane, lane.steps[:5])
    tokens = metrics.fold(half.steps).new_tokens
    expected = plain.steps[tokens - 1].elapsed / half.steps[-1].elapsed
    assert metrics.compare(plain, half).speedup == pytest.approx(expected)
    # Of a single step, nobody knows what the next ones would have taken.
    assert metrics.compare(_stopped(plain, plain.steps[:1]), lane).speedup is None


def test_a_clock_that_runs_back_is_refused():
    _, lane = Machine(0, 0.0, 1.0, 0.0, 0.0).races(2, 0.5, 9)
    step = lane.steps[1]
    for odd in ({"draft_seconds": -0.1}, {"other_seconds": -1e-9}, {"elapsed": 0.0}):
        steps = (lane.steps[0], replace(step, **odd), *lane.steps[2:])
        with pytest.raises(InputError, match="the clock of its step 1 runs back"):
            files.loads(files.dumps([replace(lane, steps=steps)]))


def test_what_other_backends_cost_is_told_at_the_pace_of_the_run():
    """Past the widest that was measured, too, and by one function."""
    rough = Prices("matrix", 100, (1, 3), (2.0, 6.0), 0.1)
    unsure = Prices("matrix_kv", 100, (1, 3), (2.0, 6.0), 0.1, BUSY + 1)
    own = Prices("single_kv", 100, WIDTHS, tuple(0.5 + 0.025 * (n - 1) for n in WIDTHS), 0.1)
    lanes = Machine(0, 0.0, 1.0, 0.0, 0.0).races(5, 0.9, 60, prices=(own, rough, unsure))
    assert summary.passes(lanes, True) == [{}, {}]
    _, told = summary.passes(lanes)
    assert list(told) == ["single_kv", "matrix"]
    assert told["matrix"] == pytest.approx([4.0, 8.0, 12.0, 16.0, 20.0, 24.0], rel=1e-3)
    assert told["single_kv"][5] == pytest.approx(1.25, rel=1e-3)
    assert stage_value.around("x", lanes, "file")["passes"] == summary.passes(lanes)
    assert files.loads(files.dumps(lanes)) == lanes
