"""Models that translate between many languages: which one is asked for, by its code."""

from __future__ import annotations

import json
from dataclasses import replace

import families
import pytest
import torch
from tiny_models import WORDS, perturb

from stairs_core.cli.main import main
from stairs_core.errors import InputError
from stairs_core.measuring.runner import Runner
from stairs_core.models.load import load_pair
from stairs_core.render.snippets import snippets
from stairs_core.settings.settings import BACKENDS, Settings
from stairs_core.text import languages

PROMPT = "the fox sang"
CODES = ["eng_Latn", "fra_Latn", "deu_Latn"]


def tokenizer():
    """As NLLB has it: the prompt's language before it, an end after it."""
    from transformers import NllbTokenizer

    letters = sorted({c for c in "\u2581abcdefghijklmnopqrstuvwxyz" + WORDS[0] if c != " "})
    vocab = {name: i for i, name in enumerate(["<s>", "<pad>", "</s>", "<unk>", *letters])}
    return NllbTokenizer(vocab=vocab, merges=[], additional_special_tokens=CODES)


@pytest.fixture(scope="module", params=["M2M100", "MBart"])
def folder(request, tmp_path_factory):
    path, words = tmp_path_factory.mktemp(request.param), tokenizer()
    target = families.make(request.param, pad_token_id=1, eos_token_id=2, decoder_start_token_id=2)
    for name, model in (("target", target), ("draft", perturb(target))):
        model.save_pretrained(path / name)
        words.save_pretrained(path / name)
    return path


@pytest.fixture(scope="module")
def pair(folder):
    return replace(load_pair(str(folder), "cpu", "float32", "off"), eos_ids=frozenset())


def translated(pair, source: str, target: str, new: int = 40) -> list[int]:
    """By transformers alone."""
    words = pair.tokenizer
    words.src_lang = source
    ids = words(PROMPT, return_tensors="pt").to(pair.device)
    words.src_lang = "eng_Latn"
    first = words.convert_tokens_to_ids(target)
    out = pair.target.generate(
        **ids,
        do_sample=False,
        num_beams=1,
        max_new_tokens=new + 1,
        eos_token_id=None,
        forced_bos_token_id=first,
        forced_eos_token_id=None,
    )
    assert out[0, 1] == first
    return out[0, 2:].tolist()


@pytest.mark.parametrize("target", CODES[1:])
def test_the_text_is_in_the_language_asked_for(pair, target):
    wanted = translated(pair, "deu_Latn", target)
    for drafter in ("none", "model", "lookup"):
        for backend in BACKENDS:
            settings = Settings(
                *(drafter, 4, 40, backend), source_language="deu_Latn", target_language=target
            )
            runner = Runner(pair, PROMPT, settings)
            new = [t.id for step in runner.decode() for t in step.committed]
            assert new == wanted, (drafter, backend)
    assert runner.run.target_language == target
    assert runner.alone().run.target_language == target
    assert pair.tokenizer.src_lang == "eng_Latn"


def test_a_text_that_holds_padding_is_the_targets_own(pair):
    """M2M100 counts no place for it, when it reads several tokens in one pass."""
    held = replace(pair, target=families.make("M2M100", pad_token_id=1, decoder_start_token_id=1))
    with torch.no_grad():
        held.target.lm_head.weight[1] = held.target.lm_head.weight[:99].sum(0)
    wanted = translated(held, "eng_Latn", "fra_Latn")
    assert wanted.count(1) > 2
    for backend in BACKENDS:
        settings = Settings("model", 4, 40, backend, target_language="fra_Latn")
        steps = Runner(held, PROMPT, settings).decode()
        assert [t.id for step in steps for t in step.committed] == wanted, backend


def test_what_is_no_language_is_refused(pair, tiny_pair):
    def refused(pair, words: str, **asked: str):
        with pytest.raises(InputError, match=words):
            Runner(pair, PROMPT, Settings("none", **asked))

    refused(
        pair, "no language 'fr' in this model: use a code as eng_Latn, fra", target_language="fr"
    )
    refused(pair, "no language 'x' in this model", source_language="x")
    refused(tiny_pair, r"\(llama\) does not translate", target_language="fra_Latn")
    refused(tiny_pair, "no languages to choose from", source_language="fra_Latn")
    plain = replace(pair, tokenizer=tiny_pair.tokenizer)
    refused(plain, "no languages to choose from", target_language="fra_Latn")


def test_codes_are_what_special_tokens_name():
    class Words:
        all_special_tokens = ("<s>", "</s>", "__fr__", "__en_XX__", "de_DE", "zho_Hans", "<mask>")
        convert_tokens_to_ids = all_special_tokens.index

    assert languages.codes(Words()) == {"fr": 2, "en_XX": 3, "de_DE": 4, "zho_Hans": 5}


def test_the_command_line_and_the_code_tell_it(folder, capsys, tmp_path):
    file = tmp_path / "t.jsonl"
    options = ["--prompt", PROMPT, "--pair", str(folder), "--dtype", "float32", "--device", "cpu"]
    asked = ["--max-new-tokens", "8", "--target-language", "fra_Latn"]
    assert main(["run", *options, *asked, "--check", "--json", "--trace", str(file)]) == 0
    capsys.readouterr()
    assert json.loads(file.read_text().splitlines()[0])["target_language"] == "fra_Latn"
    assert main(["show", str(file)]) == 0
    assert "into fra_Latn" in " ".join(capsys.readouterr().out.split())
    assert main(["run", *options, "--target-language", "french"]) == 2
    assert "no language 'french'" in capsys.readouterr().err


def test_code_repeats_it(pair):
    asked = Settings("model", source_language="deu_Latn", target_language="fra_Latn")
    code = snippets(Runner(pair, PROMPT, asked).run)
    assert "source_language='deu_Latn', target_language='fra_Latn'" in code["Python"]
    assert "--source-language=deu_Latn" in code["Command line"]
    assert "--target-language=fra_Latn" in code["Command line"]
    assert code["transformers"].startswith("# custom_generate does not take encoder-decoder")
