"""How commands end: bad input, failures, Ctrl-C, a reader that has left."""

# ruff: noqa: F811 (fixtures are imported, then named by the tests)
from __future__ import annotations

import functools
import gc
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from paths import ROOT
from shell import decode, python, refused, stairs, trace_file  # noqa: F401

from stairs_core.cli import main
from stairs_core.importing import importing
from stairs_core.measuring import race
from stairs_core.measuring.runner import Runner
from stairs_core.models import load
from stairs_core.settings import settings
from stairs_core.traces import files
from stairs_core.training import command as training

EARLY = {
    (): "COMMAND",
    ("walk",): "'walk'",
    ("run",): "--prompt",
    ("run", "--prompt", ""): "prompt is empty",
    ("run", "--prompt", " \n\t"): "prompt is empty",
    ("run", "--prompt", "x", "--k", "0"): "1 to 32",
    ("run", "--prompt", "x", "--k", "33"): "1 to 32",
    ("run", "--prompt", "x", "--k", "two"): "or auto",
    ("run", "--prompt", "x", "--k", "auto", "--length", "heuristic"): "leave out --length",
    ("run", "--prompt", "x", "--length", "long"): "length policy",
    ("run", "--prompt", "x", "--numerics", "exact"): "numerics",
    ("run", "--prompt", "x", "--numerics", "strict", "--backend", "matrix"): "single_kv",
    ("run", "--prompt", "x", "--max-new-tokens", "0"): "1 to 4096",
    ("run", "--prompt", "x", "--max-new-tokens", "4097"): "1 to 4096",
    ("run", "--prompt", "x", "--drafter", "oracle"): "none, model",
    ("run", "--prompt", "x", "--backend", "magic"): "single_kv",
    ("run", "--prompt", "x", "--dtype", "int1"): "float32",
    ("run", "--prompt", "x", "--trace", "no/such/folder/t.jsonl"): "no/such/folder",
    ("run", "--prompt", "x", "--trace", "."): "written",
    ("run", "--prompt", "x", "--trace", "-"): "stdout has the text",
    ("run", "--prompt", "x", "--reference", "f"): "drafter suffix or reference",
    ("run", "--prompt", "x", "--drafter", "lookup", "--reference", "f"): "Nobody here reads",
    ("race", "--prompt", "x", "--reference", "f"): "Nobody here reads",
    ("bench", "--drafters", "lookup", "--reference", "f"): "Nobody here reads",
    ("run", "--prompt", "x", "--temperature", "0", "--top-k", "5"): "--top-k is about dice",
    ("run", "--prompt", "x", "--temperature", "0", "--rule", "coupled"): "--rule is about dice",
    ("run", "--prompt", "x", "--nonsense"): "--nonsense",
    ("run", "--prompt", "x", "--max", "5"): "--max",
    ("race", "--prompt", "x", "--lanes", "none"): "two lanes",
    ("race", "--prompt", "x", "--lanes", ""): "two lanes",
    ("race", "--prompt", "x", "--lanes", "none,"): "''",
    ("race", "--prompt", "x", "--lanes", "none,oracle"): "'oracle'",
    ("show",): "FILE",
    ("show", "no-such-file"): "cannot be read",
    ("show", str(ROOT / "LICENSE")): "neither a Stairs trace",
    ("show", "x", "--step", "two"): "--step",
    ("show", "x", "--step", "2", "--html", "y"): "leave out --step",
    ("show", "x", "--html", "-"): "is no file",
    ("train", "nope"): "train head, train slm and train space",
    ("run", "--prompt", "x", "--backend", "\x1b[2J\nb"): "backend",
    ("run", "--prompt", "x", "\x1b[2J"): "\u241b[2J",
}


@pytest.mark.parametrize("args", EARLY, ids=" ".join)
def test_bad_options_are_refused_in_one_sentence(args, capsys):
    status = main.main(args)
    assert EARLY[args] in refused(status, *capsys.readouterr())


