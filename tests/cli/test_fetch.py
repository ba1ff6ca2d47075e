"""Which files of a model are used, here and on the hub; ``stairs fetch``, which fetches them."""

# ruff: noqa: F811 (a fixture is imported, then named by the tests)
from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
import transformers
from fake_hub import SPEC, web  # noqa: F401
from huggingface_hub import constants
from paths import ROOT
from tiny_models import make_model, make_tokenizer

from stairs_core.cli import main
from stairs_core.errors import InputError
from stairs_core.models import folder_check, heads, hub, memory, source
from stairs_core.models.load import load_pair
from stairs_core.web import loaded_pairs

RUNS = ("modeling.py", "model.bin", "a.pt", "b.pkl", "c.npy", "d.so", "e.h5", "f.onnx", "g.gguf")


def gets(web) -> list[str]:
    """Names of the files that were asked for."""
    return [line.split("/")[-1] for line in web.asked if line[:3] == "GET" and "/resolve/" in line]


def fetch(capsys, *more: str) -> tuple[int, str, str]:
    status = main.main(["fetch", *more])
    return status, *capsys.readouterr()


def test_every_file_that_a_tokenizer_reads_is_fetched_and_nothing_that_runs():
    names = {"config.json", "generation_config.json", "tokenizer_config.json", "tekken.json"}
    names |= {"added_tokens.json", "special_tokens_map.json", "chat_template.jinja"}
    names |= {"qwen.tiktoken", "additional_chat_templates/tool_use.jinja"}
    folder = Path(transformers.__file__).parent / "models"
    for path in folder.glob("*/tokenization_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assign) and "VOCAB_FILES_NAMES" in ast.unparse(node.targets[0]):
                values = node.value.values if isinstance(node.value, ast.Dict) else []
                names |= {v.value for v in values if isinstance(v, ast.Constant)}
    assert len(names) > 30
    assert {"source.spm", "target.spm", "spiece.model", "bpe.codes", "vocab.txt"} <= names
    assert not [name for name in names if not hub.used_beside_weights(name)]
    assert not [name for name in RUNS if hub.used_beside_weights(name)]
    for name in ("onnx/config.json", "original/tokenizer.model", "additional_chat_templates/a.py"):
        assert not hub.used_beside_weights(name)


def besides(folder: Path) -> None:
    """What else lies in repositories: the same weights in other formats, and in folders."""
    for name in (
        "consolidated.safetensors",
        "model.fp16.safetensors",
        "original/model.safetensors",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(bytes(1_000_000))
    (folder / "onnx").mkdir(exist_ok=True)
    (folder / "onnx" / "model.onnx").write_bytes(bytes(1000))


@pytest.mark.parametrize("shards", [False, True])
def test_weights_are_counted_once(web, capsys, shards):
    folder = web.repos["some/target"]
    if shards:
        shutil.rmtree(folder)
        make_model().save_pretrained(folder, max_shard_size="40KB")
        make_tokenizer().save_pretrained(folder)
    weight = sum(p.stat().st_size for p in folder.glob("model*.safetensors"))
    names = {p.name for p in folder.glob("model*.safetensors")}
    assert (len(names) > 1) == shards
    besides(folder)
    capsys.readouterr()
    assert sum(p.stat().st_size for p in folder_check.shards(folder)) == weight
    assert source.find(str(folder), str).weights == weight
    assert hub.ask("some/target").weights == weight
    status, out, err = fetch(capsys, "some/target", "--json")
    assert (status, err) == (0, "")
    (told,) = json.loads(out)["models"]
    assert (told["model"], told["weights_bytes"]) == ("some/target", weight)
    assert {name for name in gets(web) if name.endswith(".safetensors")} == names
    assert load_pair("some/target", "cpu").draft is None


def test_a_head_on_the_hub_is_fetched(web, tiny_pair, tiny_pair_dir, monkeypatch):
    monkeypatch.setattr(tiny_pair.target, "given_head", None, raising=False)
    web.repos["some/head"] = tiny_pair_dir / "heads" / "eagle"
    heads.give(tiny_pair.target, "some/head")
    assert {*gets(web)} == {"config.json", "model.safetensors"}
    assert heads.load("eagle", tiny_pair.target, "it").folder != web.repos["some/head"]
    with pytest.raises(InputError, match="There is no some/other on the hub"):
        heads.give(tiny_pair.target, "some/other")


def test_a_whole_file_goes_before_shards_as_in_transformers(tmp_path):
    make_model().save_pretrained(tmp_path, max_shard_size="40KB")
    make_model(seed=3).save_pretrained(tmp_path / "whole")
    (tmp_path / "whole" / "model.safetensors").rename(tmp_path / "model.safetensors")
    assert [p.name for p in folder_check.shards(tmp_path)] == ["model.safetensors"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["config.json", "consolidated.safetensors"], "does not read consolidated.safetensors"),
        (["config.json", "a.ckpt"], r"pickled weights can run code when loaded \(a.ckpt\)"),
        (["adapter_config.json", "adapter_model.safetensors"], "holds an adapter"),
        (["model.safetensors"], "has no config.json|holds no model"),
        (["config.json"], "has no weights"),
    ],
)
def test_what_cannot_be_used_is_said_before_it_is_fetched(web, capsys, names, words):
    folder = web.repos["some/target"]
    shutil.rmtree(folder)
    folder.mkdir()
    for name in names:
        (folder / name).write_text("{}")
    for spec in ("some/target", str(folder)):
        with pytest.raises(InputError, match=words):
            load_pair(spec, "cpu")
    assert fetch(capsys, "some/target")[0] == 2
    assert set(gets(web)) <= {"config.json"}


