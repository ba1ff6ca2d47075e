"""``stairs train head`` as a command: killed, in several processes, refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import families
import pytest
import torch
from paths import ROOT
from safetensors.torch import load_file
from tiny_models import WORDS, make_model, perturb, save_pair

from stairs_core.cli import main

EAGER = (
    "import sys; from stairs_core.training.heads import loop; loop.SAVE_SECONDS = 0.0; "
    "from stairs_core.cli import main; sys.exit(main.main(sys.argv[1:]))"
)
"""The command line, with a checkpoint after every step."""


RANKED = """
import json, os, sys
from stairs_core.cli import main
from stairs_core.training.heads import ranks

rows, share = [], ranks.Ranks.share
def noted(self, batch):
    mine = share(self, batch)
    rows.append(len(mine["ids"]))
    return mine
ranks.Ranks.share = noted
status = main.main(sys.argv[1:])
with open("rank" + os.environ["RANK"] + ".json", "w") as file:
    json.dump(rows, file)
sys.exit(status)
"""
"""The command line, which notes how many texts of each step its process had."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    works = [f"{WORDS[0]} It was number {i}. {WORDS[1]}" for i in range(60)]
    (folder / "a.txt").write_text("\n<|endoftext|>\n".join(works), encoding="utf-8")
    return folder


def words(target: Path, corpus: Path, folder: Path, *more: str) -> list[str]:
    given = ["train", "head", "--kind", "medusa", "--target", str(target), "--corpus", str(corpus)]
    given += ["--out", str(folder / "medusa"), "--work", str(folder / "work"), "--tokens", "1024"]
    return [*given, "--length", "32", "--texts", "8", "--device", "cpu", *more]


def started(command: list[str], place: Path) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    return subprocess.Popen(command, cwd=place, env=environment, **output)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "medusa" / "model.safetensors")


@pytest.mark.slow
def test_a_head_whose_training_is_killed_is_the_same(tiny_pair_dir, corpus, tmp_path, capsys):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    target, more = tiny_pair_dir / "target", ("--passes", "100")
    assert main.main(words(target, corpus, whole, *more)) == 0
    given = words(target, corpus, killed, *more)
    with started([sys.executable, "-P", "-c", EAGER, *given], tmp_path) as process:
        end = time.monotonic() + 120
        while not [*killed.glob("work/*/medusa-*.pt")]:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (killed / "medusa").exists()
    state = torch.load(next(killed.glob("work/*/medusa-*.pt")), weights_only=True)
    assert 0 < state["step"] < 400
    assert main.main(given) == 0
    one, two = weights(whole), weights(killed)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert capsys.readouterr().out.count('"kind": "medusa"') == 2


def test_two_processes_train_one_head_together(tiny_pair_dir, corpus, tmp_path, capsys):
    target, one, two = tiny_pair_dir / "target", tmp_path / "one", tmp_path / "two"
    assert main.main(words(target, corpus, one, "--passes", "2")) == 0
    capsys.readouterr()
    # What accelerate launch does for several devices; for CPUs it would want MPI.
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    script = tmp_path / "script.py"
    script.write_text(RANKED)
    command = [*launcher, "--standalone", str(script), *words(target, corpus, two, "--passes", "2")]
    with started([*command, "--json"], tmp_path) as process:
        out, _ = process.communicate(timeout=240)
    assert process.returncode == 0
    assert json.loads(out.splitlines()[-1])["kind"] == "medusa"
    assert out.count('"kind"') == 1, "one process tells"
    steps = [json.loads((tmp_path / f"rank{i}.json").read_text()) for i in range(2)]
    assert steps == [[4] * 8] * 2, "each has half of the eight texts of a step"
    # So rounding, and how losses are averaged, differ a bit.
    for name, weight in weights(one).items():
        apart = (weight - weights(two)[name]).float().norm() / weight.float().norm()
        assert apart < 0.2, name
    assert len([*two.glob("work/*/texts-*")]) == len([*one.glob("work/*/texts-*")])


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["--tokens", "0"], "is to write 0 tokens"),
        (["--length", "24"], "up to 24 are its opening"),
        (["--length", "999"], "longer than .* reads, which is 256"),
        (["--conditions", "2"], "share of texts with conditions is 2"),
        (["--passes", "0"], "Nothing is learned in 0 passes"),
        (["--texts", "0"], "A step has a text at least"),
        (["--lr", "-1"], "learning rate is -1"),
        (["--heads", "0"], "number of heads is 0"),
        (["--depth", "-1"], "number of blocks in a head is -1"),
        (["--kind", "draft", "--vocabulary", "0"], "Nothing is guessed among 0 tokens"),
        (["--vocabulary", "-3"], "Nothing is guessed among -3 tokens"),
        (["--kind", "eagle", "--unroll", "0"], "must be from 1 to 30 in texts of 32 tokens"),
        (["--kind", "eagle", "--unroll", "31"], "must be from 1 to 30 in texts of 32 tokens"),
        (["--seed", "9223372036854775808"], "at most 18 digits"),
        (["--corpus", "."], "No text was found"),
        (["--corpus", "nowhere"], "no corpus folder nowhere"),
        (["--target", "no/such/model"], "no folder no/such/model"),
    ],
)
def test_bad_input_of_a_training_is_one_sentence(
    tiny_pair_dir, corpus, tmp_path, monkeypatch, capsys, given, why
):
    monkeypatch.chdir(tmp_path)
    head = tmp_path / "medusa"
    shutil.copytree(tiny_pair_dir / "heads" / "medusa", head)
    before = {file.name: file.read_bytes() for file in head.iterdir()}
    status = main.main([*words(tiny_pair_dir / "target", corpus, tmp_path), *given])
    assert said(status, *capsys.readouterr(), why)
    assert before == {file.name: file.read_bytes() for file in head.iterdir()}
    assert not (tmp_path / "work").exists()


