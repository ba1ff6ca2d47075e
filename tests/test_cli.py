"""The command line: what it prints, what it refuses, and how it ends."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from recordings import recording

from stairs_core import cli, models, race, trace
from stairs_core.race import Runner
from stairs_core.render.cells import visible

ROOT = Path(__file__).resolve().parent.parent
RUN_KEYS = [
    "text",
    "token_ids",
    "new_tokens",
    "steps",
    "stop_reason",
    "drafted",
    "accepted",
    "checked",
    "acceptance_rate",
    "alpha",
    "tokens_per_target_call",
    "seconds",
    "draft_seconds",
    "verify_seconds",
    "other_seconds",
    "tokens_per_second",
    "drafter",
    "k",
    "backend",
    "exactness",
]
PROMPT = "Once upon a time there was"


@pytest.fixture
def stairs(capsys, tiny_pair, monkeypatch):
    """Runs a command on the tiny pair: its status, stdout and stderr."""
    monkeypatch.setattr(models, "load_pair", lambda *_: tiny_pair)

    def run(*args: str) -> tuple[int, str, str]:
        status = cli.main(args)
        out, err = capsys.readouterr()
        return status, out, err

    return run


def decode(*more: str, command: str = "run") -> tuple[str, ...]:
    return (command, "--prompt", PROMPT, "--k", "3", "--max-new-tokens", "12", *more)


def python(*args: str, **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args], cwd=ROOT, capture_output=True, encoding="utf-8", **more
    )


def test_run_says_all_that_was_promised(stairs, tmp_path):
    file = tmp_path / "t.jsonl"
    status, out, err = stairs(*decode("--json", "--trace", str(file), "--backend", "matrix"))
    assert (status, err) == (0, "")
    assert out.endswith("}\n")
    report = json.loads(out.splitlines()[-1])
    assert list(report) == RUN_KEYS
    assert report["new_tokens"] == len(report["token_ids"]) == 12
    assert report["stop_reason"] == "length"
    assert (report["k"], report["drafter"], report["backend"]) == (3, "model", "matrix")
    assert report["drafted"] >= report["checked"] >= report["accepted"] > 0
    (saved,) = trace.read(file)
    assert [t.id for s in saved.steps for t in s.committed] == report["token_ids"]
    assert saved.stop.text == report["text"]
    assert saved.run.prompt == PROMPT


def test_the_drafter_and_the_backend_do_not_change_the_text(stairs):
    texts = set()
    for more in (("--drafter", "none"), ("--k", "1"), ("--backend", "single")):
        report = json.loads(stairs(*decode("--json", *more))[1])
        texts.add(tuple(report["token_ids"]))
        if "none" in more:
            assert report["steps"] == report["new_tokens"]
            assert report["acceptance_rate"] is report["alpha"] is None
    assert len(texts) == 1


def test_run_types_the_text_and_nothing_else_on_stdout(stairs):
    _, out, err = stairs(*decode())
    report = json.loads(stairs(*decode("--json"))[1])
    assert out == report["text"] + "\n"
    assert err.splitlines()[0].split()[:3] == ["lane", "tokens", "seconds"]
    assert err.splitlines()[1].split()[:2] == ["model", "12"]


def test_run_on_a_terminal_dims_the_prompt_and_obeys_no_token(stairs, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    text = json.loads(stairs(*decode("--json"))[1])["text"]
    with monkeypatch.context() as patch:
        patch.setattr(sys.stdout, "isatty", lambda: True)
        _, out, _ = stairs(*decode())
    assert out == f"\x1b[2m{PROMPT}\x1b[0m{visible(text, chr(10))}\n"


def test_race_compares_the_lanes(stairs, tmp_path):
    file = tmp_path / "t.jsonl"
    status, out, err = stairs(*decode("--json", "--trace", str(file), command="race"))
    assert (status, err) == (0, "")
    report = json.loads(out.splitlines()[-1])
    assert list(report) == ["lanes", "speedup", "identical", "first_difference"]
    first, last = report["lanes"]
    assert list(first) == list(last) == ["name", *RUN_KEYS]
    assert (first["name"], last["name"]) == ("none", "model")
    assert report["speedup"] == pytest.approx(first["seconds"] / last["seconds"])
    assert report["identical"] is True
    assert report["first_difference"] is None
    assert first["token_ids"] == last["token_ids"]
    assert [lane.run.name for lane in trace.read(file)] == ["none", "model"]
    assert stairs("show", str(file))[0] == 0


def test_race_tells_apart_lanes_of_one_drafter(stairs):
    _, out, _ = stairs(*decode("--json", "--lanes", "none, model,none,none", command="race"))
    names = [lane["name"] for lane in json.loads(out)["lanes"]]
    assert names == ["none", "model", "none#2", "none#3"]


def test_race_in_words(stairs):
    _, out, err = stairs(*decode(command="race"))
    header, none, model, verdict = out.splitlines()
    assert header.split() == ["lane", "tokens", "seconds", "tok/s", "tok/call", "accepted", "alpha"]
    assert (none.split()[0], model.split()[0]) == ("none", "model")
    assert len(header) == len(none) == len(model)
    assert verdict.endswith("the texts are the same, all 12 tokens.")
    assert err == ""


def test_a_difference_is_reported(stairs, monkeypatch):
    """Lanes that part, which the engine does not make: their tokens are changed on the way out."""
    honest = Runner.recording

    def tampered(self: Runner) -> trace.Recording:
        made = honest(self)
        if self.name == "none":
            return made
        first, *rest = made.steps
        odd = replace(first, tokens=tuple(replace(t, id=t.id + 1) for t in first.tokens))
        return replace(made, steps=(odd, *rest))

    monkeypatch.setattr(Runner, "recording", tampered)
    report = json.loads(stairs(*decode("--json", command="race"))[1])
    assert report["identical"] is False
    where = report["first_difference"]
    assert where["position"] == 0
    assert set(where) == {"position", "first", "second", "margin", "verdict"}
    assert where["verdict"] in ("bug", "rounding tie")
    assert "the texts part at new token 1" in stairs(*decode(command="race"))[1]


EARLY = {
    (): "COMMAND",
    ("walk",): "'walk'",
    ("run",): "--prompt",
    ("run", "--prompt", ""): "prompt is empty",
    ("run", "--prompt", " \n\t"): "prompt is empty",
    ("run", "--prompt", "x", "--k", "0"): "1 to 32",
    ("run", "--prompt", "x", "--k", "33"): "1 to 32",
    ("run", "--prompt", "x", "--k", "two"): "--k",
    ("run", "--prompt", "x", "--max-new-tokens", "0"): "1 to 4096",
    ("run", "--prompt", "x", "--max-new-tokens", "4097"): "1 to 4096",
    ("run", "--prompt", "x", "--drafter", "oracle"): "none, model",
    ("run", "--prompt", "x", "--backend", "magic"): "single_kv",
    ("run", "--prompt", "x", "--dtype", "int1"): "float32",
    ("run", "--prompt", "x", "--trace", "no/such/folder/t.jsonl"): "no/such/folder",
    ("run", "--prompt", "x", "--trace", "."): "written",
    ("run", "--prompt", "x", "--nonsense"): "--nonsense",
    ("run", "--prompt", "x", "--max", "5"): "--max",
    ("race", "--prompt", "x", "--lanes", "none"): "two lanes",
    ("race", "--prompt", "x", "--lanes", ""): "two lanes",
    ("race", "--prompt", "x", "--lanes", "none,"): "''",
    ("race", "--prompt", "x", "--lanes", "none,oracle"): "'oracle'",
    ("show",): "FILE",
    ("show", "no-such-file"): "cannot be read",
    ("show", str(ROOT / "LICENSE")): "not a Stairs trace",
    ("show", "x", "--step", "two"): "--step",
    ("run", "--prompt", "x", "--backend", "\x1b[2J\nb"): "backend",
    ("run", "--prompt", "x", "\x1b[2J"): "\u241b[2J",
}


def refused(status: int, out: str, err: str) -> str:
    """The one sentence on stderr."""
    assert (status, out) == (2, "")
    assert err.endswith((".\n", ").\n"))
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert "\x1b" not in err
    return err


@pytest.mark.parametrize("args", EARLY, ids=" ".join)
def test_bad_options_are_refused_in_one_sentence(args, capsys):
    status = cli.main(args)
    assert EARLY[args] in refused(status, *capsys.readouterr())


def test_bad_options_are_refused_before_torch_is_loaded():
    code = (
        "import sys; from stairs_core import cli\n"
        f"assert all(cli.main(args) == 2 for args in {list(EARLY)!r})\n"
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
    assert ("auto", *models.DTYPES) == cli.DTYPES


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
    status = cli.main(decode("--pair", str(pair)))
    refused(status, *capsys.readouterr())


def cut_short(error: BaseException, after: int = 6):
    """A race that ends in ``error`` after some events."""
    honest = race.race

    def short(runners: list[Runner]) -> Iterator:
        yield from itertools.islice(honest(runners), after)
        raise error

    return short


@pytest.mark.parametrize(("after", "steps"), [(0, 0), (6, 5)])
def test_an_interrupted_run_keeps_what_it_made(stairs, monkeypatch, tmp_path, after, steps):
    monkeypatch.setattr(race, "race", cut_short(KeyboardInterrupt(), after))
    file = tmp_path / "t.jsonl"
    status, out, err = stairs(*decode("--json", "--drafter", "none", "--trace", str(file)))
    assert (status, err) == (130, "")
    report = json.loads(out.splitlines()[-1])
    assert (report["new_tokens"], report["stop_reason"]) == (steps, "stopped")
    (saved,) = trace.read(file)
    assert len(saved.steps) == steps
    assert saved.stop.text == report["text"]


def test_an_interrupted_race_still_reports(stairs, monkeypatch):
    monkeypatch.setattr(race, "race", cut_short(KeyboardInterrupt(), 2))
    status, out, _ = stairs(*decode(command="race"))
    assert status == 130
    assert "cannot be timed" in out
    status, out, _ = stairs(*decode("--json", command="race"))
    assert status == 130
    assert json.loads(out)["speedup"] is None


def test_an_interrupt_while_loading_is_quiet(stairs, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "load_pair", interrupted)
    assert stairs(*decode()) == (130, "", "")


def test_a_failure_is_one_sentence_and_keeps_the_trace(stairs, monkeypatch, tmp_path):
    monkeypatch.setattr(race, "race", cut_short(RuntimeError("no\nmemory \x1b[2J")))
    monkeypatch.delenv("STAIRS_DEBUG", raising=False)
    file = tmp_path / "t.jsonl"
    status, out, err = stairs(*decode("--json", "--trace", str(file)))
    assert (status, out) == (1, "")
    assert err == "Stairs failed: RuntimeError: no memory \u241b[2J.\n"
    assert len(trace.read(file)[0].steps) == 5
    monkeypatch.setenv("STAIRS_DEBUG", "1")
    with pytest.raises(RuntimeError):
        stairs(*decode("--json"))


@pytest.fixture
def trace_file(tmp_path) -> Path:
    trace.write(tmp_path / "t.jsonl", [recording(), recording(" \x1b[2J")])
    return tmp_path / "t.jsonl"


def test_show_draws_a_trace(trace_file, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    assert cli.main(["show", str(trace_file)]) == 0
    whole = capsys.readouterr().out
    assert "ended by eos" in whole
    assert "\x1b" not in whole
    assert cli.main(["show", str(trace_file), "--step", "2", "--no-color"]) == 0
    assert "step 2 of 2" in capsys.readouterr().out
    assert cli.main(["show", str(trace_file), "--step", "3"]) == 2
    assert "the steps 1 to 2" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(
    ("environment", "option", "coloured"),
    [({}, (), True), ({"NO_COLOR": "1"}, (), False), ({}, ("--no-color",), False),
     ({"TERM": "dumb"}, (), False), ({"NO_COLOR": ""}, (), True)],
)  # fmt: skip
def test_colour_is_for_terminals_that_want_it(trace_file, environment, option, coloured):
    import pty

    ours, theirs = pty.openpty()
    usual = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    command = [sys.executable, "-m", "stairs_core", "show", str(trace_file), *option]
    done = subprocess.run(
        command, cwd=ROOT, stdout=theirs, env=usual | {"TERM": "xterm"} | environment, check=True
    )
    os.close(theirs)
    drawn = b""
    while chunk := _read(ours):
        drawn += chunk
    os.close(ours)
    assert done.returncode == 0
    assert (b"\x1b[" in drawn) is coloured
    assert b"\x1b[2J" not in drawn


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so when the other side has left.
        return b""


@pytest.mark.skipif(os.name != "posix", reason="pipes end otherwise elsewhere")
def test_a_closed_pipe_is_quiet(trace_file):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "stairs_core", "show", str(trace_file)]
    done = subprocess.run(command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_output_that_the_terminal_cannot_encode_is_escaped(trace_file):
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = python("-m", "stairs_core", "show", str(trace_file), env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xe9" in done.stdout


def test_train_hands_on_its_report_and_its_complaints(monkeypatch, capsys, tmp_path):
    from stairs_core import training

    monkeypatch.setattr(training, "main", lambda args: {"corpus": str(args.corpus)})
    assert cli.main(["train", "--corpus", "here", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"corpus": "here"}
    monkeypatch.undo()
    status = cli.main(["train", "--corpus", str(tmp_path / "none"), "--out", str(tmp_path)])
    refused(status, *capsys.readouterr())
    assert "--corpus" in refused(cli.main(["train"]), *capsys.readouterr())


def test_help_is_there_for_every_command(capsys):
    for command in ((), ("run",), ("race",), ("show",), ("train",)):
        with pytest.raises(SystemExit) as left:
            cli.main([*command, "--help"])
        assert left.value.code == 0
        assert "stairs" in capsys.readouterr().out
