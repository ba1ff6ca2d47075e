"""A target's own ``generation_config.json``: the text is ``generate(do_sample=False)``'s."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace

import families
import pytest
import torch
from tiny_models import make_model, perturb, save_pair
from transformers import GenerationConfig

from stairs_core.cli import main
from stairs_core.decoding import generation_defaults
from stairs_core.errors import InputError
from stairs_core.measuring.baselines import transformers_generate
from stairs_core.measuring.preflight import preflight
from stairs_core.measuring.runner import Runner
from stairs_core.models.load import load_pair
from stairs_core.render import preflight_card, snippets
from stairs_core.render.terminal import trace
from stairs_core.settings.sampling import Sampling
from stairs_core.settings.settings import Settings
from stairs_core.traces import files

PROMPT, NEW = "The fox ran to the fox", 24
SHIPPED = {"repetition_penalty": 1.3, "top_p": 0.8, "top_k": 20, "temperature": 0.7}
CASES = {
    "as Qwen ships": {"do_sample": True, **SHIPPED},
    "n-grams": {"no_repeat_ngram_size": 2, "bad_words_ids": [[70], [80, 81]]},
    "the prompt's": {"encoder_repetition_penalty": 1.5, "encoder_no_repeat_ngram_size": 2},
    "suppressed": {"suppress_tokens": [*range(60, 160)], "begin_suppress_tokens": [70, 71, 200]},
    "ends": {"forced_eos_token_id": 0, "exponential_decay_length_penalty": (4, 1.3)},
    "lengths": {"min_new_tokens": 12, "eos_token_id": [*range(0, 320, 2)]},
    "bias": {"sequence_bias": [[[70], 3.0], [[90, 70], -9.0]], "renormalize_logits": True},
}


def saved(folder, target, config: dict):
    """A pair whose target has these defaults, loaded."""
    save_pair(folder, target, perturb(target, 0.1))
    path = folder / "target" / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return load_pair(str(folder), "cpu", "float32", "off")


def alone(pair, ids: list[int], new: int = NEW, **options) -> list[int]:
    """What ``generate`` writes with all that the model comes with."""
    inputs = torch.tensor([ids])
    given = {"do_sample": False, "max_new_tokens": new, "pad_token_id": 0} | options
    out = pair.target.generate(inputs, attention_mask=torch.ones_like(inputs), **given)[0].tolist()
    return out[1:] if pair.target.config.is_encoder_decoder else out[len(ids) :]


def written(pair, drafter: str, backend: str = "single_kv", **settings) -> tuple[Runner, list[int]]:
    asked = {"k": 4, "max_new_tokens": NEW, "backend": backend} | settings
    runner = Runner(pair, PROMPT, Settings(drafter, **asked))
    return runner, [t.id for step in runner.decode() for t in step.committed]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", ["Llama", "T5"])
def test_defaults_shape_the_text_as_in_generate(tmp_path, family, case):
    pair = saved(tmp_path, families.make(family), CASES[case])
    ids = pair.tokenizer.encode(PROMPT)
    expected = alone(pair, ids)
    assert expected != without(pair, ids)
    ways = [(d, "single_kv") for d in ("none", "model", "lookup")] + [("model", "matrix_kv")]
    ways += [("tree", "matrix_kv")]
    for way in ways:
        runner, text = written(pair, *way)
        assert text == expected, way
    assert transformers_generate(pair, ids, NEW) == expected
    told = {entry.partition("=")[0] for entry in runner.run.defaults}
    assert told == CASES[case].keys() - {
        "do_sample",
        "top_p",
        "top_k",
        "temperature",
        "eos_token_id",
    }
    assert runner.run.left_out == ()


def without(pair, ids: list[int]) -> list[int]:
    """What ``generate`` writes when the model comes with nothing."""
    own = pair.target.generation_config
    pair.target.generation_config = GenerationConfig(
        eos_token_id=own.eos_token_id, decoder_start_token_id=own.decoder_start_token_id
    )
    try:
        return alone(pair, ids)
    finally:
        pair.target.generation_config = own


@pytest.mark.parametrize("family", ["Llama", "T5"])
def test_a_penalty_that_a_person_asks_for_is_generates_own(tmp_path, family):
    """In the place of the model's; the processors see what the decoder reads, as generate's do."""
    pair = saved(tmp_path, families.make(family), SHIPPED)
    ids = pair.tokenizer.encode(PROMPT)
    for penalty in (1.5, 1.0):
        expected = alone(pair, ids, repetition_penalty=penalty)
        for drafter, backend in (("none", "single_kv"), ("model", "single"), ("lookup", "matrix")):
            sampling = Sampling(0.0, repetition_penalty=penalty)
            runner, text = written(pair, drafter, backend, sampling=sampling)
            assert text == expected
            assert runner.run.defaults == ()


def test_draws_keep_what_is_not_said(tmp_path):
    pair = saved(tmp_path, make_model(), {**SHIPPED, "suppress_tokens": [*range(1, 310)]})
    for rule in ("speculative", "coupled"):
        sampling = Sampling(1.0, seed=3, rule=rule)
        runner, text = written(pair, "model", sampling=sampling, max_new_tokens=40)
        assert set(text) <= {0, *range(310, 320)}
        assert runner.run.defaults[0].startswith("suppress_tokens=[1, 2")
        assert len(runner.run.defaults) == 1


def test_what_cannot_be_kept_to_is_left_out_and_named(tmp_path, monkeypatch):
    asked = {"num_beams": 4, "guidance_scale": 1.5, "stop_strings": ["x"], "penalty_alpha": 0.6}
    pair = saved(tmp_path, make_model(), {**asked, "repetition_penalty": 1.3})
    ids = pair.tokenizer.encode(PROMPT)
    runner, text = written(pair, "model")
    names = ("num_beams=4", "penalty_alpha=0.6", "guidance_scale=1.5", "stop_strings=['x']")
    assert runner.run.left_out == names
    assert runner.run.defaults == ("repetition_penalty=1.3",)
    said = "the target's repetition_penalty=1.3; its num_beams=4"
    recording = runner.recording()
    assert said in trace.draw([recording], 400)
    assert said in "".join(trace.noted([recording]))
    measured = preflight(pair, runner.settings)
    assert said in dict(preflight_card.rows(measured))["defaults"]
    again = files.loads(files.dumps([recording]))
    assert again[0].run == recording.run
    monkeypatch.setattr(snippets, "_models", lambda _: [f"{tmp_path}/target", f"{tmp_path}/draft"])
    names: dict = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(snippets.generate(runner.run), names)
    assert names["out"][0].tolist() == [*ids, *text]


@pytest.mark.parametrize("drafter", ["none", "model"])
def test_the_code_that_repeats_the_run_writes_its_text(tmp_path, drafter):
    pair = saved(tmp_path, make_model(), {**SHIPPED, "no_repeat_ngram_size": 3})
    runner, text = written(pair, drafter)
    run = replace(runner.run, pair=str(tmp_path))
    for name in ("Python", "transformers"):
        made: dict = {}
        with contextlib.redirect_stdout(io.StringIO()):
            exec(snippets.snippets(run)[name], made)
        if name == "Python":
            assert [t.id for s in made["runner"].steps for t in s.committed] == text
            assert made["runner"].run.defaults == run.defaults
        else:
            assert made["out"][0].tolist() == [*run.prompt_ids, *text]


def test_drawing_code_says_all_that_was_drawn_with():
    """Or the model's own top-p would be in the place of one that was left as it is."""
    from recordings import head

    code = snippets.generate(head(target="t", sampling=Sampling(0.8)))
    for option in ("temperature=0.8", "top_k=0", "top_p=1.0", "repetition_penalty=1.0"):
        assert f"    {option},\n" in code


