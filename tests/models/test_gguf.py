"""GGUF files: the tensors are those of the library's own dequantisation; what cannot be used."""

# ruff: noqa: F811 (a fixture is imported, then named by the tests)
from __future__ import annotations

import io
import os
import re
import shutil
import struct
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gguf_files
import numpy as np
import psutil
import pytest
import torch
from fake_hub import web  # noqa: F401
from gguf_files import HEADS, KINDS, KV_HEADS
from huggingface_hub import constants, hf_hub_download
from safetensors import SafetensorError
from safetensors.numpy import load_file
from transformers import Gemma2Config, LlamaConfig, Phi3Config
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from stairs_core.cli import main
from stairs_core.errors import InputError
from stairs_core.measuring.runner import _shared
from stairs_core.models import (
    cache,
    folder_check,
    gguf_facts,
    gguf_header,
    gguf_unpack,
    pip_settings,
    source,
    worker,
)
from stairs_core.models.load import load_pair, locate
from stairs_core.quiet import quiet
from stairs_core.text import bounded_template
from stairs_core.web import presets

DEEP = struct.pack("<QQ1sI", 1, 1, b"a", 9) + struct.pack("<IQ", 9, 1) * 100_000
"""A key's value: arrays in arrays in arrays."""
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


@pytest.fixture
def here(monkeypatch):
    """Unpacks in this process, which takes a fraction of the time."""
    run = lambda module, arguments, *rest: gguf_unpack.main(*arguments)  # noqa: E731
    monkeypatch.setattr(worker, "run", run)


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
    if architecture == "gemma2":
        assert Gemma2Config.from_pretrained(tmp_path / "model").query_pre_attn_scalar == 64
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


ROPE = "llama__rope__scaling__"
SCALED = [
    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    | {"original_max_position_embeddings": 8192},
    {"rope_type": "linear", "factor": 8.0},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
]


def rotary(config: LlamaConfig) -> LlamaRotaryEmbedding:
    return LlamaRotaryEmbedding(config)


def as_in_a_gguf(scaling: dict) -> dict:
    """What llama.cpp's converter writes for it: pairs, or the factors themselves."""
    if scaling["rope_type"] != "llama3":
        names = {"rope_type": "type", "original_max_position_embeddings": "original_context_length"}
        return {ROPE + names.get(name, name): value for name, value in scaling.items()}
    size = {"hidden_size": gguf_files.WIDTH, "num_attention_heads": HEADS}
    plain, scaled = (
        rotary(LlamaConfig(**size, rope_parameters={"rope_theta": 10000.0, **kind})).inv_freq
        for kind in ({"rope_type": "default"}, scaling)
    )
    return {"more": {"rope_freqs.weight": (plain / scaled).numpy()}}


@pytest.mark.parametrize("scaling", SCALED, ids=lambda scaling: scaling["rope_type"])
def test_angles_are_scaled_as_the_file_says(tmp_path, scaling):
    """Else the model would read long texts as another than its safetensors."""
    file = gguf_files.write(tmp_path / "long.gguf", **as_in_a_gguf(scaling))
    with quiet():
        gguf_unpack._unpack(file, tmp_path, "a note")
    config = LlamaConfig.from_pretrained(tmp_path / "model")
    rope = {**config.rope_parameters}
    assert rope.pop("rope_theta") == 10000.0
    assert rope == pytest.approx(scaling)


