"""``--check``: what a difference between two texts is worth, and how a command ends on it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from stairs_core.cli.main import main
from stairs_core.errors import InputError
from stairs_core.measuring import same_text
from stairs_core.measuring.race import race
from stairs_core.measuring.runner import Runner
from stairs_core.models import load
from stairs_core.protocols import Proposal
from stairs_core.settings.settings import Settings


def arguments(folder, command: str, *more: str) -> list[str]:
    options = ["--prompt", "Once upon a time", "--pair", str(folder), "--device", "cpu"]
    return [command, *options, "--dtype", "float32", "--max-new-tokens", "24", "--check", *more]


@pytest.mark.parametrize("command", ["run", "race"])
def test_the_same_text_ends_with_0(tiny_pair_dir, capsys, command):
    assert main(arguments(tiny_pair_dir, command, "--json")) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["identical"], report["first_difference"]) == (True, None)


def parted(pair, margin: float):
    """A race whose second lane leaves the target's text by ``margin`` logits at token 7."""
    runners = [Runner(pair, "Once upon a time", Settings(d, k=3)) for d in ("none", "model")]
    for _ in race(runners):
        pass
    first, other = (r.recording() for r in runners)
    prefix = runners[0].prompt_ids + [t.id for s in first.steps[:7] for t in s.committed]
    row = same_text.verify.build("single", pair.target)(prefix, Proposal([]))[0]
    rest = row.clone()
    rest[row.argmax()] = -torch.inf
    wrong = int(rest.argmax())
    found, steps = 0, []
    for step in other.steps:
        tokens = list(step.tokens)
        predictions = list(step.predictions)
        for i, token in enumerate(tokens):
            kept = token.status in ("accepted", "correction", "bonus")
            if kept and found == 7:
                tokens[i] = replace(token, id=wrong)
                predictions[0] = replace(predictions[0], margin=margin)
            found += kept
        steps.append(replace(step, tokens=tuple(tokens), predictions=tuple(predictions)))
    return first, replace(other, steps=tuple(steps)), float(row.max() - rest.max())


def test_a_difference_that_rounding_cannot_explain_is_a_bug(tiny_pair):
    first, other, apart = parted(tiny_pair, 1e-6)
    measured = same_text.measure(tiny_pair, list(first.run.prompt_ids), "single_kv", "fast")
    other = replace(other, stop=replace(other.stop, noise=measured))
    (result,) = same_text.compare([first, other], tiny_pair)
    assert result.first_difference is not None
    assert result.first_difference.position == 7
    # The lane said that it was close; scored again, it was not.
    assert result.first_difference.rescored == pytest.approx(apart, abs=1e-3)
    assert result.first_difference.verdict == "bug"
    assert same_text.status([result]) == 1


def test_a_difference_within_the_noise_is_a_tie(tiny_pair):
    first, other, apart = parted(tiny_pair, 1e-6)
    other = replace(other, stop=replace(other.stop, noise=apart))
    (result,) = same_text.compare([first, other], tiny_pair)
    assert result.first_difference is not None
    assert result.first_difference.verdict == "rounding tie"
    assert same_text.status([result]) == 0


def test_a_model_that_does_not_fit_twice_keeps_its_result(tiny_pair, monkeypatch, capsys):
    def full(*_):
        raise InputError("The target does not fit: use a smaller one.")

    monkeypatch.setattr(load, "load_stock", full)
    first, other, _ = parted(tiny_pair, 1e-6)
    other = replace(other, stop=replace(other.stop, noise=1e-3))
    (result,) = same_text.compare([first, other], tiny_pair)
    assert result.first_difference is not None
    assert result.first_difference.rescored is None
    assert "does not fit" in capsys.readouterr().err


def test_the_first_lane_of_a_race_is_the_fastest_plain_decoding(tiny_pair_dir, capsys):
    assert main(arguments(tiny_pair_dir, "race", "--numerics", "strict", "--json")) == 0
    lanes = json.loads(capsys.readouterr().out.splitlines()[-1])["lanes"]
    assert [lane["backend"] for lane in lanes] == ["single_kv", "single_kv"]
    assert main(arguments(tiny_pair_dir, "race", "--backend", "matrix", "--json")) == 0
    lanes = json.loads(capsys.readouterr().out.splitlines()[-1])["lanes"]
    assert [lane["backend"] for lane in lanes] == ["single_kv", "matrix"]
