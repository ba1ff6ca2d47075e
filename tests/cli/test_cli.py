"""The command line: what each command prints."""

# ruff: noqa: F811 (fixtures are imported, then named by the tests)
from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from paths import ROOT
from recordings import recording
from shell import PROMPT, decode, python, refused, stairs, trace_file  # noqa: F401

from stairs_core.cli import decode as commands
from stairs_core.cli import main
from stairs_core.measuring.runner import Runner
from stairs_core.render.terminal.text import visible
from stairs_core.traces import files, records

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
    "sampling",
    "defaults",
    "left_out",
]


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
    (saved,) = files.read(file)
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


def test_each_guesser_guesses_as_many_as_suit_it_unless_it_is_told(stairs, tmp_path):
    file = str(tmp_path / "race.jsonl")
    asked = ("--prompt", PROMPT, "--max-new-tokens", "2", "--trace", file)

    def ks(*more: str) -> list[tuple[str, int, str]]:
        assert stairs("race", "--lanes", "none,model,lookup,recycle", *asked, *more)[0] == 0
        return [(r.run.drafter, r.run.k, r.run.length) for r in files.read(file)[1:]]

    fixed = [("model", 6, "constant"), ("lookup", 10, "constant"), ("recycle", 8, "constant")]
    assert ks() == fixed
    assert ks("--k", "3") == [(name, 3, length) for name, _, length in fixed]
    assert ks("--length", "heuristic") == [(name, k, "heuristic") for name, k, _ in fixed]
    assert stairs("run", "--drafter", "lookup", *asked)[0] == 0
    assert files.read(file)[0].run.k == 10


def test_a_head_that_is_named_is_used(stairs, tiny_pair, tiny_pair_dir, monkeypatch, tmp_path):
    monkeypatch.setattr(tiny_pair.target, "given_head", None, raising=False)
    folder = tmp_path / "mine"
    shutil.copytree(tiny_pair_dir / "heads" / "eagle", folder)
    words = decode("--json", "--drafter", "eagle", "--head", str(folder))
    text = json.loads(stairs(*decode("--json", "--drafter", "none"))[1])["token_ids"]
    status, out, _ = stairs(*words)
    assert (status, json.loads(out)["token_ids"]) == (0, text)
    (folder / "model.safetensors").unlink()
    assert "it needs model.safetensors" in refused(*stairs(*words))


@pytest.mark.parametrize(("said", "k"), [(3, 3), (9, 9), (0, 5), (99, 5), ("3", 5), (None, 5)])
def test_an_eagle_head_that_says_how_many_guesses_suit_it_makes_so_many(
    stairs, tiny_pair, tiny_pair_dir, monkeypatch, tmp_path, said, k
):
    """As servers read ``speculative_tokens``; what cannot be a K is passed over."""
    monkeypatch.setattr(tiny_pair.target, "given_head", None, raising=False)
    folder, file = tmp_path / "mine", tmp_path / "run.jsonl"
    shutil.copytree(tiny_pair_dir / "heads" / "eagle", folder)
    config = json.loads((folder / "config.json").read_text())
    config["speculators_config"]["proposal_methods"] = [{"speculative_tokens": said}]
    (folder / "config.json").write_text(json.dumps(config))
    asked = ("--max-new-tokens", "2", "--head", str(folder), "--trace", str(file))
    for more, expected in ((), k), (("--k", "2"), 2):
        words = ("--prompt", PROMPT, "--drafter", "eagle", *asked, *more)
        assert stairs("run", *words)[0] == 0
        assert files.read(file)[0].run.k == expected


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


def test_special_tokens_are_not_typed(capsys):
    made = recording()
    last = made.steps[-1]
    ended = replace(last.tokens[-1], text="", special="<|end|>")
    typewriter = commands.Typewriter()
    for record in (made.run, *made.steps[:-1], replace(last, tokens=(ended,))):
        typewriter.show(record)
    typewriter.show(records.Stop("eos", " é é\ufffd"))
    assert capsys.readouterr().out == " é é\ufffd"


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
    assert [lane.run.name for lane in files.read(file)] == ["none", "model"]
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

    def tampered(self: Runner) -> records.Recording:
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
    assert {"position", "first", "second", "margin", "noise", "verdict"} <= set(where)
    assert where["verdict"] in ("bug", "rounding tie")
    assert where["noise"] >= 0
    assert "the texts part at new token 1" in stairs(*decode(command="race"))[1]