def test_factors_that_no_rule_gives_are_taken_as_they_are(tmp_path):
    factors = np.linspace(1, 3, gguf_files.WIDTH // HEADS // 2)
    file = gguf_files.write(tmp_path / "odd.gguf", more={"rope_freqs.weight": factors})
    with quiet():
        gguf_unpack._unpack(file, tmp_path, "a note")
    config = LlamaConfig.from_pretrained(tmp_path / "model")
    found = rotary(config)
    plain = 10000.0 ** (-np.arange(len(factors)) / len(factors))
    assert found.attention_scaling == 1.0
    assert np.allclose(found.inv_freq.numpy(), plain / factors, rtol=1e-5)
    position = torch.arange(config.max_position_embeddings)[None]
    cos, _ = found(torch.empty(1), position)  # as long as a text may be
    assert np.allclose(cos[0, -1, : len(factors)], np.cos(127 * plain / factors), atol=1e-4)


def test_a_short_and_a_long_list_of_factors(tmp_path):
    """As Phi 3 has them."""
    lists = {f"rope_factors_{n}.weight": np.full(4, f) for n, f in (("short", 1.5), ("long", 4.0))}
    scaled = {"phi3__rope__scaling__original_context_length": 64}
    scaled["phi3__rope__scaling__attn_factor"] = 1.25
    file = gguf_files.write(tmp_path / "phi.gguf", "phi3", more=lists, **scaled)
    config = Phi3Config(rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    gguf_facts.scale_angles(config, gguf_header.read(file), file)
    assert config.rope_parameters == {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 1.0,
        "short_factor": [1.5] * 4,
        "long_factor": [4.0] * 4,
        "attention_factor": 1.25,
        "original_max_position_embeddings": 64,
    }
    assert config.original_max_position_embeddings == 64


@pytest.mark.parametrize(
    ("kind", "layers", "head", "divided"),
    [("gemma2", 42, 256, 256), ("gemma2", 46, 128, 144), ("gemma3", 62, 128, 144)],
)
def test_queries_of_gemma_are_scaled_as_its_size_asks(tmp_path, kind, layers, head, divided):
    """The published configs say so, and the files do not."""
    sizes = {"hidden_size": 144 * 32, "num_attention_heads": 32, "head_dim": head}
    config = Gemma2Config(**sizes, num_hidden_layers=layers)
    header = gguf_header.read(gguf_files.write(tmp_path / "gemma.gguf", kind))
    gguf_facts.scale_queries(config, header)
    assert config.query_pre_attn_scalar == divided


def test_all_ends_of_a_turn_are_known(tmp_path):
    """A file names one token that ends a text; a chat ends at others."""
    marks = {"renamed": {300: "<|im_end|>"}, "tokenizer__ggml__eot_token_id": 290}
    template = gguf_files.TEMPLATE.replace("\n", "<|im_end|>\n")
    file = gguf_files.write(tmp_path / "chat.gguf", "llama", template, **marks)
    with quiet():
        gguf_unpack._unpack(file, tmp_path, "a note")
    assert load_pair(str(tmp_path / "model"), "cpu", "float32", "off").eos_ids == {0, 290, 300}


@pytest.mark.parametrize(
    ("tokens", "known", "found"),
    [
        ("<eos> <turn|>", [0, 5], [0, 5, 1]),  # Gemma 4: transformers knows some by itself
        ("<|return|> <|call|> <|end|>", None, [0]),  # gpt-oss: it ends parts of a turn alone
        ("<|endoftext|> <|end|>", 0, [0, 1]),  # Phi 3
    ],
)
def test_some_models_end_otherwise(llama, tokens, known, found):
    names = {token: i for i, token in enumerate(tokens.split())}
    tokenizer = SimpleNamespace(get_vocab=lambda: names, chat_template=tokens)
    tokenizer = type("Tokenizer", (SimpleNamespace,), {"__len__": lambda _: 10})(**vars(tokenizer))
    header = replace(gguf_header.read(llama), facts={"tokenizer.ggml.eos_token_id": 0})
    assert gguf_facts.ends(header, tokenizer, known) == found


def test_angles_that_transformers_scales_by_itself_stay(tmp_path):
    """Gemma 4's file says by factors what transformers has as a kind of its own."""
    factors = np.array([1.0] * 64 + [1e30] * 192)
    file = gguf_files.write(tmp_path / "g.gguf", "gemma4", more={"rope_freqs.weight": factors})
    usual = {"full_attention": {"rope_type": "proportional", "rope_theta": 1e6}}
    config = SimpleNamespace(rope_parameters=usual, max_position_embeddings=128)
    gguf_facts.scale_angles(config, gguf_header.read(file), file)
    assert config.rope_parameters is usual


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ({"left_out": ("blk.0.attn_q.weight", "blk.0.ffn_up.weight")}, "lacks tensors of the mod"),
        ({"left_out": ("llama.block_count",)}, "which has 32 layers"),
        ({"llama__block_count": 10**9}, "which has 1,000,000,000 layers"),
        (
            {
                "left_out": ("blk.0.ffn_up.weight",),
                "more": {"blk.0.attn_rot_embd.weight": np.zeros((2, 256, 256))},
            },
            "lacks weights of its model (model.layers.0.mlp.up_proj.weight)",
        ),
        ({ROPE + "type": "spiral", ROPE + "factor": 2.0}, "scales angles in a way (spiral)"),
    ],
    ids=["cut out", "no sizes", "too many layers", "other tensors", "angles"],
)
def test_what_a_file_lacks_is_not_made_up(tmp_path, file, words):
    """transformers fills in random numbers."""
    path = gguf_files.write(tmp_path / "less.gguf", **file)
    with quiet(), pytest.raises(InputError, match=re.escape(words)):
        gguf_unpack._unpack(path, tmp_path, "a note")