def test_bad_options_are_refused_before_torch_is_loaded():
    code = (
        "import sys; from stairs_core.cli import main\n"
        f"assert all(main.main(args) == 2 for args in {list(EARLY)!r})\n"
        "heavy = {'torch', 'transformers', 'gradio', 'plotly'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr[-500:]


@pytest.mark.parametrize(
    ("prompt", "reason"), [("word " * 999, "shorten it"), ("\udcff", "half a character")]
)
def test_a_prompt_that_cannot_be_read_is_refused(stairs, prompt, reason):
    assert reason in refused(*stairs("run", "--prompt", prompt))
    assert reason in refused(*stairs("race", "--json", "--prompt", prompt))


def test_options_know_the_dtypes():
    assert ("auto", *settings.DTYPES, *settings.BITS) == main.DTYPES


def test_a_real_pair_through_the_module(tiny_pair_dir):
    args = decode("--json", "--pair", str(tiny_pair_dir), "--device", "cpu", command="race")
    done = python("-m", "stairs_core", *args)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout.splitlines()[-1])["identical"] is True


@pytest.mark.parametrize("spoil", ["no weights", "truncated", "pickled", "no draft", "no folder"])
def test_a_pair_that_cannot_be_used_is_refused(tiny_pair_dir, tmp_path, capsys, spoil):
    pair = tmp_path / "pair"
    shutil.copytree(tiny_pair_dir, pair)
    weights = pair / "target" / "model.safetensors"
    if spoil == "no weights":
        weights.unlink()
    elif spoil == "truncated":
        os.truncate(weights, weights.stat().st_size - 9)
    elif spoil == "pickled":
        weights.rename(weights.with_name("pytorch_model.bin"))
    else:
        shutil.rmtree(pair if spoil == "no folder" else pair / "draft")
    status = main.main(decode("--pair", str(pair), "--drafter", "model"))
    refused(status, *capsys.readouterr())


def cut_short(honest, error: BaseException, after: int = 5):
    """A decoding, or a race, that ends in ``error`` after so many steps, or events."""

    def short(decoding: Runner | list[Runner]) -> Iterator:
        yield from itertools.islice(honest(decoding), after)
        raise error

    return short


@pytest.mark.parametrize("steps", [0, 5])
def test_an_interrupted_run_keeps_what_it_made(stairs, monkeypatch, tmp_path, steps):
    short = cut_short(Runner.decode, KeyboardInterrupt(), steps)
    monkeypatch.setattr(Runner, "decode", short)
    file = tmp_path / "t.jsonl"
    status, out, err = stairs(*decode("--json", "--drafter", "none", "--trace", str(file)))
    assert (status, err) == (130, "")
    report = json.loads(out.splitlines()[-1])
    assert (report["new_tokens"], report["stop_reason"]) == (steps, "stopped")
    (saved,) = files.read(file)
    assert len(saved.steps) == steps
    assert saved.stop.text == report["text"]


def test_an_interrupted_race_still_reports(stairs, monkeypatch):
    monkeypatch.setattr(race, "race", cut_short(race.race, KeyboardInterrupt(), 2))
    status, out, _ = stairs(*decode(command="race"))
    assert status == 130
    assert "cannot be timed" in out
    status, out, _ = stairs(*decode("--json", command="race"))
    assert status == 130
    assert json.loads(out)["speedup"] is None


