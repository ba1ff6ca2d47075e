"""Many visitors at once, with the traffic of real browsers: texts, cross-talk, memory, fairness.

The table of ``stairs_core/web/README.md``: ``python -m pytest tests/load --slow -s``. What an
ordinary run tests of it, with two visitors and programs, is in ``tests/web/test_programs.py``.
"""

from __future__ import annotations

import asyncio
import random
import re
import statistics
import string
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import browsing
import httpx
import psutil
import pytest
from traffic import Run, Visitor

from stairs_core.measuring.runner import Runner
from stairs_core.models.load import load_pair
from stairs_core.settings.settings import Settings

TOKENS = 32
SETTLED = 15.0
"""Seconds after which nothing of a visitor who has left may be there: threads wait for 10."""
IDLE = 11.0


@dataclass
class State:
    """The server between runs. ``memory`` in MB; ``files``: of its own, in its temporary folder."""

    memory: float
    threads: int
    files: int


@dataclass
class Day:
    """All that happened. ``received``: by a visitor's mark, what the server sent to them."""

    runs: dict[str, list[Run]]
    received: dict[str, str]
    warm: State
    end: State
    numbers: str


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The page with the bundled pair: its address, its process, its temporary folder."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("STAIRS_METRICS", "on")
    with browsing.serving(tmp_path, tmp_path / "log.txt", limit=300) as address:
        end = time.monotonic() + 300
        while "stairs" not in _read(f"{address}/healthz", "ready") and time.monotonic() < end:
            time.sleep(0.2)
        mine = psutil.Process().children()
        (process,) = [p for p in mine if "app.main()" in " ".join(p.cmdline())]
        yield address, process, folder
    assert "Traceback" not in (tmp_path / "log.txt").read_text()


def _read(url: str, ready: str = "") -> str:
    """A page's text; "stairs" where it holds ``ready``."""
    try:
        with urllib.request.urlopen(url) as answer:
            text = answer.read().decode()
    except OSError:
        return ""
    return "stairs" if ready and ready in text else text


async def _at_rest(address: str, process: psutil.Process, folder: Path) -> State:
    await asyncio.sleep(SETTLED)
    threads = 0
    # A server's threads that were idle for 10 seconds end when one is given the next request. The
    # last words of visitors who left come late on a busy machine, and wake some again.
    while threads != (threads := process.num_threads()):
        await asyncio.to_thread(_read, f"{address}/config")
        await asyncio.sleep(IDLE)
    return _state(process, folder)


def _state(process: psutil.Process, folder: Path) -> State:
    # Flags of runs, and folders beyond those that are kept for their visitors to save from.
    folders = [p for p in folder.glob("stairs-*") if p.is_dir()]
    flags = [p for p in folder.glob("stairs-run-*") if p.is_file()]
    memory = process.memory_info().rss / 2**20
    return State(memory, process.num_threads(), len(flags) + max(0, len(folders) - 32))


def _prompt(mark: str, number: int) -> str:
    return f"Once upon a time, a cat named {mark} found {number + 2} keys. {mark} said"


@dataclass
class Visits:
    """Who visits ``address`` for ``seconds`` after ``go``; ``warm``: who has made the first run."""

    address: str
    seconds: float
    chance: random.Random
    go: asyncio.Event
    warm: list[str]

    async def stay(self, mark: str, leaves: bool) -> tuple[list[Run], str]:
        """A visitor, who runs again and again, and thinks between; some close the page at the first
        step of every other run, and come anew."""
        # Each request on a connection of its own: one that is kept may close when it is used.
        own = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=self.address, timeout=None, limits=own) as client:
            visitor = Visitor(client)
            await visitor.open()
            runs = [await visitor.run(_prompt(mark, 0), TOKENS)]
            received = visitor.received
            self.warm.append(mark)
            await self.go.wait()
            end = time.monotonic() + self.seconds
            while time.monotonic() < end:
                await asyncio.sleep(self.chance.uniform(0.5, 3))
                leave = leaves and len(runs) % 2 == 1
                runs.append(await visitor.run(_prompt(mark, len(runs)), TOKENS, leave))
                if leave:
                    visitor = Visitor(client)
                    visitor.received = received
                    await visitor.open()
            await visitor.close()
        return runs, "\n".join(received)


