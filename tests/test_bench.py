"""The bench measures what it says, over the prompts it is given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stairs_core import bench
from stairs_core.cli import main
from stairs_core.errors import InputError


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


def test_a_bench_from_the_command_line(tiny_pair_dir, tmp_path: Path, capsys):
    file = tmp_path / "prompts.txt"
    file.write_text("Once upon a time\nThe fox ran\n", encoding="utf-8")
    options = ["--pair", str(tiny_pair_dir), "--device", "cpu", "--prompts", str(file)]
    assert main(["bench", *options, "--repeats", "1", "--ks", "2,4", "--json"]) == 0
    out = capsys.readouterr().out.splitlines()
    report = json.loads(out[-1])
    names = ["none", "model, K = 2", "model, K = 4", "transformers"]
    assert [row["name"] for row in report["rows"]] == names
    for row, line in zip(report["rows"], out[2:], strict=False):
        assert (row["races"], row["identical"]) == (2, 2)
        assert f"| {row['name']} | {row['speedup']:.2f}" in line


@pytest.mark.parametrize("wrong", [["--ks", "2,x"], ["--repeats", "0"], ["--ks", "99"]])
def test_bad_options_are_refused_at_once(wrong, capsys):
    assert main(["bench", *wrong]) == 2
    assert capsys.readouterr().err.count("\n") == 1