def test_an_option_of_another_kind_is_told_to_change_nothing(
    tiny_pair_dir, corpus, tmp_path, capsys
):
    given = words(tiny_pair_dir / "target", corpus, tmp_path, "--unroll", "3", "--ngrams", "4")
    assert main.main([*given, "--heads", "2", "--seconds", "60"]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "changes nothing" in line]
    assert told == [
        "--unroll is an option of eagle: it changes nothing for medusa.",
        "--ngrams is an option of ngram-table: it changes nothing for medusa.",
    ]


@pytest.mark.parametrize("kind", ["", "head", "slm", "space"])
def test_a_loss_that_is_no_number_is_null(monkeypatch, capsys, kind):
    from stairs_core.training import command as training
    from stairs_core.training.heads import command as heads
    from stairs_core.training.slm import command as slm
    from stairs_core.training.space import command as space

    module = {"": training, "head": heads, "slm": slm, "space": space}[kind]
    monkeypatch.setattr(module, "main", lambda args: {"log": [{"loss": float("nan")}]})
    given = ["--corpus", "x", "--out", "y", "--json"]
    given += ["--kind", "medusa"] if kind == "head" else []
    given += ["--target", "bundled"] if kind == "space" else []
    assert main.main(["train", *filter(None, [kind]), *given]) == 0
    assert json.loads(capsys.readouterr().out) == {"log": [{"loss": None}]}


@pytest.mark.parametrize(
    ("kind", "family", "why"),
    [
        ("head", "T5", "hidden states of t5 cannot be read here"),
        ("head", "GPT2", "final norm of gpt2 was not found"),
        ("space", "T5", "is an encoder-decoder model: choose a causal one"),
    ],
)
def test_a_model_that_cannot_be_trained_on_is_refused_at_once(
    tmp_path, corpus, capsys, kind, family, why
):
    families.save(family, tmp_path / "pair")
    given = ["--target", str(tmp_path / "pair" / "target"), "--corpus", str(corpus)]
    given += ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), "--device", "cpu"]
    given += ["--kind", "medusa"] if kind == "head" else []
    capsys.readouterr()
    status = main.main(["train", kind, *given, "--length", "64", "--tokens", "9999"])
    assert said(status, *capsys.readouterr(), why)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pair"]


def said(status: int, out: str, err: str, why: str) -> bool:
    """Whether the command ended as bad input does: status 2 and one sentence, which has ``why``."""
    import re

    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert re.search(why, err), err
    return True


@pytest.fixture
def pair(tmp_path) -> Path:
    """A pair of this test's own, whose head it may spoil."""
    target = make_model(layers=4)
    return save_pair(tmp_path / "pair", target, perturb(target))


def cut(head: Path) -> None:
    file = head / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def pickled(head: Path) -> None:
    (head / "model.safetensors").rename(head / "pytorch_model.bin")


def changed(**values) -> object:
    def spoil(head: Path) -> None:
        file = head / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return spoil


SPOILED = [
    (cut, "cut off or damaged"),
    (pickled, "pickled weights can run code"),
    (changed(target_hidden_size=64), "another target .*width 64, not 32"),
    (changed(target_layers=9), "another target .*layers 9, not 4"),
    (changed(stairs_target_fingerprint="0" * 32), "another target .*other weights"),
    (changed(medusa_num_heads=5), "tensors are not those that its config.json describes"),
    (changed(medusa_num_heads=0), "its config.json says medusa_num_heads = 0"),
    (shutil.rmtree, "No head was trained on .*, as medusa needs"),
]


@pytest.mark.parametrize(("spoil", "why"), SPOILED)
def test_a_run_with_a_head_that_will_not_do_is_refused(pair, capsys, spoil, why):
    spoil(pair / "heads" / "medusa")
    given = ["run", "--pair", str(pair), "--drafter", "medusa", "--prompt", "The fox"]
    status = main.main([*given, "--max-new-tokens", "4", "--compile", "off"])
    assert said(status, *capsys.readouterr(), why)
