"""LLM-to-SLM: guesses that are checked, and a text that is not and says so everywhere."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from heads import save_slm
from tiny_models import WORDS, make_model, make_pieces, perturb, save_pair
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from stairs_core import custom_generate
from stairs_core.cli.main import main
from stairs_core.errors import InputError
from stairs_core.forward.cached_model import CachedModel
from stairs_core.forward.llm_to_slm import Prompted, injected, pooling
from stairs_core.measuring.race import race
from stairs_core.measuring.runner import Runner
from stairs_core.models import heads, slm
from stairs_core.models.load import load_pair
from stairs_core.render import explain, snippets, summary
from stairs_core.render.charts import race as charts
from stairs_core.render.terminal import trace
from stairs_core.settings.settings import BACKENDS, Settings
from stairs_core.text.alignment import spans
from stairs_core.text.tokens import Speller
from stairs_core.traces import files, metrics

PROMPT = WORDS[0]


def own_text(pair, new: int) -> list[int]:
    """What the small model writes after the prompt, by transformers' forward pass alone."""
    small = slm.of(pair)
    ids = pair.tokenizer.encode(PROMPT)
    with torch.no_grad():
        out = pair.target(torch.tensor([ids]), output_hidden_states=True)
        # hidden_states[i] is the output of layer i.
        added = small.projector(out.hidden_states[small.layer][0])
        table = small.model.get_input_embeddings().weight
        text = ids[:]
        for _ in range(new):
            x = table[text].clone()
            x[: len(ids)] = injected(x[: len(ids)], added, small.how)
            text.append(int(small.model(inputs_embeds=x[None]).logits[0, -1].argmax()))
    return text[len(ids) :]


@pytest.mark.parametrize("how", ["add", "replace"])
def test_alone_it_writes_what_its_own_passes_say(how, tmp_path):
    target = make_model(layers=4)
    folder = save_pair(tmp_path / "pair", target, perturb(target))
    shutil.rmtree(folder / "heads")
    save_slm(folder / "heads" / "slm", target, how=how)
    pair = load_pair(str(folder), "cpu", "float32", "off")
    expected = own_text(pair, 20)
    for backend in BACKENDS:
        runner = Runner(pair, PROMPT, Settings("slm-alone", 4, 20, backend))
        assert [t.id for s in runner.decode() for t in s.committed] == expected
    plain = Runner(pair, PROMPT, Settings("none", max_new_tokens=20))
    assert [t.id for s in plain.decode() for t in s.committed] != expected


def test_the_targets_own_pass_gives_the_features(tiny_pair):
    """Guesses after the first step are those that the small model writes alone."""
    runner = Runner(tiny_pair, PROMPT, Settings("slm", 4, 20))
    steps = list(runner.decode())
    assert not steps[0].drafted
    assert any(t.status == "accepted" for s in steps for t in s.drafted)
    small, ids = slm.of(tiny_pair), runner.prompt_ids
    added = slm.alone(tiny_pair).for_prompt(ids).target
    text = ids + [steps[0].committed[0].id]
    row = CachedModel(added).logits(text, 1)[0]
    assert steps[1].drafted[0].id == int(row.argmax())
    without = CachedModel(small.model).logits(text, 1)[0]
    assert not torch.allclose(row, without)


def test_passes_may_begin_and_end_anywhere_in_the_prompt(tiny_pair):
    small = slm.of(tiny_pair)
    added = torch.randn(9, 32)
    ids = [*range(5, 20)]
    whole = CachedModel(Prompted(small.model, lambda: added, "add")).logits(ids, 15)
    parts = CachedModel(Prompted(small.model, lambda: added, "add"))
    for end in (3, 8, 10, 15):
        torch.testing.assert_close(parts.logits(ids[:end], 1)[0], whole[end - 1])


@pytest.fixture(scope="module")
def lanes(tiny_pair):
    """A race of the target alone, the drafter, and the small model alone."""
    runners = [
        Runner(tiny_pair, PROMPT, Settings(name, 4, 20), name)
        for name in ("none", "slm", "slm-alone")
    ]
    for _ in race(runners):
        pass
    return [runner.recording() for runner in runners]


