"""The README and the pages that it links to say what is so: their code runs, their commands exist,
the loop is the engine's."""

from __future__ import annotations

import re
import shlex
import textwrap

import pytest
from paths import ROOT

from stairs_core.cli import main
from stairs_core.models import hub, load
from stairs_core.settings import methods
from stairs_core.settings.known import KNOWN

README = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = README.split("---\n")[1].splitlines()
HEAD = dict(line.split(": ", 1) for line in LINES if ": " in line)
ROOMS = {path.parent.name: path for path in ROOT.glob("stairs_core/*/README.md")}
PAGES = {ROOT / "README.md": README}
PAGES |= {path: path.read_text(encoding="utf-8") for path in ROOMS.values()}
ALL = "\n".join(PAGES.values())
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", ALL, re.DOTALL)
COMMANDS = [
    words
    for language, block in BLOCKS
    if language == "sh"
    for line in block.replace("\\\n", " ").splitlines()
    for part in line.split("&&")
    if (words := shlex.split(part, comments=True))
]


def section(heading: str) -> str:
    """What stands under a heading of one of the pages."""
    return ALL.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def code(heading: str) -> str:
    """The Python there."""
    (found,) = re.findall(r"```python\n(.*?)```", section(heading), re.DOTALL)
    return found


def test_the_loop_is_the_engine_s_own():
    engine = (ROOT / "stairs_core" / "decoding" / "engine.py").read_text(encoding="utf-8")
    assert textwrap.indent(code("The loop"), "    ") in engine
    assert "for " in code("The loop")


def test_the_python_runs(tiny_pair, monkeypatch, capsys):
    monkeypatch.setattr(load, "load_pair", lambda: tiny_pair)
    names: dict = {}
    exec(compile(code("From Python"), "README.md", "exec"), names)
    out = capsys.readouterr().out
    assert "Summary(new_tokens=" in out
    text = names["runner"].recording().stop.text.rstrip("\ufffd")
    assert out.startswith(text)


def test_the_python_inside_transformers_runs(tiny_pair_dir, tmp_path, monkeypatch, capsys):
    """On tiny models, in the place of those that it names."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "pair").symlink_to(tiny_pair_dir)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(code("Inside transformers"), "README.md", "exec"), names)
    inputs = names["tokenizer"]("Once upon a time", return_tensors="pt")
    alone = names["target"].generate(**inputs, do_sample=False, max_new_tokens=48)
    assert names["out"].tolist() == alone.tolist()
    assert 0 < len(names["steps"]) < len(alone[0]) - len(inputs["input_ids"][0])
    assert f"{len(alone[0])} tokens after {len(names['steps'])} calls" in capsys.readouterr().out


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = {words[1] for words in COMMANDS if words[0] == "make"}
    named |= set(re.findall(r"`make (\w+)", ALL))
    assert named >= {"run", "test"}
    assert named <= targets


def stairs_commands() -> list[list[str]]:
    tables = re.findall(r"^\| `stairs (.*?)` \|", ALL, re.MULTILINE)
    shell = [words[1:] for words in COMMANDS if words[0].endswith("stairs")]
    return [*map(shlex.split, tables), *shell]


@pytest.mark.parametrize("words", stairs_commands(), ids=" ".join)
def test_stairs_commands_are_accepted(words):
    assert main.parser().parse_args(main._joined(words)).command


def test_every_stairs_command_is_named():
    named = {words[0] for words in stairs_commands()}
    assert named == {"run", "race", "preflight", "bench", "show", "fetch", "train", "widen"}


def test_every_drafter_is_named():
    listed = section("Who guesses, and how many")
    assert set(re.findall(r"^\| `([\w-]+)` \|", listed, re.MULTILINE)) == set(methods.NAMES)
    table = PAGES[ROOMS["drafters"]]
    assert set(re.findall(r"\[`([\w-]+)`\]", table)) == set(methods.NAMES) - {"none"}


def test_named_options_exist():
    options = ALL.split("`run` and `race` take `")[1].split("`")[0]
    numbers = {"--k", "--max-new-tokens", "--temperature", "--top-k", "--top-p", "--min-p"}
    numbers |= {"--repetition-penalty", "--seed"}
    for command in ("run", "race"):
        given = [f"{o}=1" if o in numbers else o for o in options.split()]
        flags = {"--chat", "--check", "--json"}
        words = [o if o in flags or "=" in o else f"{o}=auto" for o in given]
        assert main.parser().parse_args([command, "--prompt", "x", *words]).command


def test_files_named_exist():
    for path, text in PAGES.items():
        links = re.findall(r"\]\(((?!http)[^)]+)\)", text)
        assert [link for link in links if not (path.parent / link).is_file()] == []
    linked = {ROOT / link for link in re.findall(r"\]\(([^)]+/README.md)\)", README)}
    assert {*ROOMS.values()} <= linked, "every page is found from the first one"
    for words in COMMANDS:
        for word in words:
            if word.endswith((".txt", ".py")):
                assert (ROOT / word).is_file()


def test_the_head_suits_a_space():
    from packaging.specifiers import SpecifierSet

    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (python,) = re.findall(r'^requires-python = "(.*)"$', pyproject, re.MULTILINE)
    assert SpecifierSet(python).contains(HEAD["python_version"].strip('"'))
    assert (HEAD["sdk"], HEAD["license"]) == ("gradio", "apache-2.0")
    assert (ROOT / HEAD["app_file"]).is_file()
    assert len(HEAD["short_description"]) <= 60
    colors = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {HEAD["colorFrom"], HEAD["colorTo"]} <= colors


def test_a_space_has_the_models_by_name_before_it_starts():
    """As Spaces read it: an id, files with commas between, a commit."""
    import yaml

    preloaded = [line.split(" ") for line in yaml.safe_load("\n".join(LINES))["preload_from_hub"]]
    assert [(id, commit) for id, _, commit in preloaded] == [
        (known.id, known.commit) for known in KNOWN.values()
    ]
    for _, files, _ in preloaded:
        names = files.split(",")
        assert {"config.json", "tokenizer.json", "model.safetensors"} <= {*names}
        assert not [n for n in names if not hub.used_beside_weights(n) and "model" not in n]


def test_it_opens_with_a_picture():
    body = README.split("---\n", 2)[2].lstrip()
    assert body.startswith("![")


def test_the_map_of_the_house_names_what_there_is():
    core = ROOT / "stairs_core"
    words = (core / "README.md").read_text(encoding="utf-8")
    paths = [n for n in re.findall(r"`([^`\s]+)`", words) if "/" in n or n.endswith((".py", ".js"))]
    assert len(paths) > 40
    homes = core, ROOT, core / "settings"
    assert [n for n in paths if not any((home / n).exists() for home in homes)] == []
    listed = {n.rstrip("/") for n in re.findall(r"\[`([\w./]+)`\]", words)}
    rooms = {p.name for p in core.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert listed >= rooms
    assert words.count("\n") < 80, "a page at most"
