"""The tokenizers of GGUF files: marks are tokens, text is split as the file says, and begins so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gguf_files
import pytest
from transformers import AutoTokenizer

from stairs_core.errors import InputError
from stairs_core.models import gguf_header, gguf_tokens, gguf_unpack
from stairs_core.quiet import quiet

PRE, BOS = "tokenizer__ggml__pre", "tokenizer__ggml__bos_token_id"
DEEPSEEK = {300: "<｜User｜>", 301: "<｜Assistant｜>", 302: "<｜begin▁of▁sentence｜>"}
MARKED = {"renamed": DEEPSEEK, BOS: 302}


def unpacked(file: Path) -> Any:
    with quiet():
        gguf_unpack._unpack(file, file.parent, "a note")
        return AutoTokenizer.from_pretrained(file.parent / "model")


@pytest.mark.parametrize("kind", ["CONTROL", "USER_DEFINED"])
@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_marks_of_other_letters_are_tokens(tmp_path, architecture, kind):
    """Full-width bars are outside the letters in which bytes are spelled."""
    types = dict.fromkeys((300, 301), kind)
    file = gguf_files.write(
        tmp_path / "m.gguf", architecture, types=types, **{PRE: "deepseek-r1-qwen"}, **MARKED
    )
    tokenizer = unpacked(file)
    text = "<｜begin▁of▁sentence｜><｜User｜>the<｜Assistant｜>"
    assert tokenizer.encode(text, add_special_tokens=False) == [302, 300, 258, 301]
    assert tokenizer.bos_token_id == 302
    assert len(tokenizer) == gguf_files.VOCABULARY
    assert tokenizer.decode([300, 258]) == "<｜User｜>the"
    skipped = tokenizer.decode([300, 258], skip_special_tokens=True)
    assert skipped == ("the" if kind == "CONTROL" else "<｜User｜>the")


@pytest.mark.parametrize(
    ("pairs", "begun"),
    [
        ({PRE: "llama-bpe"}, True),
        ({PRE: "tekken"}, True),
        ({PRE: "qwen2"}, False),
        ({PRE: "llama-bpe", "tokenizer__ggml__add_bos_token": False}, False),
        ({PRE: "qwen2", "tokenizer__ggml__add_bos_token": True}, True),
    ],
)
def test_a_text_begins_as_in_llama_cpp(tmp_path, pairs, begun):
    file = gguf_files.write(tmp_path / "m.gguf", **pairs, **MARKED)
    assert unpacked(file).encode("the") == [*([302] if begun else []), 258]


@pytest.mark.parametrize(
    ("pre", "text", "parts"),
    [
        ("smollm", "a 123", ["a", "Ġ", "1", "2", "3"]),
        ("falcon", "a  12345", ["a", "Ġ", "Ġ", "123", "45"]),
        ("stablelm2", "a 12!\n", ["a", "Ġ", "1", "2", "!Ċ"]),
        ("qwen2", "a 12!\n", ["a", "Ġ", "1", "2", "!Ċ"]),
        ("llama-bpe", "a 1234", ["a", "Ġ", "123", "4"]),
        ("deepseek-coder", "a 12", ["a", "Ġ", "1", "2"]),
        ("deepseek-v3", "a 1234.b", ["a", "Ġ", "123", "4", ".b"]),
        ("bloom", "a, b", ["a", ",", "Ġb"]),
        ("gpt-2", "a 1234", ["a", "Ġ1234"]),
    ],
)
def test_text_is_split_as_the_file_says(tmp_path, pre, text, parts):
    file = gguf_files.write(tmp_path / "m.gguf", **{PRE: pre})
    split = unpacked(file).backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)
    assert [part for part, _ in split] == parts


@pytest.mark.parametrize(("architecture", "pre"), [("llama", "spiral"), ("qwen2", "falcon")])
def test_a_split_that_is_not_known_is_refused(tmp_path, architecture, pre):
    """Or that a class of transformers replaces by its own, as Qwen's does."""
    file = gguf_files.write(tmp_path / "m.gguf", architecture, **{PRE: pre})
    words = rf"splits text in a way \({pre}\) that is not read from GGUF in a {architecture} model"
    with quiet(), pytest.raises(InputError, match=words):
        gguf_unpack._unpack(file, tmp_path, "a note")


def test_qwen_splits_as_qwen_where_its_file_does_not_say(tmp_path):
    file = gguf_files.write(tmp_path / "m.gguf", "qwen2")
    split = unpacked(file).backend_tokenizer.pre_tokenizer.pre_tokenize_str("a 12")
    assert [part for part, _ in split] == ["a", "Ġ", "1", "2"]


@pytest.mark.parametrize("said", [None, True, False])
def test_a_space_before_a_text(tmp_path, said):
    pairs = {} if said is None else {"tokenizer__ggml__add_space_prefix": said}
    file = gguf_files.write(tmp_path / "m.gguf", pieces=True, **pairs)
    tokenizer = unpacked(file)
    found = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("the and")
    assert [part for part, _ in found] == ["the▁and" if said is False else "▁the▁and"]


def test_gemma_needs_no_space_before_a_text(tmp_path):
    """Its files say so; its class does so by itself."""
    pairs = {"tokenizer__ggml__add_space_prefix": False, "tokenizer__ggml__unknown_token_id": 302}
    tokens = {301: "▁", 302: "<unk>"}
    file = gguf_files.write(tmp_path / "m.gguf", "gemma2", renamed=tokens, **pairs)
    tokenizer = unpacked(file)
    assert "Gemma" in type(tokenizer).__name__
    assert tokenizer.encode(" the")[1:] == [301, *tokenizer.encode("the")[1:]]


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ({"left_out": ("tokenizer.ggml.tokens",)}, "has no list of tokens: choose a file with"),
        ({"left_out": ("tokenizer.ggml.merges",)}, "has tokens without their merges, by which"),
        ({"left_out": ("tokenizer.ggml.scores",), "pieces": True}, "tokens without their scores"),
        ({BOS: 320}, "says bos_token_id 320 and has 320 tokens: choose another"),
        ({"general__type": "adapter"}, "holds an adapter, which changes another model: merge it"),
        ({"general__type": "mmproj"}, "holds what reads images or sound for another model"),
        ({"left_out": tuple(gguf_files.shapes("llama"))}, "has no weights, at most a vocabulary"),
        ({"llama__attention__key_length": 32}, "has tensors of other sizes than its header says"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path, file, words):
    path = gguf_files.write(tmp_path / "m.gguf", **file)
    with pytest.raises(Exception) as raised, quiet():  # noqa: PT011
        gguf_unpack._unpack(path, tmp_path, "a note")
    said = gguf_unpack._why(raised.value, path, "llama")
    assert said.startswith(f"{path.name} ")
    assert re.search(re.escape(words), said)
    assert said.count(". ") == 0


def test_a_header_that_lacks_a_pair_is_told_by_its_name(tmp_path):
    path = gguf_files.write(tmp_path / "m.gguf", "qwen35")
    with pytest.raises(KeyError) as raised, quiet():
        gguf_unpack._unpack(path, tmp_path, "a note")
    words = "m.gguf lacks qwen35.attention.key_length in its header, which transformers needs: "
    assert gguf_unpack._why(raised.value, path, "qwen35").startswith(words)


def test_a_file_without_types_has_no_marks(tmp_path):
    path = gguf_files.write(tmp_path / "m.gguf", left_out=("tokenizer.ggml.token_type",))
    assert gguf_tokens._marks(gguf_header.read(path), path) == {}
    assert unpacked(path).encode("the") == [258]
