"""On ZeroGPU: a stand-in of its package forks, pickles, refuses and aborts as that one does."""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest
from page_form import asking, said
from zero_gpu_standin import Spaces

from stairs_core.measuring.runner import Runner
from stairs_core.settings.settings import Settings
from stairs_core.web import handlers, live_race, loaded_pairs, notices, zero_gpu

PROMPT = "Once upon a time"


@pytest.fixture
def spaces(tiny_pair, monkeypatch):
    """The page as it is on ZeroGPU, with a tiny pair. ``wait``: seconds between two events."""
    standin, first = Spaces(), Future()
    first.set_result(tiny_pair)
    monkeypatch.setitem(sys.modules, "spaces", standin)
    monkeypatch.setattr(zero_gpu, "ON", True)
    decorated = zero_gpu.on_gpu(live_race.lease)(live_race._race_on_gpu)
    monkeypatch.setattr(live_race, "_race_on_gpu", decorated)
    monkeypatch.setattr(live_race, "models", lambda: first)
    monkeypatch.setattr(live_race, "_leases", zero_gpu.Leases())
    race, standin.wait = live_race._race, 0.0

    def slower(*args):
        for event in race(*args):
            time.sleep(standin.wait)
            yield event

    monkeypatch.setattr(live_race, "_race", slower)
    return standin


def play(**changes):
    return list(handlers.run(asking(**{"prompt": PROMPT, "length": 24, **changes})))


def stages(updates):
    return [update["stage"] for update in updates if "stage" in update]


def steps(updates, lane):
    """How many steps of a lane the last value of the stage has."""
    return stages(updates)[-1]["trace"].count(f"\n[{lane},")


def test_a_race_of_two_lanes_is_one_call_and_its_texts_are_the_target_s(spaces, tiny_pair):
    kept = []
    race = live_race.race(PROMPT, {"stairs": Settings(k=4, max_new_tokens=24)}, live_race.Flag())
    events = [e for batch in live_race.batches(race, live_race.Flag()) for e in batch]
    kept += [event.text for _, event in events if type(event).__name__ == "Stop"]
    alone = Runner(tiny_pair, PROMPT, Settings(drafter="none", max_new_tokens=24))
    list(alone.decode())
    assert kept == [alone.recording().stop.text] * 2
    assert len(spaces.asked) == 1


def test_it_asks_for_lanes_by_tokens_by_what_a_token_took(spaces):
    play()
    play(**{"length": 16, "drafter-2": "lookup"})
    first, second = spaces.asked
    assert first == 15 + 3  # 2 lanes x 24 tokens x 0.06 s, before anything was measured
    pace, _ = live_race._leases._paces
    assert pace > 0
    assert second == -(-(15 + 1.5 * 3 * 16 * pace) // 1)
    assert live_race._leases.seconds(4, 4096, 60) == 60, "the host's limit"


def test_a_refusal_crosses_the_border_as_its_sentence(spaces):
    updates = play(prompt="a " * 4000)
    assert not stages(updates)
    assert "tokens" in said(updates)
    assert "Error" not in said(updates)
    assert len(spaces.asked) == 1


def test_a_lease_that_is_aborted_is_one_sentence_and_leaves_what_was_written(spaces):
    spaces.most = 20
    updates = play(length=400)
    assert said(updates) == zero_gpu._ABORTED
    assert not stages(updates)[-1]["running"]
    assert steps(updates, 1) > 1
    (made,) = [u["download"]["value"] for u in updates if "download" in u]
    assert Path(made).read_text().count('"step"') > 2
    assert not handlers._running
    spaces.most = 10**6
    assert said(play()) == "", "the next run is right"


def test_where_no_gpu_is_left_the_page_says_what_zero_gpu_says(spaces):
    spaces.left = 5
    updates = play()
    assert not stages(updates)
    words = said(updates)
    assert words.startswith("ZeroGPU gave no GPU for the run: You have exceeded your quota")
    assert words.endswith("Try again in 0:20:00.")


def test_a_run_stops_by_itself_before_its_lease_ends(spaces, monkeypatch):
    spaces.wait = 0.05
    monkeypatch.setattr(live_race._leases, "seconds", lambda *_: zero_gpu.START + 1)
    updates = play(length=400)
    assert said(updates) == notices.late(1)
    assert steps(updates, 1) > 0


def test_stop_reaches_the_other_process(spaces):
    spaces.wait = 0.05
    updates = []
    for update in handlers.run(asking(prompt=PROMPT, length=400)):
        updates.append(update)
        if len(stages(updates)) == 2:
            handlers.stop("a visitor")
    assert said(updates) == ""
    assert not stages(updates)[-1]["running"]


def test_another_pair_is_refused_and_not_replaced_by_the_first(spaces):
    assert "keeps to one pair, since ZeroGPU" in said(play(spec="qwen3"))
    assert spaces.asked == []


def test_models_are_loaded_by_who_makes_the_shelf(monkeypatch):
    """There the package stands in for CUDA in the main thread alone."""
    monkeypatch.setattr(zero_gpu, "ON", True)
    where = []

    def load(spec, say, make_room):
        from stairs_core.web import engine_thread

        engine_thread.run(lambda: where.append(threading.current_thread()))
        return SimpleNamespace()

    shelf = loaded_pairs.Shelf(load)
    assert shelf.first.done()
    assert where == [threading.current_thread()]