def test_an_unpacked_model_that_was_damaged_is_unpacked_again(llama, kept, here):
    place = source.folder(str(llama), "target", str)
    weights, config = place / "model.safetensors", place / "config.json"
    whole = weights.read_bytes()
    for damage in (
        lambda: weights.write_bytes(whole[:-8]),
        weights.unlink,
        (place / "tokenizer.json").unlink,
        # By a version of ours that read less of the file.
        lambda: config.write_text(config.read_text().replace("stairs_unpacked", "unknown")),
    ):
        damage()
        assert source.folder(str(llama), "target", str) == place
        assert weights.read_bytes() == whole
        assert gguf_unpack.is_whole(place)


def test_a_file_is_hashed_once_and_nothing_is_written_for_it_again(llama, kept, here, monkeypatch):
    place = source.folder(str(llama), "target", str)
    monkeypatch.setattr(gguf_unpack, "hash_of", None)
    monkeypatch.setattr(cache, "made", None)
    assert source.folder(str(llama), "target", str) == place


def test_a_cache_that_can_only_be_read_is_no_failure(llama, kept, here, monkeypatch):
    place = source.folder(str(llama), "target", str)
    shutil.rmtree(kept / "gguf" / "known")

    def denied(*names: str) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cache, "made", denied)
    assert source.folder(str(llama), "target", str) == place


def test_code_that_lies_beside_a_model_does_not_run(llama, tmp_path, monkeypatch):
    """Neither where it is unpacked, nor its chat template filled in, nor pip asked."""
    for name in ("gguf", "json", "random", "runpy", "filelock", "jinja2", "transformers", "pip"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    shutil.copy(llama, tmp_path / "model.gguf")
    monkeypatch.chdir(tmp_path)
    source.folder("model.gguf", "target", str)
    process = bounded_template._Process()
    process.kill()
    pip_settings.options()
    assert not (tmp_path / "ran").exists()


def test_a_library_that_prints_does_not_end_the_listening():
    facts: dict = {}
    lines = io.StringIO('{"a": 1}\nDownloading …\n[1]\n{"b": 2}\n')
    worker._listen(SimpleNamespace(stdout=lines), facts)  # type: ignore[arg-type]
    assert facts == {"a": 1, "b": 2}


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
        ("big.gguf", b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "is a GGUF file for big-endian"),
        ("deep.gguf", whole[:16] + DEEP, "its header does not end in it"),
    ]:
        (tmp_path / name).write_bytes(data)
        refused(capsys, tmp_path / name, words)
    strange = gguf_files.write(tmp_path / "strange.gguf", "rwkv9")
    refused(capsys, strange, "holds a rwkv9 model, an architecture that transformers")
    parts = gguf_files.write(tmp_path / "parts.gguf", "llama", split__count=3)
    refused(capsys, parts, "is one of 3 parts of a model")
    for value in ("a", 0):
        odd = gguf_files.write(tmp_path / "odd.gguf", "llama", general__alignment=value)
        refused(capsys, odd, "general.alignment is no size")
    refused(capsys, "~nosuchuser/model.gguf", "~nosuchuser/model.gguf cannot be read")
    refused(capsys, "x" * 300, "cannot be read (File name too long): check its path")
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
