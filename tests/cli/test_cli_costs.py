"""The command line: what is told of costs, before a run and after it."""

# ruff: noqa: F811 (fixtures are imported, then named by the tests)
from __future__ import annotations

import json
from itertools import count

import pytest
from shell import decode, refused, stairs  # noqa: F401

from stairs_core.decoding import clock
from stairs_core.measuring import pass_timing
from stairs_core.traces import files


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """A clock on which every piece of work takes a millisecond: a machine that nothing disturbs."""
    ticks = count()
    for module in (clock, pass_timing.time):
        monkeypatch.setattr(module, "perf_counter", lambda: next(ticks) / 1000)


def test_a_race_tells_of_other_ks(stairs, tmp_path):
    file = tmp_path / "t.jsonl"
    asked = decode("--what-if", "--trace", str(file), command="race")
    status, out, err = stairs(*asked)
    assert (status, err) == (0, "")
    table = out.split("\nmodel at other Ks, from this run:\n")[1].splitlines()
    assert table[0].split() == ["K", "steps", "tok/call", "seconds", "speedup"]
    assert [line.split()[0] for line in table[1:]] == [str(k) for k in range(1, 17)]
    assert [line.split()[0] for line in table if "this run" in line] == ["3"]
    assert sum(line.endswith("best") for line in table) == 1
    _, lead = files.read(file)
    assert int(table[3].split()[1]) == len(lead.steps)
    assert lead.run.prices
    assert lead.run.prices[0].backend == "single_kv"
    status, out, _ = stairs(*asked, "--json")
    report = json.loads(out)["what_if"]
    assert list(report) == ["model"]
    assert report["model"][2]["steps"] == len(lead.steps)
    assert report["model"][2]["speedup"] > 0


def test_a_race_without_a_draft_says_that_other_ks_are_unknown(stairs):
    asked = decode("--what-if", "--lanes", "none,lookup", command="race")
    status, out, _ = stairs(*asked)
    assert status == 0
    assert out.endswith("Other Ks can be told of a greedy lane of the drafter model alone.\n")
    assert json.loads(stairs(*asked, "--json")[1])["what_if"] == {}
    assert "what_if" not in json.loads(stairs(*decode("--json", command="race"))[1])


def test_preflight_prints_the_card(stairs):
    status, out, err = stairs("preflight", "--k", "auto", "--backend", "matrix_kv")
    assert (status, err) == (0, "")
    names = [line.split("  ")[0] for line in out.splitlines() if not line.startswith("!")]
    assert names[:4] == ["target", "draft", "tokenizers", "runs as"]
    assert "matrix_kv, model, K auto" in out
    assert "! The models run on the CPU" in out
    status, out, _ = stairs("preflight", "--json", "--k", "4")
    card = json.loads(out)
    assert (status, card["k"], card["tokenizers"], card["v"][0][0]) == (0, 4, "the same", 1)
    assert [promise["k"] for promise in card["promises"]] == [4, 4, 4]
    assert refused(*stairs("preflight", "--k", "0"))
