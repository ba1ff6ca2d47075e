"""Models whose tokenizer is a SentencePiece or a tiktoken file alone."""

from __future__ import annotations

import importlib.util
import json
import struct
from pathlib import Path

import pytest
import torch
from tiny_models import make_model

from stairs_core.errors import InputError
from stairs_core.measuring.runner import Runner
from stairs_core.models import folder_check
from stairs_core.models.load import load_pair
from stairs_core.settings.settings import Settings

LETTERS = "abcdefghijklmnopqrstuvwxyz"
HAS_PIECES = importlib.util.find_spec("sentencepiece") is not None


def field(number: int, data: bytes) -> bytes:
    """A field of a protobuf, of a known length."""
    length = len(data)
    head = bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])
    return bytes([number << 3 | 2]) + head + data


def piece(text: str, score: float, kind: int) -> bytes:
    number = bytes([2 << 3 | 5]) + struct.pack("<f", score)
    return field(1, field(1, text.encode()) + number + bytes([3 << 3, kind]))


def spm(*words: str, kind: int = 2) -> bytes:
    """A SentencePiece model of bytes, letters and words; ``kind``: 1 for Unigram, 2 for BPE."""
    pieces = [piece("<unk>", 0, 2), piece("<s>", 0, 3), piece("</s>", 0, 3)]
    pieces += [piece(f"<0x{i:02X}>", 0, 6) for i in range(256)]
    pieces += [piece(c, -1 - i, 1) for i, c in enumerate("\u2581" + LETTERS)]
    pieces += [piece(word, -0.5, 1) for word in words]
    kind_of, bytes_too = bytes([3 << 3, kind]), bytes([0x98, 2, 1])
    return b"".join(pieces) + field(2, kind_of + bytes_too)


def llama(folder: Path) -> Path:
    make_model(vocab_size=300).save_pretrained(folder)
    (folder / "tokenizer.model").write_bytes(spm())
    return folder


def marian(folder: Path) -> Path:
    from transformers import MarianConfig, MarianMTModel

    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 32}
    ends = {"pad_token_id": 30, "eos_token_id": 0, "decoder_start_token_id": 30}
    torch.manual_seed(0)
    config = MarianConfig(vocab_size=31, max_position_embeddings=64, **sizes, **heads, **ends)
    MarianMTModel(config).save_pretrained(folder)
    spelled = [f"\u2581{word}" for word in ("once", "upon", "a")]
    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes(spm(*spelled, kind=1))
    words = ["</s>", "<unk>", *LETTERS[:25], *spelled, "<pad>"]
    vocabulary = {word: i for i, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    languages = {"tokenizer_class": "MarianTokenizer", "source_lang": "en", "target_lang": "de"}
    (folder / "tokenizer_config.json").write_text(json.dumps(languages))
    return folder


@pytest.mark.skipif(HAS_PIECES, reason="sentencepiece is here")
@pytest.mark.parametrize(("make", "file"), [(llama, "tokenizer.model"), (marian, "source.spm")])
def test_without_its_library_the_sentence_names_it(tmp_path, make, file):
    with pytest.raises(InputError) as caught:
        load_pair(str(make(tmp_path)), "cpu")
    assert f"{file} is a SentencePiece file: pip install sentencepiece" in str(caught.value)
    assert "tiktoken" not in str(caught.value)


@pytest.mark.skipif(not HAS_PIECES, reason="needs sentencepiece")
@pytest.mark.parametrize("make", [llama, marian])
def test_with_its_library_it_runs(tmp_path, make):
    pair = load_pair(str(make(tmp_path)), "cpu")
    runner = Runner(pair, "once upon a", Settings("none", max_new_tokens=4))
    assert "".join(runner.run.prompt_tokens).replace("</s>", "").strip() == "once upon a"
    assert sum(len(step.committed) for step in runner.decode()) > 0


def test_a_tiktoken_file_is_told_from_the_other(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_check, "find_spec", lambda _: None)
    (tmp_path / "tokenizer.model").write_bytes(b"IQ== 0\nIg== 1\n")
    assert "is a tiktoken file: pip install tiktoken" in str(folder_check.unread(tmp_path))
    (tmp_path / "tokenizer.model").write_bytes(spm())
    assert "pip install sentencepiece protobuf" in str(folder_check.unread(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    assert folder_check.unread(tmp_path) is None
