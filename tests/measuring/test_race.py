"""Lanes on one fair clock."""

from __future__ import annotations

import pytest

from stairs_core.measuring import same_text
from stairs_core.measuring.race import race
from stairs_core.measuring.runner import Runner
from stairs_core.settings.settings import Settings
from stairs_core.traces import files, records
from stairs_core.traces.metrics import compare, fold

PROMPT = "Once upon a time there was a small fox"


def lanes(pair, *drafters: str, new: int = 40, k: int = 4) -> list[Runner]:
    return [Runner(pair, PROMPT, Settings(d, k=k, max_new_tokens=new), d) for d in drafters]


def test_a_race_tells_heads_then_steps_then_ends(tiny_pair):
    runners = lanes(tiny_pair, "none", "model")
    told = list(race(runners))
    assert [type(e) for _, e in told[:2]] == [records.Run, records.Run]
    for lane, runner in enumerate(runners):
        mine = [e for i, e in told if i == lane]
        assert mine == [runner.run, *runner.steps, runner.recording().stop]
        summary = fold(runner.steps)
        parts = summary.draft_seconds + summary.verify_seconds + summary.other_seconds
        assert parts == pytest.approx(summary.seconds)
    assert compare(*(r.recording() for r in runners)).identical
    assert files.loads(files.dumps([r.recording() for r in runners])) == [
        r.recording() for r in runners
    ]


def test_the_lane_that_is_behind_goes_on(tiny_pair):
    clocks = [0.0, 0.0]
    for lane, event in race(lanes(tiny_pair, "none", "model")):
        if isinstance(event, records.Step):
            assert clocks[lane] <= min(clocks)
            clocks[lane] = float("inf") if event.stop else event.elapsed


def test_the_largest_noise_that_was_measured_stays(tiny_pair, monkeypatch):
    (runner,), other = lanes(tiny_pair, "none"), Runner(tiny_pair, "The fox", Settings("none"))
    for one in (runner, other):
        assert list(one.decode())
    for measured in (0.25, 0.5, 0.125):
        monkeypatch.setattr(same_text, "measure", lambda *_, measured=measured: measured)
        runner.measure_noise_against(other)
    assert runner.recording().stop.noise == 0.5


@pytest.fixture
def ticks(monkeypatch):
    """A clock that moves by a millisecond whenever it is read, and as told besides."""
    now = [0.0]

    def read() -> float:
        now[0] += 0.001
        return now[0]

    monkeypatch.setattr("stairs_core.decoding.clock.perf_counter", read)
    return now


def test_what_the_consumer_does_is_not_on_the_clock(tiny_pair, ticks):
    runner = lanes(tiny_pair, "model", new=10)[0]
    for _ in race([runner]):
        ticks[0] += 1000.0
    assert runner.clock.elapsed == pytest.approx(0.003 * len(runner.steps))


def test_the_clock_favours_no_lane(tiny_pair, ticks):
    runners = lanes(tiny_pair, "none", "none")
    for _ in race(runners):
        ticks[0] += 1.0
    assert compare(*(r.recording() for r in runners)).speedup == pytest.approx(1.0)


def test_stop_ends_every_lane(tiny_pair):
    runners = lanes(tiny_pair, "none", "model", new=200)
    told = list(race(runners, stop=lambda: len(runners[0].steps) > 5))
    ends = [event.reason for _, event in told if isinstance(event, records.Stop)]
    assert ends == ["stopped", "stopped"]
    assert len(runners[0].steps) in (6, 7)
