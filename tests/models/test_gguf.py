"""GGUF files: the tensors are those of the library's own dequantisation; what cannot be used."""

# ruff: noqa: F811 (a fixture is imported, then named by the tests)
from __future__ import annotations

import os
import shutil
import struct
import sys
from pathlib import Path

import gguf_files
import numpy as np
import psutil
import pytest
from fake_hub import web  # noqa: F401
from gguf_files import HEADS, KINDS, KV_HEADS
from huggingface_hub import constants, hf_hub_download
from safetensors import SafetensorError
from safetensors.numpy import load_file

from stairs_core.cli import main
from stairs_core.errors import InputError
from stairs_core.measuring.runner import _shared
from stairs_core.models import cache, folder_check, gguf_header, gguf_unpack, source
from stairs_core.models.load import load_pair, locate
from stairs_core.quiet import quiet
from stairs_core.web import presets

NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
}
NORMS = {
    "llama": {"ffn_norm": "post_attention_layernorm"},
    "gemma2": {
        "post_attention_norm": "post_attention_layernorm",
        "ffn_norm": "pre_feedforward_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    },
}
NORMS["qwen2"] = NORMS["llama"]


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("STAIRS_CACHE", str(tmp_path / "stairs-cache"))
    return tmp_path / "stairs-cache"


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    return gguf_files.write(tmp_path_factory.mktemp("gguf") / "tiny.gguf", "llama")


def name_in_transformers(name: str, architecture: str) -> str:
    if name in NAMES:
        return NAMES[name]
    _, layer, part, end = name.split(".")
    return f"model.layers.{layer}.{(NAMES | NORMS[architecture])[part]}.{end}"


def permuted(matrix: np.ndarray, heads: int) -> np.ndarray:
    """A projection's rows in the order of a GGUF Llama: both halves of each head interleaved."""
    halves = matrix.reshape(heads, 2, matrix.shape[0] // heads // 2, *matrix.shape[1:])
    return halves.swapaxes(1, 2).reshape(matrix.shape)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma2"])
def test_the_tensors_are_those_of_the_library_bit_for_bit(tmp_path, architecture):
    file = gguf_files.write(tmp_path / "model.gguf", architecture)
    assert {*gguf_header.read(file).kinds} == {*KINDS, "F32"}
    with quiet():
        gguf_unpack._unpack(file, tmp_path, "a note")
    found = load_file(tmp_path / "model" / "model.safetensors")
    wanted = gguf_files.dequantised(file)
    assert len(found) == len(wanted)
    for name, values in wanted.items():
        ours = found[name_in_transformers(name, architecture)]
        if architecture == "llama" and ("attn_q" in name or "attn_k" in name):
            ours = permuted(ours, HEADS if "attn_q" in name else KV_HEADS)
        if architecture == "gemma2" and "norm" in name:
            values = values - 1  # Gemma's norms multiply by one plus the weight
        assert ours.dtype == values.dtype == np.float32
        assert ours.shape == values.shape, name
        assert np.array_equal(ours.view(np.uint32), values.view(np.uint32)), name


def test_a_file_is_unpacked_once_and_decodes(llama, tmp_path, kept, capsys):
    file = Path(shutil.copy(llama, tmp_path / "once.gguf"))
    said: list[str] = []
    pair = load_pair(str(file), "cpu", say=said.append)
    assert any("which is done once" in words for words in said)
    assert pair.target_name == "once.gguf, Q4_0"
    assert (pair.draft, pair.tokenizer.decode(pair.tokenizer("the and")["input_ids"])) == (
        None,
        "the and",
    )
    assert not [*kept.rglob("part-*")]
    said.clear()
    renamed = file.rename(tmp_path / "other.gguf")  # the same bytes
    load_pair(str(renamed), "cpu", say=said.append)
    assert not any("which is done once" in words for words in said)
    run = ["run", "--pair", f"{renamed}:{renamed}", "--prompt", "the", "--max-new-tokens", "4"]
    assert main.main([*run, "--check", "--json"]) == 0
    assert "arning" not in capsys.readouterr().err


def test_what_a_name_may_be(llama, tmp_path):
    folder = tmp_path / "holds-one"
    folder.mkdir()
    shutil.copy(llama, folder)
    assert locate(str(folder)) == (str(folder), None)
    assert locate(str(llama)) == (str(llama), None)
    assert locate(f"{llama}:{folder}") == (str(llama), str(folder))
    assert locate("some/models/tiny.gguf") == ("some/models/tiny.gguf", None)
    assert source.find(str(folder), str).weights == gguf_header.read(llama).unpacked
    for spec in (str(llama), str(folder), f"{llama}:some/draft", "some/models/q/tiny.gguf"):
        assert presets.resolve(spec) == spec
    assert presets.label(f"{llama}:some/draft") == "tiny.gguf after draft"
    assert _shared(f"{llama}:{folder}") == "tiny.gguf:holds-one"
    shutil.copy(llama, folder / "second.gguf")
    with pytest.raises(InputError, match=r"holds 2 GGUF files \(second.gguf, tiny.gguf\)"):
        source.find(str(folder), str)


def test_a_file_on_the_hub(web, llama, tmp_path, capsys):
    web.repos["some/models"] = tmp_path / "models"
    (tmp_path / "models" / "z").mkdir(parents=True)
    shutil.copy(llama, tmp_path / "models" / "tiny.gguf")
    shutil.copy(llama, tmp_path / "models" / "z" / "tiny.gguf")
    (tmp_path / "models" / "config.json").write_text("{}")
    pair = load_pair("some/models/tiny.gguf", "cpu")
    assert pair.target_name == "some/models/tiny.gguf (tiny.gguf, Q4_0, some/models at c0ffee0)"
    hf_hub_download("some/models", "config.json", cache_dir=constants.HF_HUB_CACHE)
    there = source.folder("some/models/tiny.gguf", "target", str)
    assert there == gguf_unpack.folder(gguf_unpack.digest(llama, str))
    assert sum(line.startswith("GET") and "tiny.gguf" in line for line in web.asked) == 1
    for _ in range(2):
        assert source.folder("some/models/z/tiny.gguf", "target", str) == there
    for spec, words in {
        "some/models": "has no weights but GGUF files: name one of them, as some/models/tiny.gguf",
        "some/models/other.gguf": "some/models has no other.gguf on the hub",
    }.items():
        assert main.main(["fetch", spec]) == 2
        assert words in capsys.readouterr().err


def refused(capsys, spec: str | Path, words: str) -> None:
    status = main.main(["run", "--pair", str(spec), "--prompt", "x"])
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert words in err
    assert "Traceback" not in err


def test_what_cannot_be_used_is_said_in_one_sentence(llama, tmp_path, capsys, monkeypatch):
    whole = llama.read_bytes()
    for name, data, words in [
        ("text.gguf", b"Once upon a time", "is no GGUF file"),
        ("empty.gguf", b"", "is no GGUF file"),
        ("cut.gguf", whole[:-1], f"is cut off or damaged ({len(whole) - 1:,} bytes where"),
        ("header.gguf", whole[:3000], "its header does not end in it"),
        ("old.gguf", whole[:4] + struct.pack("<I", 1) + whole[8:], "of version 1: use one of"),
    ]:
        (tmp_path / name).write_bytes(data)
        refused(capsys, tmp_path / name, words)
    strange = gguf_files.write(tmp_path / "strange.gguf", "rwkv9")
    refused(capsys, strange, "holds a rwkv9 model, an architecture that transformers")
    parts = gguf_files.write(tmp_path / "parts.gguf", "llama", split__count=3)
    refused(capsys, parts, "is one of 3 parts of a model")
    refused(capsys, tmp_path / "nowhere.gguf", "There is no file")
    assert not [*cache.folder().rglob("part-*")]


def test_a_full_disk_is_told_from_the_library_s_own_error(llama):
    full = SafetensorError(
        "Error while serializing: I/O error: No space left on device (os error 28)"
    )
    assert gguf_unpack._why(full, llama, "llama") == (
        f"The disk of {cache.folder()} is full: make room, or set STAIRS_CACHE to another."
    )


def test_killed_while_it_unpacks(llama, kept):
    """What is there is whole, and what killed processes have left goes after a day."""
    place = gguf_unpack.folder(gguf_unpack.digest(llama, str))

    def kill(words: str) -> None:
        for child in psutil.Process().children():
            if "stairs_core.models.gguf_unpack" in child.cmdline():
                child.kill()

    with pytest.raises(InputError, match=r"Unpacking tiny.gguf broke off, .* and try again\.$"):
        gguf_unpack.unpacked(llama, kill)
    assert not place.exists()
    left = kept / "gguf" / "part-of-a-killed-process"
    (left / "model").mkdir(parents=True)
    (left / "model" / "config.json").write_text("{}")
    os.utime(left, (0, 0))
    folder = source.folder(str(llama), "target", str)
    assert folder_check.check_folder(str(folder))
    assert folder == place
    assert not [*kept.rglob("part-*")]


def test_room_is_asked_for_first(llama, capsys, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    refused(capsys, llama, "tiny.gguf takes, unpacked, 0.00 GB, and")


def test_without_the_library(llama, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    refused(capsys, llama, "takes the package gguf: pip install gguf")
