"""Nobody's code is run, whatever a model brings: not asked for, not fetched, not loaded."""

# ruff: noqa: F811 (a fixture is imported, then named by the tests)
from __future__ import annotations

import ast
import json
import shutil
import sys
import threading
from pathlib import Path

import pytest
import torch
from fake_hub import SPEC, web  # noqa: F401
from paths import ROOT

from stairs_core.cli import main
from stairs_core.errors import InputError
from stairs_core.models import load
from stairs_core.web import loaded_pairs

CLASSES = {
    "AutoConfig": "theirs.Config",
    "AutoModelForCausalLM": "theirs.Model",
    "AutoTokenizer": ["theirs.Tokenizer", None],
}


@pytest.fixture
def pair_dir(tiny_pair_dir, tmp_path, monkeypatch) -> Path:
    """A copy of the tiny pair; whoever reads stdin fails."""

    class Stdin:
        def __getattr__(self, name: str):
            raise AssertionError(f"stdin.{name}")

    monkeypatch.setattr(sys, "stdin", Stdin())
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    return Path(shutil.copytree(tiny_pair_dir, tmp_path / "pair"))


def bring(folder: Path, proof: Path, *, needed: bool = False) -> None:
    """Code of its own for every part of a model; it leaves ``proof`` if it is run."""
    code = f"open({str(proof)!r}, 'w').close()\n"
    (folder / "theirs.py").write_text(code)
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(code)
    for name, key in (("config.json", "model_type"), ("tokenizer_config.json", "tokenizer_class")):
        config = json.loads((folder / name).read_text()) | {"auto_map": CLASSES}
        if name == "tokenizer_config.json":
            config["auto_map"] = {"AutoTokenizer": CLASSES["AutoTokenizer"]}
        config |= {key: "theirs"} if needed else {}
        (folder / name).write_text(json.dumps(config))


def decode(spec: str, *more: str) -> list[str]:
    options = ["--prompt", "Once upon a time", "--max-new-tokens", "4", "--device", "cpu"]
    return ["run", "--pair", spec, *options, *more]


@pytest.mark.parametrize("role", ["target", "draft"])
def test_code_that_is_not_needed_is_left_alone(pair_dir, tmp_path, capsys, role):
    assert main.main(decode(str(pair_dir), "--json")) == 0
    text = json.loads(capsys.readouterr().out)["text"]
    bring(pair_dir / role, proof := tmp_path / "proof")
    assert main.main(decode(str(pair_dir), "--json")) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["text"] == text
    assert err == ""
    assert not proof.exists()


@pytest.mark.parametrize("role", ["target", "draft"])
def test_a_model_that_needs_code_is_refused(pair_dir, tmp_path, capsys, monkeypatch, role):
    bring(pair_dir / role, proof := tmp_path / "proof", needed=True)
    words = "needs code of its own, which Stairs never runs"
    assert main.main(decode(str(pair_dir), "--json")) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1
    with pytest.raises(InputError, match=words):
        load.load_stock(str(pair_dir / role), torch.device("cpu"), torch.float32)
    monkeypatch.setenv("STAIRS_MODELS", "any")
    books = loaded_pairs.Shelf(loaded_pairs.load)
    with pytest.raises(InputError, match=words):
        list(books.loading(str(pair_dir), threading.Event()))
    assert not proof.exists()


def test_a_tokenizer_alone_that_needs_code(pair_dir, tmp_path):
    folder, proof = pair_dir / "target", tmp_path / "proof"
    bring(folder, proof, needed=True)
    with pytest.raises(InputError, match="needs code of its own"):
        load.load_tokenizer(str(folder))
    assert not proof.exists()


def test_an_attention_of_the_hub_is_not_taken(pair_dir):
    path = pair_dir / "target" / "config.json"
    config = json.loads(path.read_text()) | {"attn_implementation": "somebody/kernel"}
    path.write_text(json.dumps(config))
    pair = load.load_pair(str(pair_dir), "cpu", compile="off")
    assert pair.target.config._attn_implementation == "sdpa"


def test_an_adapter_is_refused_and_its_base_not_fetched(pair_dir):
    adapter = {"base_model_name_or_path": "somebody/base", "peft_type": "LORA"}
    (pair_dir / "draft" / "adapter_config.json").write_text(json.dumps(adapter))
    with pytest.raises(InputError, match="holds an adapter .* merge it into its base model"):
        load.load_pair(str(pair_dir), "cpu")


def test_an_index_does_not_lead_to_a_pickle(pair_dir):
    folder = pair_dir / "target"
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    index = {"weight_map": {"lm_head.weight": "pytorch_model.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"names pytorch_model.bin as its weights"):
        load.load_pair(str(pair_dir), "cpu")


def test_code_is_not_fetched(web, tmp_path, capsys):
    for role in ("target", "draft"):
        bring(web.repos[f"some/{role}"], tmp_path / "proof")
    assert main.main(decode(SPEC, "--json")) == 0
    assert json.loads(capsys.readouterr().out)["text"]
    asked = [line for line in web.asked if "resolve" in line]
    assert any("model.safetensors" in line for line in asked)
    assert not [line for line in asked if ".py" in line or ".bin" in line]
    assert not [*(tmp_path / "cache").rglob("*.py")]
    assert not (tmp_path / "proof").exists()


def test_every_load_says_so():
    for path in [ROOT / "app.py", *sorted((ROOT / "stairs_core").rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not ast.unparse(node.func).endswith("_pretrained"):
                continue
            name = ast.unparse(node.func)
            if not name.endswith(".from_pretrained") or name.startswith("nn."):
                continue  # torch's own of that name takes a tensor and loads nothing
            given = {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert given.get("trust_remote_code") == "False", f"{path.name}: {ast.unparse(node)}"
            assert given.get("local_files_only") == "True", f"{path.name}: {ast.unparse(node)}"
