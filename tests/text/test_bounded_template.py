"""Chat templates of strangers: the same ids as ever, or stopped, and the next one is right."""

from __future__ import annotations

import time

import pytest
from tiny_models import make_model, make_tokenizer, save_pair

from stairs_core.errors import InputError
from stairs_core.text import bounded_template
from stairs_core.text.chat_template import encode, ends
from stairs_core.web import loaded_pairs

PLAIN = (
    "{{ bos_token or '' }}{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}[a]{% endif %}{{ tools | length if tools }}{{ mood }}"
)
ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}x"
GROWING = (
    "{% set ns = namespace(s='a' * 1000) %}"
    "{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s | length }}"
)
LONG = "{% for i in range(1000) %}{{ 'a' * 1000 }}{% endfor %}"
CASES = ({}, {"mood": "glad"}, {"tools": [{"name": "dig"}]})


def made(template, strange=True):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    if strange:
        bounded_template.distrust(tokenizer, None)
    return tokenizer


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(bounded_template, "SECONDS", 1.0)


@pytest.mark.parametrize("options", CASES)
def test_the_ids_are_those_of_the_template_itself(options):
    asked = ("hi fox, </s> é \ud800"[:-1], "Be brief.", options)
    found = encode(made(PLAIN), *asked)
    assert found == encode(made(PLAIN, strange=False), *asked)
    assert len(found) > 10
    assert ends(made(PLAIN)) == ends(made(PLAIN, strange=False)) != frozenset()


@pytest.mark.parametrize("template", [ENDLESS, GROWING], ids=["endless", "growing"])
def test_one_that_would_not_end_is_stopped_in_a_sentence(template):
    encode(made(PLAIN), "hi", "", {})  # its process is there
    began = time.monotonic()
    with pytest.raises(InputError, match=r"chat template .* switch chat off") as e:
        encode(made(template), "hi", "", {})
    assert time.monotonic() - began < 30
    assert "\n" not in str(e.value)
    plain = encode(made(PLAIN, strange=False), "hi", "", {})
    assert encode(made(PLAIN), "hi", "", {}) == plain


def test_one_that_writes_too_much_or_fails_is_refused_as_ever():
    for template, words in (
        (LONG, "writes 1000000 characters"),
        ("{{ raise_exception('No such role.') }}", "No such role"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
    ):
        with pytest.raises(InputError, match=rf"does not take this chat \(.*{words}"):
            encode(made(template), "hi", "", {})


def test_what_nobody_vouches_for_is_distrusted_when_it_is_loaded(tmp_path, monkeypatch):
    strange = save_pair(tmp_path / "strange", make_model(), make_model())
    own = save_pair(tmp_path / "own", make_model(), make_model())
    monkeypatch.setenv("STAIRS_PAIR", str(own))
    room = {"say": lambda _: None, "make_room": lambda *_: None}
    for spec, distrusted in ((str(strange), True), (str(own), False)):
        pair = loaded_pairs.load(spec, **room)
        both = pair.tokenizer, pair.draft_tokenizer
        assert [one in bounded_template._strange for one in both] == [distrusted] * 2
