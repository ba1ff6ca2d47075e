"""Text spelled token by token is the text, also where a character takes several tokens."""

from __future__ import annotations

import html
import json
import random
import shutil
import warnings
from itertools import groupby

import families
import pytest
from tiny_models import make_model, make_pieces, make_tokenizer, perturb, save_pair
from tokenizers import AddedToken
from transformers import ByT5Tokenizer

from stairs_core.cli import main
from stairs_core.errors import InputError
from stairs_core.models import load
from stairs_core.models.load import load_pair
from stairs_core.render.terminal.text import visible
from stairs_core.text.cross_tokenizer import Language
from stairs_core.text.tokens import START, Speller, encode
from stairs_core.traces import files
from stairs_core.web import replay

HARD = [
    "Once upon a time",
    "naïve café, 你好 🦊🔑 — «да» ¿qué?",
    "a\u0301e\u0308 combining, \u05d0\u05d1 right to left, \x00 NUL, \u2028 line",
    "👩‍👩‍👧‍👦 family, 🏳️‍🌈 flag",
    "<|endoftext|> and $\\{1+1\\} </script>",
]


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


@pytest.mark.parametrize("text", HARD)
def test_pieces_join_to_the_text(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    pieces, pending = Speller(tokenizer).spell_all(ids)
    assert "".join(pieces) == text
    assert pending == ()
    assert len(pieces) == len(ids)


def test_any_ids_spell_what_the_tokenizer_decodes(tokenizer):
    rng = random.Random(0)
    speller = Speller(tokenizer)
    for _ in range(2000):
        ids = [rng.randrange(len(tokenizer)) for _ in range(rng.randrange(1, 24))]
        pieces, pending = speller.spell_all(ids)
        # A special token between the bytes of a character breaks it: it is not made whole again.
        parts = [list(part) for end, part in groupby(ids, lambda i: i == 0) if not end]
        whole = "".join(tokenizer.decode(part) for part in parts)
        assert "".join(pieces) + speller.flush(pending) == whole


def test_a_split_character_comes_with_its_last_token(tokenizer):
    ids = tokenizer.encode("鱼", add_special_tokens=False)
    assert len(ids) > 1
    pieces, pending = Speller(tokenizer).spell_all(ids)
    assert (pieces, pending) == ([""] * (len(ids) - 1) + ["鱼"], ())


def test_spaces_and_split_characters_survive_a_tokenizer_of_pieces():
    """It drops the first space; and a part of a character reads as if it were broken."""
    tokenizer = make_pieces()
    for text in (*HARD, "a fox was there"):
        ids = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        pieces, pending = Speller(tokenizer).spell_all(ids)
        assert ("".join(pieces), pending) == (f" {text}", ())


def byte_tokenizers(folder):
    """Tokens are bytes, in several writings of them."""
    from transformers import ByT5Tokenizer, MyT5Tokenizer, PerceiverTokenizer

    maps = folder / "maps.json"
    maps.write_text(json.dumps({"decompose_map": {}, "merge_map": {}}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves its file open
        myt5 = MyT5Tokenizer(str(maps))
    return [ByT5Tokenizer(), PerceiverTokenizer(), myt5, make_tokenizer(), make_pieces()]


def test_tokens_that_are_bytes_spell_whole_characters(tmp_path):
    for tokenizer in byte_tokenizers(tmp_path):
        speller, kind = Speller(tokenizer), type(tokenizer).__name__
        for text in (*HARD, "naïve 🦊", "你好"):
            ids = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
            pieces, pending = speller.spell_all(ids)
            assert ("".join(pieces).removeprefix(speller.lead), pending) == (text, ()), kind


def test_a_half_character_is_shown_as_broken_by_whatever_comes(tmp_path):
    for tokenizer in byte_tokenizers(tmp_path):
        speller, kind = Speller(tokenizer), type(tokenizer).__name__
        half = tokenizer.encode("x🦊", add_special_tokens=False)[:-1]
        pieces, pending = speller.spell_all(half)
        before = "".join(pieces).strip()
        assert pending, kind
        for ends in (max(tokenizer.get_vocab().values()) + 999, tokenizer.eos_token_id):
            if ends is None:
                continue
            piece, after = speller.spell(pending, ends)
            assert (before[:1], {*(before + piece)[1:]}, after) == ("x", {"\ufffd"}, ()), kind
            assert speller.spell((), ends) == ("", ()), kind
            assert speller.spell_all([ends, *half[:1]])[1] == (), kind


def test_names_of_bytes_are_compared_as_bytes(tmp_path):
    bytes_, _, _, level, _ = (Language(t, ()) for t in byte_tokenizers(tmp_path))
    both = bytes_.forms.keys() & level.forms.keys()
    assert {bytes([i]) for i in range(256)} <= both


def test_special_tokens_are_no_text():
    """Named ones, and others that were added as such; what was added as text is text."""
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([AddedToken("<|eot|>", special=True), AddedToken("<fox>", special=False)])
    end, eot, fox = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|eot|>", "<fox>"])
    speller = Speller(tokenizer)
    assert speller.special == {end: "<|endoftext|>", eot: "<|eot|>"}
    word = tokenizer.encode("fox", add_special_tokens=False)
    pieces, _ = speller.spell_all([end, *word, fox, eot])
    assert (pieces[0], "".join(pieces), pieces[-1]) == ("", "fox<fox>", "")


def test_a_text_that_goes_on_from_none_begins_without_a_space():
    tokenizer = make_pieces()
    ids, end = tokenizer.encode("a fox", add_special_tokens=False), tokenizer.eos_token_id
    speller, state, text = Speller(tokenizer), START, ""
    for token in (end, *ids):
        piece, state = speller.spell(state, token)
        text += piece
    assert (text, state) == ("a fox", ())
    assert speller.flush(START) == ""


@pytest.mark.parametrize("kind", ["pieces", "bytes", "two sides"])
def test_one_text_everywhere(tmp_path, monkeypatch, capsys, kind):
    """What is typed, the JSON, the trace, its replay, and the pieces together."""
    if kind == "two sides":
        spec = families.save("T5", tmp_path / "pair")
        make_pieces().save_pretrained(tmp_path / "pair" / "target")
        shutil.rmtree(tmp_path / "pair" / "draft")
    else:
        tokenizer = make_pieces() if kind == "pieces" else ByT5Tokenizer()
        eos = AddedToken("<|eot|>", special=True)
        tokenizer.add_tokens([eos])
        target = make_model(vocab_size=len(tokenizer) + 3, seed=3)
        save_pair(tmp_path / "pair", target, perturb(target), tokenizer)
        spec = str(tmp_path / "pair")
    pair = load_pair(spec, "cpu", "float32", "off")
    monkeypatch.setattr(load, "load_pair", lambda *_, **__: pair)
    drafter, file = "none" if pair.draft is None else "model", tmp_path / "t.jsonl"
    options = ["run", "--prompt", "Once upon a", "--max-new-tokens", "40", "--drafter", drafter]
    assert main.main([*options, "--trace", str(file)]) == 0
    typed = capsys.readouterr().out.removesuffix("\n")
    assert main.main([*options, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    (saved,) = files.read(file)
    told = "".join(t.text for s in saved.steps for t in s.committed)
    assert typed == report["text"] == saved.stop.text
    assert saved.stop.text.rstrip("\ufffd") == told.rstrip("\ufffd")
    assert visible(saved.stop.text, "\n") in html.unescape(replay._plain([saved]))
    if kind == "two sides":
        assert not typed.startswith(" ")


@pytest.mark.parametrize(
    ("prompt", "chat", "words"),
    [
        ("", False, "empty"),
        (" \n\t", False, "empty"),
        ("fox " * 400, False, "shorten it by"),
        ("hello", True, "no chat template"),
        ("\ud83e", False, "half a character"),
    ],
)
def test_a_prompt_that_will_not_do_gets_one_sentence(tokenizer, prompt, chat, words):
    with pytest.raises(InputError, match=words) as caught:
        encode(tokenizer, prompt, chat=chat, context_length=64)
    assert str(caught.value).count(". ") == 0


def test_chat_wraps_the_prompt(tokenizer):
    tokenizer.chat_template = "{% for m in messages %}<u>{{ m.content }}</u>{% endfor %}A:"
    try:
        ids = encode(tokenizer, "hi fox", chat=True, context_length=64)
    finally:
        tokenizer.chat_template = None
    assert tokenizer.decode(ids) == "<u>hi fox</u>A:"
