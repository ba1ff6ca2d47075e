"""The code that is said to repeat a run does: the same ids, whatever the prompt holds."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import shlex
import shutil
import subprocess
from dataclasses import replace

import pytest
from paths import ROOT
from recordings import head

from stairs_core.cli import main
from stairs_core.render import snippets
from stairs_core.settings.sampling import Sampling
from stairs_core.settings.settings import Settings

HOSTILE = [
    'it\'s "quoted" `date` $(rm -rf x) $HOME ${x} !!',
    "a line\nand another\r\n\ttab",
    "fox 🦊 👩‍👩‍👧 שלום \u202e e\u0301",
    "</script> {{x}} ${1+1} %s {0!r}",
    "back\\slash \\n \\x41 \\",
    "-- -rf --pair",
    "\x1b[2J \x07 \x7f \u2028 '",
    "NUL \x00 here",
]
SHELLS = [shell for shell in ("bash",) if shutil.which(shell)]


@pytest.fixture(scope="module")
def bundled():
    from stairs_core.models.load import load_pair

    return load_pair("bundled", device="cpu", dtype="float32")


def made(pair, prompt="Once upon a time", **settings):
    from stairs_core.measuring.runner import Runner

    runner = Runner(pair, prompt, Settings(**({"max_new_tokens": 24} | settings)))
    ids = [t.id for step in runner.decode() for t in step.committed]
    return runner.run, ids


def executed(code: str) -> dict:
    names: dict = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code, names)
    return names


def asked(code: str) -> list[str]:
    """The words of a command as a real shell reads them."""
    shown = "stairs() { printf '%s\\0' \"$@\"; }\n" + code
    done = subprocess.run([SHELLS[0], "-c", shown], capture_output=True, check=True)
    assert done.stderr == b""
    return done.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"drafter": "lookup", "k": 10, "numerics": "strict"},
        {"drafter": "tree", "k": 4, "backend": "matrix_kv"},
        {"drafter": "model", "k": 16, "length": "cost", "max_new_tokens": 9},
        {"drafter": "none"},
        {"sampling": Sampling(0.8, top_p=0.9, seed=7, rule="coupled")},
        {"sampling": Sampling(0.0, repetition_penalty=1.2), "length": "heuristic"},
    ],
    ids=str,
)
def test_each_repeats_its_run(bundled, settings, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    run, ids = made(bundled, **settings)
    assert run.pair == "bundled"
    code = snippets.snippets(run)
    names = executed(code["Python"])
    again = names["runner"].run
    same = {"created": "", "name": "", "prices": ()}  # times are measured anew
    assert replace(again, **same) == replace(run, **same)
    assert [t.id for s in names["runner"].steps for t in s.committed] == ids
    words = asked(code["Command line"]) if SHELLS else shlex.split(code["Command line"])[1:]
    assert main.main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["token_ids"] == ids
    assert (report["drafter"], report["k"], report["backend"]) == (run.drafter, run.k, run.backend)
    names = executed(code["transformers"])
    if run.sampling and run.sampling.draws:
        assert "dice of its own" in code["transformers"]
    else:
        assert names["out"][0].tolist() == [*run.prompt_ids, *ids]


@pytest.mark.parametrize("prompt", HOSTILE, ids=ascii)
def test_prompts_are_repeated_exactly_or_refused(prompt):
    code = snippets.snippets(head(prompt=prompt, target="bundled target", device="cpu"))
    for name in ("Python", "transformers"):
        (held,) = [
            node.value.value
            for node in ast.walk(ast.parse(code[name]))
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "prompt"
        ]
        assert held == prompt
    if "\x00" in prompt:
        assert code["Command line"].startswith("# No command line can hold a NUL")
        assert code["Command line"].count("\n") == 1
    elif SHELLS:
        words = asked(code["Command line"])
        assert main.parser().parse_args(words).prompt == prompt


def test_half_a_character_is_no_word_of_a_shell():
    code = snippets.snippets(head(prompt="a \ud800"))
    assert code["Command line"].startswith("# No command line can hold half a character")
    assert ast.parse(code["Python"])


EVIL = "x'); import os; os._exit(1) #\nos._exit(1)\n$(touch owned)"


def test_what_a_trace_holds_is_never_code(tmp_path, monkeypatch):
    """Names, not prompts alone: all that anybody can write into a trace."""
    monkeypatch.chdir(tmp_path)
    texts = ("target", "draft", "drafter", "backend", "exactness", "dtype", "device", "length")
    evil = head(**dict.fromkeys((*texts, "numerics", "pair", "prompt", "name"), EVIL))
    for run in (
        replace(evil, references=(EVIL,)),
        replace(evil, pair=None, dtype="int4"),
        replace(evil, engine=EVIL),
        replace(evil, drafter="none"),
    ):
        code = snippets.snippets(run)
        for name in ("Python", "transformers"):
            calls = {ast.unparse(n) for n in ast.walk(ast.parse(code[name]))
                     if isinstance(n, ast.Attribute | ast.Import)}  # fmt: skip
            assert not any("os" in call.split(".") for call in calls), code[name]
        if SHELLS:
            asked(code["Command line"])
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("run", "models"),
    [
        ({"target": "bundled target", "draft": "bundled draft"},
         ("bundled", "assets/pair/target", "assets/pair/draft")),
        ({"target": "o/big", "draft": "o/small"}, ("o/big:o/small", "o/big", "o/small")),
        ({"target": "org/big", "draft": "org/small", "pair": "a:b"}, ("a:b", "a", "b")),
        ({"target": "target, widened", "draft": "draft, widened", "pair": "wide"},
         ("wide", "wide/target", "wide/draft")),
        ({"target": "one", "drafter": "lookup", "pair": "/m/one"}, ("/m/one", "/m/one", None)),
    ],
)  # fmt: skip
def test_the_pair_is_named(run, models):
    code = snippets.snippets(head(**run))
    spec, target, draft = models
    assert f"load_pair({spec!r}, " in code["Python"]
    assert f"--pair={spec} " in code["Command line"]
    assert f"target = AutoModelForCausalLM.from_pretrained({target!r}, " in code["transformers"]
    assert (
        f"draft = AutoModelForCausalLM.from_pretrained({draft!r}" in code["transformers"]
    ) == bool(draft)


def test_a_model_by_name_is_fetched_for_transformers():
    run = head(
        drafter="lookup", pair="smollm2-135m", target="smollm2-135m (of the hub)", chat=False
    )
    assert "from_pretrained(stairs_core.fetch('smollm2-135m'), " in snippets.generate(run)
    assert "import stairs_core" in snippets.generate(replace(run, drafter="none"))
    assert "--no-chat" in asked(snippets.shell(run))
    assert "--chat" in asked(snippets.shell(replace(run, chat=True)))


def test_what_generate_lacks_is_said():
    run = head(drafter="suffix", references=("a b.txt",), numerics="strict", length="heuristic")
    said = snippets.generate(run)
    for words in ("no references", "no strict numerics", "no length policy 'heuristic'"):
        assert words in said
    assert "reads texts" in snippets.generate(replace(run, drafter="reference"))
    assert "--reference './a b.txt'" in snippets.shell(run)
    assert "--reference" not in snippets.shell(replace(run, drafter="none"))


def test_a_target_without_a_name_gives_code_too():
    assert "from_pretrained('')" in snippets.generate(head(target=", widened"))
