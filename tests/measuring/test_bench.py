"""The bench measures what it says, over the prompts it is given."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from stairs_core.cli.main import main
from stairs_core.errors import InputError
from stairs_core.measuring import baselines, bench
from stairs_core.measuring.runner import Runner
from stairs_core.models.load import load_pair
from stairs_core.settings import methods
from stairs_core.traces.metrics import Comparison, Difference
from stairs_core.traces.records import Recording


def test_prompts_are_spread_over_the_file(tmp_path: Path):
    file = tmp_path / "prompts.txt"
    file.write_text("".join(f"Words: {i}\\nStory:\n" for i in range(10)), encoding="utf-8")
    assert bench.read_prompts(file, 2) == ["Words: 0\nStory:", "Words: 5\nStory:"]
    assert len(bench.read_prompts(file, 99)) == 10
    file.write_text("\n")
    with pytest.raises(InputError, match="no prompts"):
        bench.read_prompts(file, 2)
    with pytest.raises(InputError, match="cannot be read"):
        bench.read_prompts(tmp_path / "none.txt", 2)


def run_bench(folder: Path, file: Path, capsys, ks: str, *more: str) -> tuple[dict, list[str]]:
    file.write_text("Once upon a time\nThe fox ran\n", encoding="utf-8")
    options = ["--pair", str(folder), "--device", "cpu", "--prompts", str(file)]
    options += ["--repeats", "1", "--ks", ks, "--max-new-tokens", "16", "--json"]
    assert main(["bench", *options, *more]) == 0
    out = capsys.readouterr().out.splitlines()
    return json.loads(out[-1]), out


def test_a_bench_from_the_command_line(tiny_pair_dir, tmp_path: Path, capsys):
    report, out = run_bench(tiny_pair_dir, tmp_path / "prompts.txt", capsys, "2")
    names = [row["name"] for row in report["rows"]]
    assert names[:2] == ["none", "none, strict"]
    assert {"model, K = 2", "model, K auto", "lookup, K = 10", "hybrid, K auto"} <= set(names)
    assert not [name for name in names if "transformers" in name]
    for row, line in zip(report["rows"], out[2:], strict=False):
        same = None if row["lossy"] else 2
        assert (row["races"], row["identical"]) == (2, same), row["name"]
        assert row["lossy"] == row["name"].startswith("slm-alone")
        assert line.endswith("| lossy |" if row["lossy"] else "| 2 of 2 |")
        assert f"| {row['name']} | {row['speedup']:.2f}" in line
        unpriced = not methods.priced(row["name"].split(",")[0])
        assert row["share_of_ideal"] is None or (not unpriced and 0 < row["share_of_ideal"] <= 1)
        assert row["speedup_overall"] > 0


def test_a_text_that_is_another_by_rounding_alone_is_told_from_a_fault(
    tiny_pair_dir, tmp_path: Path, capsys, monkeypatch
):
    """Each lane's second race ends in another text: in one lane at a tie, in the other not."""
    real, races = bench.compare, Counter[str]()

    def compare(alone: Recording, other: Recording) -> Comparison:
        found = real(alone, other)
        assert found.identical
        races[other.run.drafter] += 1
        if races[other.run.drafter] == 1:
            return found
        verdict = "rounding tie" if other.run.drafter == "lookup" else "unexplained"
        where = Difference(3, 1, 2, "a", "b", 0.0, 0.1, verdict)
        return replace(found, identical=False, first_difference=where)

    monkeypatch.setattr(bench, "compare", compare)
    only = ["--drafters", "lookup,model", "--only", "lookup, K = 10", "model, K = 2"]
    report, out = run_bench(tiny_pair_dir, tmp_path / "prompts.txt", capsys, "2", *only)
    rows = {row["name"]: (row["identical"], row["rounding_ties"]) for row in report["rows"]}
    assert rows["lookup, K = 10"] == (1, 1)
    assert rows["model, K = 2"][1] == 0
    (tied,) = [line for line in out if line.startswith("| lookup")]
    assert tied.endswith("| 1 of 2, 1 by rounding |")
    assert not [line for line in out if line.startswith("| model") and "rounding" in line]