async def _day(server, visitors: int, seconds: float) -> Day:
    address, process, folder = server
    chance = random.Random(5)
    # Letters that no model would write by itself, not even by half remembering another mark.
    marks = ["".join(chance.choices(string.ascii_letters, k=8)) for _ in range(visitors)]
    visits = Visits(address, seconds, chance, asyncio.Event(), [])
    stays = [asyncio.create_task(visits.stay(m, i % 10 == 1)) for i, m in enumerate(marks)]
    while len(visits.warm) < visitors and not any(stay.done() for stay in stays):
        await asyncio.sleep(0.5)
    warm = await _at_rest(address, process, folder)
    visits.go.set()
    found = await asyncio.gather(*stays)
    end = await _at_rest(address, process, folder)
    runs = {mark: runs for mark, (runs, _) in zip(marks, found, strict=True)}
    received = {mark: text for mark, (_, text) in zip(marks, found, strict=True)}
    return Day(runs, received, warm, end, _read(f"{address}/metrics"))


def _check_texts(day: Day) -> None:
    """Every text is the one that the target writes alone, in this process."""
    pair = load_pair("bundled", device="cpu", dtype="float32")
    for run in (run for runs in day.runs.values() for run in runs if not run.left):
        assert run.failed == ""
        alone = Runner(pair, run.prompt, Settings(max_new_tokens=TOKENS).alone())
        for _ in alone.decode():
            pass
        assert run.texts[0] == alone.recording().stop.text
        last = run.verdicts[-1]
        assert last["state"] == "yes" or "rounding tie" in last["text"]


def _check_no_cross_talk(day: Day) -> None:
    for mark, received in day.received.items():
        assert [other for other in day.received if other in received] == [mark]


def _share(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def _turned(runs: list[Run]) -> int:
    """How many runs began just before one that was in the queue before they were asked for."""
    began = sorted((r for r in runs if r.began), key=lambda r: r.began)
    return sum(a.pressed > b.joined for a, b in zip(began, began[1:], strict=False))


def _table(day: Day, seconds: float) -> str:
    runs = [run for one in day.runs.values() for run in one]
    first = [r.first_step - r.pressed for r in runs if r.first_step]
    waits = [r.began - r.pressed for r in runs if r.began]
    own = [r.first_step - r.began for r in runs if r.first_step and r.began]
    each = [len(one) for one in day.runs.values()]
    fair = sum(each) ** 2 / (len(each) * sum(n * n for n in each))
    rows = {
        "visitors, minutes": f"{len(each)}, {seconds / 60:.0f}",
        "runs, left midway": f"{len(runs)}, {sum(r.left for r in runs)}",
        "press to first step: median, p95": _pair(first),
        "of it waiting for the turn: median, p95": _pair(waits),
        "turn to first step: median, p95": _pair(own),
        "runs a visitor: least, most; Jain's index": f"{min(each)}, {max(each)}; {fair:.3f}",
        "runs out of turn": f"{_turned(runs)}",
        "memory after warm-up, at the end": f"{day.warm.memory:.0f} MB, {day.end.memory:.0f} MB",
        "threads": f"{day.warm.threads}, {day.end.threads}",
        "flags and folders left": f"{day.end.files}",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items())])


def _pair(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} s, {_share(values, 0.95):.1f} s"


def _running(day: Day) -> float:
    return float(re.findall(r"^stairs_running (.*)$", day.numbers, re.MULTILINE)[0])


@pytest.mark.slow
@pytest.mark.parametrize(("visitors", "seconds"), [(30, 300.0)])
def test_thirty_visitors_for_five_minutes(server, visitors, seconds, capsys):
    day = asyncio.run(_day(server, visitors, seconds))
    with capsys.disabled():
        print(f"\n{_table(day, seconds)}")
    runs = [run for one in day.runs.values() for run in one]
    assert sum(run.left for run in runs) >= visitors // 10
    _check_texts(day)
    _check_no_cross_talk(day)
    assert (_running(day), day.end.files) == (0, 0)
    assert day.end.memory < 1.05 * day.warm.memory
    assert day.end.threads <= day.warm.threads
    assert _turned(runs) == 0