def test_a_lossy_lane_says_so_in_its_trace(lanes):
    kept = files.loads(files.dumps(lanes))
    assert [lane.run.exactness for lane in kept] == ["token-exact", "token-exact", "lossy"]
    assert {t.source for s in kept[2].steps for t in s.committed} == {"slm-alone"}
    assert {t.source for s in kept[0].steps for t in s.committed} == {"target"}


def test_a_lossy_text_gets_no_verdict(lanes):
    plain, helped, alone = lanes
    assert metrics.compare(plain, helped).identical is True
    for pair in ((plain, alone), (alone, plain), (alone, alone)):
        found = metrics.compare(*pair)
        assert (found.identical, found.first_difference, found.calls_saved) == (None, None, None)
    said = summary.verdict(plain, alone)
    assert said["state"] == "open"
    assert "another text, by design (lossy)" in said["text"]
    assert [row[-1] for row in summary.table(lanes)["rows"]] == ["–", "yes", "lossy"]
    words = trace.verdict(lanes)
    assert "slm-alone wrote another text, by design (lossy)" in words
    assert words.endswith("the others are the same.")
    assert "the texts are the same" not in trace.verdict([plain, alone])


def test_every_reader_says_that_it_is_lossy(lanes):
    plain, _, alone = lanes
    drawn = trace.draw(lanes, 100)
    assert "slm-alone: 20 tokens, another text, by design (lossy)" in drawn
    assert "token-exact (but another text, by design (lossy): slm-alone)" in " ".join(drawn.split())
    assert "lossy" in explain.why(plain, alone)
    assert "lossy" in summary.source(lanes, "live")
    assert "(lossy)" in snippets.generate(alone.run)
    speedup = charts.charts(lanes)[1]
    assert "another text, by design (lossy)" in speedup["captions"][2]
    assert trace.table([alone], trace.Paint(False))[1].split()[4] == "–"