def test_what_people_use_today_writes_the_same_text(tiny_pair_dir, tmp_path: Path, capsys):
    file = tmp_path / "prompts.txt"
    report, _ = run_bench(
        tiny_pair_dir, file, capsys, "2,4", "--drafters", "model", "--against", "transformers"
    )
    theirs = [r for r in report["rows"] if "transformers" in r["name"] or "gpt-fast" in r["name"]]
    assert len(theirs) == 8
    for row in theirs:
        assert (row["races"], row["identical"]) == (2, 2), row["name"]
        assert row["speedup"] > 0
        assert row["rounding_ties"] is None


@pytest.mark.cpu
def test_all_that_the_bundled_pair_is_raced_with_by_default(tmp_path: Path, capsys):
    """As it is loaded by default, too: with Stairs' own passes."""
    pair = load_pair("bundled", "cpu")
    lanes = bench.ours(pair, [2], 4, tuple(methods.REGISTRY))
    (rows,) = bench.bench(pair, ["Once upon a time"], lanes, {}, 1, 4)
    assert {row.name.split(",")[0] for row in rows} >= {
        "model",
        "slm-alone",
        "layer-skip",
        "shared",
    }
    for name, settings in lanes.items():
        passes = Runner(pair, "Once", settings).recording().run.passes
        assert passes == "lean", name


def test_a_bench_of_some_lanes(tiny_pair_dir, tmp_path: Path, capsys):
    """Parts of lanes' names choose them, ours and others'."""
    file, options = tmp_path / "prompts.txt", ["--drafters", "lookup,model", "--against"]
    options += ["transformers", "--only", "K = 4", "confidence"]
    report, _ = run_bench(tiny_pair_dir, file, capsys, "2,4", *options)
    names = [row["name"] for row in report["rows"]]
    assert names == [
        "model, K = 4",
        "model, K = 4, strict",
        "transformers, assisted, confidence 0.4",
        "gpt-fast's loop, K = 4",
    ]
    assert [row["races"] for row in report["rows"]] == [2] * 4
    assert main(["bench", "--pair", str(tiny_pair_dir), "--ks", "2", "--only", "eagles"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "'eagles'" in error
    assert "model, K = 2" in error


def test_a_peer_leaves_the_assistants_config_as_it_was(tiny_pair):
    before = tiny_pair.draft.generation_config.to_dict()
    for name, peer in baselines.against_transformers(True).items():
        assert len(peer(tiny_pair, [5, 6, 7, 5, 6], 12)) == 12, name
    assert tiny_pair.draft.generation_config.to_dict() == before


def test_peers_are_greedy_and_keep_to_the_context_whatever_the_pair(tiny_pair, lean_pair):
    """A model's own penalties are theirs too; a long prompt leaves room for a few tokens."""
    ids = [3 + i % 50 for i in range(240)]
    expected = baselines.transformers_generate(tiny_pair, ids, 64)
    assert len(expected) == 16
    for pair in (tiny_pair, lean_pair):
        assert baselines.gpt_fast(pair, ids, 64, k=5) == expected
    config = tiny_pair.target.generation_config
    config.repetition_penalty = 1.9
    try:
        plain, expected = expected, baselines.transformers_generate(tiny_pair, ids, 64)
        assert expected != plain
        assert baselines.gpt_fast(tiny_pair, ids, 64, k=5) == expected
        for name, peer in baselines.against_transformers(True).items():
            assert peer(tiny_pair, ids, 64) == expected, name
    finally:
        config.repetition_penalty = None


def test_a_model_that_cannot_be_strict_has_no_strict_lanes(tiny_pair, monkeypatch):
    def refuse(self):
        raise InputError("not this one")

    monkeypatch.setattr(type(tiny_pair), "require_strict", refuse)
    lanes = bench.ours(tiny_pair, [4], 24, ["model", "reference"])
    assert [*lanes] == ["none", "model, K = 4", "model, K auto"]


def test_a_reference_that_cannot_be_read_is_refused(tiny_pair_dir, capsys):
    options = ["--pair", str(tiny_pair_dir), "--count", "1", "--repeats", "1"]
    assert main(["bench", *options, "--reference", "no-such-file.txt"]) == 2
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--ks", "2,x"], ["--repeats", "0"], ["--ks", "99"]])
def test_bad_options_are_refused_at_once(wrong, capsys):
    assert main(["bench", *wrong]) == 2
    assert capsys.readouterr().err.count("\n") == 1