def test_show_draws_a_trace(trace_file, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    assert main.main(["show", str(trace_file)]) == 0
    whole = capsys.readouterr().out
    assert "ended by eos" in whole
    assert "\x1b" not in whole
    assert main.main(["show", str(trace_file), "--step", "2", "--no-color"]) == 0
    assert "step 2 of 2" in capsys.readouterr().out
    assert main.main(["show", str(trace_file), "--step", "3"]) == 2
    assert "the steps 1 to 2" in capsys.readouterr().err


def test_show_reads_what_comes_in_by_a_pipe(trace_file, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    data = trace_file.read_bytes()
    assert main.main(["show", str(trace_file)]) == 0
    drawn = capsys.readouterr().out
    for more in ((), ("--html", "r.html")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert main.main(["show", "-", *more]) == 0
    assert capsys.readouterr().out == drawn
    assert "standard input" in (tmp_path / "r.html").read_text(encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert "standard input" in refused(main.main(["show", "-"]), *capsys.readouterr())


def test_a_replay_does_not_replace_its_trace(trace_file, capsys, tmp_path):
    before = trace_file.read_bytes()
    (tmp_path / "link").symlink_to(trace_file)
    for one, two in ((trace_file, trace_file), (trace_file, "link"), ("link", trace_file)):
        given = ["show", str(tmp_path / one), "--html", str(tmp_path / two)]
        assert "is the trace itself" in refused(main.main(given), *capsys.readouterr())
    assert trace_file.read_bytes() == before


def test_a_trace_without_steps_says_so(capsys, tmp_path):
    files.write(tmp_path / "t.jsonl", [replace(recording(), steps=())])
    status = main.main(["show", str(tmp_path / "t.jsonl"), "--step", "1"])
    assert "t.jsonl has no steps" in refused(status, *capsys.readouterr())


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


def test_output_that_the_terminal_cannot_encode_is_escaped(trace_file):
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = python("-m", "stairs_core", "show", str(trace_file), env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xe9" in done.stdout


def test_train_hands_on_its_report_and_its_complaints(monkeypatch, capsys, tmp_path):
    from stairs_core.training import command as training

    monkeypatch.setattr(training, "main", lambda args: {"corpus": str(args.corpus)})
    assert main.main(["train", "--corpus", "here", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"corpus": "here"}
    monkeypatch.undo()
    status = main.main(["train", "--corpus", str(tmp_path / "none"), "--out", str(tmp_path)])
    refused(status, *capsys.readouterr())
    assert "--corpus" in refused(main.main(["train"]), *capsys.readouterr())


def test_help_is_there_for_every_command(capsys):
    for command in ((), ("run",), ("race",), ("show",), ("train",)):
        with pytest.raises(SystemExit) as left:
            main.main([*command, "--help"])
        assert left.value.code == 0
        assert "stairs" in capsys.readouterr().out


def test_a_seed_repeats_its_text_and_shared_dice_can_be_checked(stairs):
    dice = ("--temperature", "0.8", "--top-p", "0.9", "--seed", "3")
    texts = [stairs(*decode("--json", *dice))[1] for _ in range(2)]
    first, second = (json.loads(text.splitlines()[-1]) for text in texts)
    assert first["token_ids"] == second["token_ids"]
    assert first["exactness"] == "distribution-exact"
    assert first["sampling"]["top_p"] == 0.9
    status, out, err = stairs(*decode("--json", "--check", "--rule", "coupled", *dice))
    assert (status, json.loads(out.splitlines()[-1])["identical"], err) == (0, True, "")
    words = refused(*stairs(*decode("--check", *dice)))
    assert "--rule coupled" in words


def test_a_penalty_alone_stays_greedy(stairs):
    _, out, _ = stairs(*decode("--json", "--repetition-penalty", "1.5"))
    report = json.loads(out.splitlines()[-1])
    assert (report["sampling"]["temperature"], report["exactness"]) == (0.0, "token-exact")


def test_texts_to_copy_from_are_named_in_the_trace(stairs, tmp_path):
    reference, file = tmp_path / "words.txt", tmp_path / "t.jsonl"
    reference.write_text(f"{PROMPT} and sang. {PROMPT}", encoding="utf-8")
    more = ("--drafter", "reference", "--trace", str(file))
    assert "--reference FILE" in refused(*stairs(*decode(*more)))
    assert stairs(*decode(*more, "--reference", str(reference)))[0] == 0
    (saved,) = files.read(file)
    assert saved.run.references == ("words.txt",)
    origins = [t.origin for s in saved.steps for t in s.drafted]
    assert origins
    assert {origin and origin.document for origin in origins} == {"words.txt"}
    assert "cannot be read" in refused(*stairs(*decode(*more, "--reference", str(tmp_path / "no"))))
    lanes = ("--lanes", "none,model,reference", "--reference", str(reference), *more[2:])
    assert stairs(*decode(*lanes, command="race"))[0] == 0
    assert [lane.run.references for lane in files.read(file)] == [(), (), ("words.txt",)]


def test_at_temperature_0_what_changes_nothing_may_be_said(stairs):
    for more in (("--top-p", "1", "--seed", "3"), ("--repetition-penalty", "1.5", "--top-k", "5")):
        assert stairs(*decode("--temperature", "0", *more))[0] == 0