def test_the_command_line_says_that_it_is_lossy(tiny_pair_dir, capsys):
    asked = ["--pair", str(tiny_pair_dir), "--device", "cpu", "--max-new-tokens", "12"]
    run = ["run", "--drafter", "slm-alone", *asked, "--prompt", PROMPT, "--check"]
    assert main(run) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "slm-alone: another text, by design (lossy), not that of target." in said
    assert "same" not in said
    assert main([*run, "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["exactness"], report["identical"]) == ("lossy", None)


def test_inside_generate_only_the_exact_one_runs(tiny_pair):
    ids = torch.tensor([tiny_pair.tokenizer.encode(PROMPT)])
    options = {"do_sample": False, "max_new_tokens": 8, "custom_generate": custom_generate}
    options["generation_config"] = GenerationConfig(eos_token_id=None, pad_token_id=0)
    plain = tiny_pair.target.generate(ids, **{**options, "custom_generate": None})
    assert torch.equal(tiny_pair.target.generate(ids, drafter="slm", **options), plain)
    with pytest.raises(InputError, match=r"writes another text than the model's \(lossy\)"):
        tiny_pair.target.generate(ids, drafter="slm-alone", **options)


def test_tokens_of_two_tokenizers_are_aligned_by_characters(tiny_pair):
    pieces, text = make_pieces(), "The fox, naïve 🦊"
    where = {}
    for tokenizer in (tiny_pair.tokenizer, pieces):
        ids = tokenizer.encode(text)
        found = spans(Speller(tokenizer), ids)
        assert len(found) == len(ids)
        assert max(end for _, end in found) == len(text)
        for token, (start, end) in zip(ids, found, strict=True):
            name = tokenizer.decode([token]).strip()
            assert "\ufffd" in name or name in text[start:end] or start == end
        where[tokenizer] = found
    ours, theirs = where[pieces], where[tiny_pair.tokenizer]
    assert ours[0] == (0, 0)  # <s> has no characters, and nothing is pooled for it
    weights = pooling(ours, theirs)
    assert weights.shape == (len(ours), len(theirs))
    assert weights[0].sum() == 0
    full = [
        float(end > start) for start, end in ours
    ]  # the space before every text is no character
    assert weights.sum(1).tolist() == pytest.approx(full)
    for row, (start, end) in zip(weights[1:], ours[1:], strict=True):
        for weight, (a, b) in zip(row, theirs, strict=True):
            assert (weight > 0) == (min(end, b) > max(start, a))


def test_chat_is_for_who_has_a_template(tmp_path):
    """A small model with a tokenizer of its own, which has no template, reads the prompt as it is;
    a system prompt, which it cannot read, is refused."""
    target = make_model(layers=4)
    folder = save_pair(tmp_path / "pair", target, perturb(target))
    shutil.rmtree(folder / "heads")
    save_slm(folder / "heads" / "slm", target, tokenizer=make_pieces(), vocab_size=400)
    pair = load_pair(str(folder), "cpu", "float32", "off")
    pair.tokenizer.chat_template = "{% for m in messages %}<u>{{ m.content }}</u>{% endfor %}"
    plain = Runner(pair, PROMPT, Settings("slm-alone", max_new_tokens=4))
    chat = Runner(pair, PROMPT, Settings("slm-alone", max_new_tokens=4, chat=True))
    assert chat.prompt_ids == plain.prompt_ids
    assert not chat.settings.chat
    helped = Runner(pair, PROMPT, Settings("slm", max_new_tokens=4, chat=True))
    assert helped.prompt_ids != Runner(pair, PROMPT, Settings("slm", max_new_tokens=4)).prompt_ids
    with pytest.raises(InputError, match="no chat template"):
        Runner(pair, PROMPT, Settings("slm-alone", chat=True, system="Be brief."))


def test_what_comes_along_for_smollm2_loads_and_writes(tiny_pair):
    """On a target of its shape and name, with random weights: what they make the small model write
    means nothing, but it is written with the bundled target's tokens and, beside what was trained,
    its weights."""
    shape = {"hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 8}
    shape |= {"num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True}
    target = LlamaForCausalLM(LlamaConfig(vocab_size=49152, **shape)).eval()
    target.config.stairs_known = "smollm2-135m"
    pair = replace(tiny_pair, target=target, draft=None, target_name="smollm2-135m")
    small = slm.of(pair)
    assert small.folder == heads.BUNDLED / "smollm2-135m" / "slm"
    assert (small.folder / "model.safetensors").stat().st_size < 16e6
    bundled = load_pair("bundled", "cpu", "float32", "off")
    assert small.tokenizer.get_vocab() == bundled.tokenizer.get_vocab()
    before = bundled.target.state_dict()
    same = {n for n, t in small.model.state_dict().items() if torch.equal(t, before[n])}
    assert same == {n for n in before if "mlp" in n or "embed" in n or "lm_head" in n}
    runner = Runner(pair, "Words: dog, rain, happy\nStory:", Settings("slm-alone", 4, 12))
    assert len(list(runner.decode())) == 12
    assert runner.run.lossy


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"layer": 9}, "says inject = 'add' and layer = 9"),
        ({"inject": "multiply"}, "says inject = 'multiply'"),
        ({"slm": {"model_type": "none such"}}, "config is not understood"),
        ({"inner": 7}, "its tensors are not those"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_sentence(change, why, tmp_path):
    target = make_model(layers=4)
    folder = save_pair(tmp_path / "pair", target, perturb(target))
    file = folder / "heads" / "slm" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    pair = load_pair(str(folder), "cpu", "float32", "off")
    for drafter in ("slm", "slm-alone"):
        with pytest.raises(InputError, match=why):
            Runner(pair, PROMPT, Settings(drafter))
    shutil.rmtree(folder / "heads")
    assert {"slm", "slm-alone"} <= pair.lacks().keys()
    with pytest.raises(InputError, match="or train one with stairs train slm"):
        Runner(pair, PROMPT, Settings("slm-alone"))