def test_defaults_without_sense_are_refused_in_a_sentence(tmp_path, capsys):
    for wrong in ({"repetition_penalty": -1.0}, {"bad_words_ids": [[999]]}):
        saved(tmp_path, make_model(), wrong)
        assert main.main(["run", "--pair", str(tmp_path), "--prompt", "a", "--device", "cpu"]) == 2
        error = capsys.readouterr().err
        assert "generation_config.json cannot be kept to" in error
        assert "Traceback" not in error


def test_a_setting_that_fails_is_not_blamed_on_the_models_file(tiny_pair, monkeypatch):
    def build(model, config, *rest):
        if config.temperature == 7.0:
            raise ValueError("`temperature` is odd.")
        return build_as_ever(model, config, *rest)

    build_as_ever = generation_defaults._built
    monkeypatch.setattr(generation_defaults, "_built", build)
    with pytest.raises(InputError, match=r"settings of sampling cannot .*temperature. is odd\)"):
        generation_defaults.processors(tiny_pair.target, [1], 2, frozenset(), Sampling(7))
    whole = Sampling(2, repetition_penalty=2)
    assert generation_defaults.processors(tiny_pair.target, [1], 2, frozenset(), whole)


def test_other_lengths_are_told_of_a_run_with_defaults(tmp_path):
    """The draft is asked as the run asked it: through the target's defaults."""
    pair = saved(tmp_path, make_model(), SHIPPED)
    runner, _ = written(pair, "model", k=3)
    runner.match_draft()
    told = runner.recording()
    assert told.stop.draft_matches is not None
    assert len(told.stop.draft_matches) == NEW
    other, _ = written(pair, "model", k=5)
    other.match_draft()
    assert other.recording().stop.draft_matches == told.stop.draft_matches


def test_a_plain_model_has_no_processors(tiny_pair):
    assert not generation_defaults.processors(tiny_pair.target, [1, 2], 9, tiny_pair.eos_ids)
    assert generation_defaults.applied(tiny_pair.target, None) == ()


def test_a_report_names_them(tmp_path, capsys):
    saved(tmp_path, make_model(), {**SHIPPED, "num_beams": 2})
    asked = [
        "run",
        "--pair",
        str(tmp_path),
        "--prompt",
        "a",
        "--device",
        "cpu",
        "--json",
        "--check",
    ]
    assert main.main([*asked, "--max-new-tokens", "8", "--compile", "off"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["defaults"] == ["repetition_penalty=1.3"]
    assert report["left_out"] == ["num_beams=2"]
    assert report["identical"] is True