def test_an_interrupt_while_loading_is_quiet(stairs, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(load, "load_pair", interrupted)
    assert stairs(*decode()) == (130, "", "")


def test_an_interrupted_training_says_how_far_it_came(monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt("stopped and saved after step 3")

    monkeypatch.setattr(training, "main", interrupted)
    assert main.main(["train", "--corpus", "x"]) == 130
    assert capsys.readouterr() == ("", "stopped and saved after step 3\n")


def test_a_failure_is_one_sentence_and_keeps_the_trace(stairs, monkeypatch, tmp_path):
    short = cut_short(Runner.decode, RuntimeError("no\nmemory \x1b[2J"))
    monkeypatch.setattr(Runner, "decode", short)
    monkeypatch.delenv("STAIRS_DEBUG", raising=False)
    file = tmp_path / "t.jsonl"
    status, out, err = stairs(*decode("--json", "--trace", str(file)))
    assert (status, out) == (1, "")
    assert err == "Stairs failed: RuntimeError: no memory \u241b[2J.\n"
    assert len(files.read(file)[0].steps) == 5
    monkeypatch.setenv("STAIRS_DEBUG", "1")
    with pytest.raises(RuntimeError):
        stairs(*decode("--json"))


@pytest.mark.skipif(os.name != "posix", reason="pipes end otherwise elsewhere")
def test_a_closed_pipe_is_quiet(trace_file):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "stairs_core", "show", str(trace_file)]
    done = subprocess.run(command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    "closed", [*(pytest.param(n, marks=pytest.mark.slow) for n in "12"), "012"]
)
def test_a_closed_stream_is_no_failure(closed, tiny_pair_dir, tmp_path):
    """As a shell closes it (``>&-``); the file that is opened next must not stand in its place."""
    file = tmp_path / "t.jsonl"
    command = [sys.executable, "-m", "stairs_core", *decode("--trace", str(file))]
    command += ["--pair", str(tiny_pair_dir), "--compile", "off"]
    kept = {n: subprocess.PIPE for n, fd in (("stdout", "1"), ("stderr", "2")) if fd not in closed}
    shell = f'exec "$@" {" ".join(f"{fd}>&-" for fd in closed)}'
    done = subprocess.run(["sh", "-c", shell, "sh", *command], cwd=ROOT, **kept)
    assert done.returncode == 0, done.stderr
    (saved,) = files.read(file)
    if "1" not in closed:
        assert done.stdout.decode() == saved.stop.text + "\n"
    if "2" not in closed:
        assert b"tok/call" in done.stderr


@pytest.mark.parametrize("prompt", ["-x", "--json", "--prompt", "-- --pair", "-", "=", "--k=3"])
def test_a_prompt_may_look_like_an_option(stairs, prompt, tmp_path):
    for words in (["--prompt", prompt], [f"--prompt={prompt}"]):
        file = tmp_path / "t.jsonl"
        assert stairs("run", *words, "--trace", str(file), "--max-new-tokens", "1")[0] == 0
        assert files.read(file)[0].run.prompt == prompt


@pytest.mark.parametrize(
    ("data", "prompt"),
    [
        (b"A fox\n", "A fox"),
        (b"A fox\r\n", "A fox"),
        (b" A fox\n\nran\n\n", " A fox\n\nran\n"),
        ("naïve 🦊".encode(), "naïve 🦊"),
        (b"\xef\xbb\xbfA fox", "A fox"),
        ("A fox\r\n".encode("utf-16"), "A fox"),
    ],
)
def test_a_prompt_comes_from_a_file_or_a_pipe(stairs, tmp_path, monkeypatch, data, prompt):
    (tmp_path / "-prompt.txt").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    for name in ("-prompt.txt", str(tmp_path / "-prompt.txt"), "-"):
        more = ("--trace", "t.jsonl", "--max-new-tokens", "1")
        assert stairs("run", "--prompt-file", name, *more)[0] == 0
        assert files.read("t.jsonl")[0].run.prompt == prompt


def test_a_prompt_file_that_will_not_do_is_refused(tmp_path, monkeypatch, capsys):
    (tmp_path / "bytes").write_bytes(b"\xff\x80")
    (tmp_path / "empty").write_bytes(b" \n")
    (tmp_path / "long").write_bytes(b"x" * (4 * 2**20 + 1))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    asked = {"bytes": "in UTF-8", "empty": "is empty", "long": "more than 4 MB"}
    asked |= {"none": "There is no prompt file", ".": "is a folder", "x" * 5000: "name another"}
    for name, words in asked.items():
        status = main.main(["run", "--prompt-file", str(tmp_path / name)])
        assert words in refused(status, *capsys.readouterr())
    assert "is empty" in refused(main.main(["run", "--prompt-file", "-"]), *capsys.readouterr())
    both = main.main(["run", "--prompt", "x", "--prompt-file", "y"])
    assert "not allowed with" in refused(both, *capsys.readouterr())


def test_transformers_reads_its_files_once(monkeypatch):
    """Its scan of them is kept as a whole; other caches have the limits that they ask for."""

    def create_import_structure_from_path(path):
        return scanned.append(path)

    scanned: list[int] = []
    with importing():
        scan = functools.lru_cache(create_import_structure_from_path)
        bare, told = functools.lru_cache(str), functools.lru_cache(maxsize=7)(str)
    for _ in range(2):
        [scan(n) for n in range(600)]
    assert scanned == [*range(600)]
    sizes = [cached.cache_parameters()["maxsize"] for cached in (bare, told)]
    assert sizes == [128, 7]
    assert functools.lru_cache(create_import_structure_from_path).cache_info().maxsize == 128
    from transformers.utils import import_utils

    assert hasattr(import_utils, "create_import_structure_from_path"), "it has another name now"


def test_garbage_is_looked_for_again_once_the_libraries_are_imported(monkeypatch):
    frozen = gc.get_freeze_count()
    try:
        with importing():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() == frozen, "a model in memory then would stay there"
        with importing():
            monkeypatch.setitem(sys.modules, "a_new_one", None)
        assert gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()
