"""Text spelled token by token is the text, also where a character takes several tokens."""

from __future__ import annotations

import random
from itertools import groupby

import pytest
from conftest import make_pieces, make_tokenizer

from stairs_core.errors import InputError
from stairs_core.text import Speller, encode

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
