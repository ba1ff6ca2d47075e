"""What is refused names its fix in the words of whoever asks: no option of one in another."""

from __future__ import annotations

import ast
import re
from itertools import product

import families
import pytest
from paths import ROOT
from tiny_models import make_model, make_pieces, make_tokenizer, perturb

from stairs_core.errors import COMMAND, PYTHON, InputError, Use
from stairs_core.measuring.runner import Runner
from stairs_core.models.load import load_pair
from stairs_core.settings import methods
from stairs_core.settings.settings import BACKENDS, Settings
from stairs_core.web import notices, zero_gpu

CORE = ROOT / "stairs_core"
ELSEWHERE = ("cli/", "integration/", "measuring/bench.py", "measuring/baselines.py")
ELSEWHERE += ("models/widen.py", "training/")
"""What only the command line or ``generate`` calls."""

ENGLISH = {"none", "model", "tree", "shared", "single", "matrix", "reference", "lookahead"}
ENGLISH |= {"slm"}  # in "stairs train slm", which trains one
CODE = "|".join({*methods.NAMES, *BACKENDS} - ENGLISH)
FOREIGN = re.compile(
    rf"(?<![\w-])--[a-z]|assistant_model|TARGET:DRAFT|[a-z]=['\"]|\bdrafters?\b|\b({CODE})\b"
)


def sentences():
    """What stands in every InputError that the page may show, and where."""
    for path in sorted(CORE.rglob("*.py")):
        if str(path.relative_to(CORE)).startswith(ELSEWHERE):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "InputError":
                plain = [a for a in node.args if not isinstance(a, ast.Call)]
                parts = [n for a in plain for n in ast.walk(a) if isinstance(n, ast.Constant)]
                yield f"{path.name}:{node.lineno}", "".join(str(p.value) for p in parts)


def test_no_sentence_that_reaches_the_page_names_an_option_by_itself():
    found = dict(sentences())
    assert len(found) > 60
    assert {where: text for where, text in found.items() if FOREIGN.search(text)} == {}


@pytest.fixture(scope="module")
def pairs(tiny_pair, tmp_path_factory):
    """Pairs that lack one thing each."""
    shallow = make_model(layers=2)
    t5 = families.save("T5", tmp_path_factory.mktemp("t5"))
    folder = tmp_path_factory.mktemp("one")
    shallow.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    mixed = tmp_path_factory.mktemp("mixed")
    for name, model, tokenizer in (
        ("target", make_model(layers=4), make_tokenizer()),
        ("draft", perturb(make_model(layers=4, vocab_size=400)), make_pieces()),
    ):
        model.save_pretrained(mixed / name)
        tokenizer.save_pretrained(mixed / name)
    found = {
        "whole": tiny_pair,
        "alone": load_pair(str(folder), "cpu", "float32", "off"),
        "mixed": load_pair(str(mixed), "cpu", "float32", "off"),
        "t5": load_pair(t5, "cpu", "float32", "off"),
    }
    for pair in found.values():
        pair.try_target()
    return found


def refused(pair, **settings) -> InputError | None:
    try:
        Runner(pair, "Once upon a time", Settings(**{"k": 3, **settings}))
    except InputError as e:
        return e
    return None


@pytest.mark.parametrize("which", ["whole", "alone", "mixed", "t5"])
def test_what_a_pair_lacks_is_what_its_runs_refuse(pairs, which, tmp_path):
    pair, texts = pairs[which], tmp_path / "a.txt"
    texts.write_text("the fox")
    for drafter, backend in product(methods.NAMES, BACKENDS):
        lack = pair.lacks().get(drafter)
        no = refused(pair, drafter=drafter, backend=backend, references=(str(texts),))
        assert bool(no) == bool(lack and backend not in lack.but), (drafter, backend, no)


@pytest.mark.parametrize("which", ["whole", "alone", "mixed", "t5"])
def test_what_is_refused_on_the_page_is_in_the_pages_words(pairs, which):
    said = set()
    for drafter, backend, numerics in product(methods.NAMES, BACKENDS, ("fast", "strict")):
        if no := refused(pairs[which], drafter=drafter, backend=backend, numerics=numerics):
            said.add(no.say(notices.PAGE))
            for others in (COMMAND, PYTHON):
                assert no.say(others).endswith(".")
    assert said
    assert not [text for text in said if FOREIGN.search(text) or not text.endswith(".")]


def test_each_asks_for_a_draft_in_its_own_words(pairs, monkeypatch):
    no = refused(pairs["alone"], drafter="model")
    name = pairs["alone"].target_name
    assert str(no) == (
        f"{name} has no draft model: give one with --pair TARGET:DRAFT, or use --drafter lookup or "
        "suffix."
    )
    assert "give one as assistant_model, or use drafter='lookup' or 'suffix'." in no.say(PYTHON)
    labels = "choose “copying from the text” or “copying the longest match”"
    loading = f"{name} has no draft model: load a pair with one under “Models”, or {labels}."
    monkeypatch.setenv("STAIRS_MODELS", "any")
    assert no.say(notices.PAGE) == loading
    monkeypatch.setattr(zero_gpu, "ON", True)  # there is nothing to load there
    assert no.say(notices.PAGE) == f"{name} has no draft model: {labels}."


def test_a_way_that_is_not_there_is_not_named():
    no = InputError("It rounds: ", Use(compile="auto", numerics="fast"), ".")
    assert str(no) == "It rounds: use --compile auto, or use --numerics fast."
    assert no.say(notices.PAGE) == "It rounds: switch “Strict numerics” off."
    only = InputError("It is compiled: ", Use(compile="auto"), ".")
    assert only.say(notices.PAGE) == "It is compiled: choose other models."


def test_generate_speaks_of_its_own_arguments(pairs):
    from stairs_core import custom_generate

    pair = pairs["alone"]
    ids = pair.tokenizer("Once", return_tensors="pt").input_ids
    with pytest.raises(InputError, match="give one as assistant_model") as no:
        pair.target.generate(
            ids, max_new_tokens=2, custom_generate=custom_generate, drafter="model"
        )
    assert "--" not in str(no.value)