def test_fetched_once_then_used_without_a_network(web, capsys, monkeypatch):
    status, out, err = fetch(capsys, SPEC)
    assert (status, err) == (0, "")
    assert [line.split(":")[0] for line in out.splitlines()] == ["some/target", "some/draft"]
    first = len(gets(web))
    status, out, _ = fetch(capsys, SPEC, "--json")
    told = json.loads(out)["models"]
    assert [model["fetched_bytes"] for model in told] == [0, 0]
    assert len(gets(web)) == first
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(web.asked)
    assert fetch(capsys, SPEC, "--json")[1] == out
    run = ["run", "--pair", SPEC, "--prompt", "Once", "--max-new-tokens", "3", "--check", "--json"]
    assert main.main(run) == 0
    assert json.loads(capsys.readouterr().out)["new_tokens"] == 3
    assert len(web.asked) == asked


def test_what_came_in_part_is_not_taken_for_whole(web, capsys, monkeypatch):
    hub.ask("some/target")  # config.json alone
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    status, out, err = fetch(capsys, "some/target")
    assert (status, out) == (2, "")
    assert "some/target was not fetched before, and HF_HUB_OFFLINE forbids it now" in err


def test_what_the_hub_does_not_give(web, capsys):
    web.gated.add("some/draft")
    for spec, words in {
        "some/nothing": "There is no some/nothing on the hub",
        SPEC: "some/draft is gated",
        "nonsense": "There is no pair 'nonsense'",
        "a b:some/draft": "a b is no id of the hub",
    }.items():
        status, out, err = fetch(capsys, spec)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert words in err


def test_too_many_requests():
    error = OSError("429 Client Error")
    error.response = type("Response", (), {"status_code": 429})  # type: ignore[attr-defined]
    assert "wait some minutes, or set HF_TOKEN" in str(hub.explained(error, "some/target"))


def test_a_folder_needs_no_fetching(tiny_pair_dir, capsys):
    status, out, err = fetch(capsys, str(tiny_pair_dir), "--json")
    assert (status, err) == (0, "")
    told = json.loads(out)["models"]
    assert [Path(model["folder"]).name for model in told] == ["target", "draft"]
    assert all(model["weights_bytes"] and not model["fetched_bytes"] for model in told)


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent otherwise there")
def test_ctrl_c_ends_a_fetch_which_goes_on_from_whole_files(web, tmp_path, capsys):
    """The draft is whole when the target, which is slow, is interrupted."""
    environment = {"HF_ENDPOINT": web.url, "HF_HUB_CACHE": str(tmp_path / "cache")}
    big = web.repos["some/target"] / "model.safetensors"
    small = big.read_bytes()
    big.write_bytes(small + bytes(30_000_000))
    fetch(capsys, "some/draft")
    web.slow = True
    command = [sys.executable, "-m", "stairs_core", "fetch", "some/draft:some/target"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment, "HF_HUB_OFFLINE": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # As at a terminal: a background job of a shell would inherit that SIGINT is ignored.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert web.dribbling.wait(60)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err == "Fetching was stopped: files that came whole stay, and are not fetched again.\n"
    assert web.broken_off.wait(30)
    (part,) = (tmp_path / "cache").rglob("*.incomplete")  # which the next attempt goes on from
    assert part.stem == hashlib.sha256(big.read_bytes()).hexdigest()
    web.slow = False
    big.write_bytes(small)
    web.asked.clear()
    assert fetch(capsys, SPEC)[0] == 0
    whole = [line for line in web.asked if line.endswith("model.safetensors")]
    assert whole
    assert not [line for line in whole if "some/draft" in line]


def test_one_id_is_a_target_alone_on_the_page_too(web, monkeypatch):
    monkeypatch.setenv("STAIRS_MODELS", "any")
    monkeypatch.setenv("STAIRS_PAIR", "some/draft")
    books = loaded_pairs.Shelf(loaded_pairs.load)
    list(books.loading("some/target", threading.Event()))
    pair = books.get("some/target")
    assert (pair.target_name, pair.draft) == ("some/target", None)
    assert memory.held(pair) == {pair.device: sum(pair.bytes)}
