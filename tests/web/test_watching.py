"""What a host sees of the page's server: its log, its health, its numbers; no visitor's text."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from concurrent.futures import Future
from types import SimpleNamespace

import page_runs
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from stairs_core.errors import InputError
from stairs_core.settings.settings import Settings
from stairs_core.traces.records import Lanes
from stairs_core.web import engine_thread, live_race, log_lines, run_metrics, run_reports, watching

SETTINGS = {"the draft model, K 5": Settings(k=5)}


@pytest.fixture
def counted(monkeypatch):
    metrics = run_metrics.Metrics()
    monkeypatch.setattr(run_metrics, "current", lambda: metrics)
    return metrics


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, "stairs")
    return caplog


def going(lanes, events, error=None):
    """A run's batches, which their consumer puts into ``lanes``."""
    for lane, record in events:
        lanes.add(lane, record)
        yield record
    if error:
        raise error


def events(recordings):
    for lane, recording in enumerate(recordings):
        yield from ((lane, r) for r in (recording.run, *recording.steps, recording.stop))


def facts(log):
    return [(r.getMessage(), r.facts) for r in log.records]


def test_a_run_is_told_in_numbers_and_names(log, counted):
    lanes = Lanes()
    run = going(lanes, events(page_runs.pair()))
    for _ in run_reports.watched(run, "page", SETTINGS, lanes):
        pass
    (begun, first), (over, last) = facts(log)
    assert (begun, over) == ("run begun", "run over")
    assert first["run"] == last["run"]
    assert (last["caller"], last["drafters"], last["outcome"]) == ("page", ["model"], "ended")
    alone, lane = page_runs.pair()
    assert last["tokens"] == [len(lane.new_ids)]
    speedup = alone.steps[-1].elapsed / lane.steps[-1].elapsed
    assert last["speedup"] == [pytest.approx(speedup, abs=0.005)]
    told = "\n".join(
        log_lines.JsonLine().format(r) + log_lines.Line().format(r) for r in log.records
    )
    assert "fox" not in told
    numbers = counted.text(3)[0].decode()
    assert 'stairs_runs_total{caller="page",outcome="ended"} 1.0' in numbers
    assert f'stairs_tokens_total{{drafter="model"}} {float(len(lane.new_ids))}' in numbers
    assert 'stairs_speedup_count{drafter="model"} 1.0' in numbers
    assert "stairs_running 0.0" in numbers
    assert "stairs_queue 3.0" in numbers


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(InputError("no"), "refused"), (RuntimeError("out of memory"), "failed"), (None, "left")],
)
def test_a_run_that_does_not_end_is_told_too(log, counted, error, outcome):
    lanes = Lanes()
    some = [*events(page_runs.pair())][:4]
    run = run_reports.watched(going(lanes, some, error), "api", SETTINGS, lanes)
    if error:
        with pytest.raises(type(error)):
            list(run)
    else:
        next(run)
        run.close()
    assert facts(log)[-1][1]["outcome"] == outcome
    numbers = counted.text(0)[0].decode()
    assert f'stairs_runs_total{{caller="api",outcome="{outcome}"}} 1.0' in numbers
    assert "stairs_running 0.0" in numbers
    assert "stairs_speedup_count" not in numbers


def test_a_line_an_event_for_people_or_as_json():
    record = logging.LogRecord("stairs", logging.INFO, "", 0, "run over", None, None)
    record.facts = {"tokens": [96, 96], "pair": "line\nbreak", "speedup": 1.5}
    assert (
        log_lines.Line()
        .format(record)
        .endswith("INFO run over tokens=96,96 pair=line break speedup=1.5")
    )
    told = json.loads(log_lines.JsonLine().format(record))
    assert (told["event"], told["level"], told["tokens"]) == ("run over", "info", [96, 96])
    try:
        raise ValueError("of ours")
    except ValueError as e:
        record.exc_info = (type(e), e, e.__traceback__)
    line = log_lines.JsonLine().format(record)
    assert "\n" not in line
    assert "ValueError: of ours" in json.loads(line)["error"]


def ask(monkeypatch, path, first=None):
    monkeypatch.setattr(live_race, "models", lambda: first or Future())
    app = Starlette(routes=watching.routes(lambda: 0))
    answer = TestClient(app).get(path)
    return answer.status_code, answer.text


def test_health_is_what_a_run_would_find(monkeypatch):
    engine_thread.run(int)
    first: Future = Future()
    assert ask(monkeypatch, "/healthz", first) == (503, '{"status":"loading"}')
    first.set_result(SimpleNamespace())
    assert ask(monkeypatch, "/healthz", first) == (200, '{"status":"ready"}')
    monkeypatch.setattr(engine_thread, "_NAME", "a thread that has ended")
    assert ask(monkeypatch, "/healthz", first) == (503, '{"status":"stopped"}')
    failed: Future = Future()
    failed.set_exception(InputError("no such pair"))
    assert ask(monkeypatch, "/healthz", failed) == (503, '{"status":"no models"}')


def test_numbers_are_served_where_the_host_asks_for_them(monkeypatch, counted):
    status, text = ask(monkeypatch, "/metrics")
    assert status == 200
    assert "process_resident_memory_bytes" in text
    monkeypatch.setattr(run_metrics, "current", lambda: None)
    assert ask(monkeypatch, "/metrics")[0] == 404


OTHERS = """
import logging, threading, traceback, warnings
from stairs_core.web import log_lines
log_lines.start({as_json})
logging.captureWarnings(True)
logging.getLogger("uvicorn.error").error("one")
warnings.warn("two")
try:
    1 / 0
except ZeroDivisionError:
    traceback.print_exc()
thread = threading.Thread(target=lambda: [][3])
thread.start()
thread.join()
raise KeyError("last")
"""


def test_what_libraries_write_of_failures_is_json_where_the_log_is():
    def lines(as_json):
        command = [sys.executable, "-c", OTHERS.format(as_json=as_json)]
        return subprocess.run(command, capture_output=True, text=True).stderr.splitlines()

    told = [json.loads(line) for line in lines(True)]
    assert [one["level"] for one in told] == ["error", "warning", "error", "error", "critical"]
    errors = [one["error"].splitlines()[-1] for one in told if "error" in one]
    assert [e.split(":")[0] for e in errors] == ["ZeroDivisionError", "IndexError", "KeyError"]
    assert sum(line.startswith("Traceback") for line in lines(False)) == 3
