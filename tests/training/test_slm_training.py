"""``stairs train slm`` on tiny models and some made-up text: seconds on one core."""

from __future__ import annotations

import argparse
import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import WORDS, make_model, make_pieces, make_tokenizer, perturb, save_pair
from transformers import AutoModelForCausalLM, T5Config, T5ForConditionalGeneration

from stairs_core.errors import InputError
from stairs_core.measuring.runner import Runner
from stairs_core.models import slm
from stairs_core.models.load import BUNDLED, load_pair
from stairs_core.settings.settings import Settings
from stairs_core.training.slm import command, examples, module
from stairs_core.training.slm.batches import IGNORE, Ahead, Aligned, Batches
from stairs_core.training.slm.examples import Corpus, Example
from stairs_core.training.slm.options import add_arguments


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    works = [f"{WORDS[0]} It was number {i}. {WORDS[1]}" for i in range(60)]
    (folder / "a.txt").write_text("\n<|endoftext|>\n".join(works), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A pair without a small model of this kind."""
    target = make_model(layers=4)
    folder = save_pair(tmp_path_factory.mktemp("pair"), target, perturb(make_model(layers=1)))
    shutil.rmtree(folder / "heads")
    return folder


def train(place: Path, corpus: Path, out: Path, *more: str, **changes) -> dict:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    words = [
        "--llm",
        str(place / "target"),
        "--slm",
        str(place / "draft"),
        "--out",
        str(out / "slm"),
    ]
    words += ["--work", str(out / "work"), "--corpus", str(corpus), "--tokens", "1024"]
    words += ["--length", "32", "--texts", "4", "--steps", "8", "--sweep", "2", "--inner", "16"]
    args = parser.parse_args([*words, "--conditions", "0", "--device", "cpu", *more])
    vars(args).update(changes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return command.main(args)


def test_a_run_that_was_stopped_gives_the_same_model(place, corpus, tmp_path):
    done = train(place, corpus, tmp_path / "whole", "--responses", "both")
    assert done["layer"] in (1, 2, 3, 4)
    assert done["sweep"].keys() == {"1", "2", "3", "4"}
    part = tmp_path / "part"
    train(place, corpus, part, "--responses", "both", stop_after=3)
    assert not (part / "slm").exists()
    responses = [file.stat().st_mtime_ns for file in sorted(part.glob("work/*/*.jsonl"))]
    again = train(place, corpus, part, "--responses", "both")
    assert responses == [f.stat().st_mtime_ns for f in sorted(part.glob("work/*/*.jsonl"))]
    assert again["layer"] == done["layer"]
    one, two = (load_file(tmp_path / n / "slm" / "model.safetensors") for n in ("whole", "part"))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name])


def test_it_learns_to_read_what_only_the_llm_sees(place, tmp_path):
    """The prompt's own embeddings are taken away, so all that the SLM knows of it came through the
    projector."""
    llm, slm = (AutoModelForCausalLM.from_pretrained(place / n) for n in ("target", "draft"))
    torch.manual_seed(1)
    trained = module.LlmToSlm(slm, 32, 32, "replace")
    loss = module.loss_of(trained, llm, 2, torch.float32)
    examples = [Example("aab", " fox", True), Example("bba", " key", True)]
    batch = Aligned(make_tokenizer(), make_tokenizer(), [0]).batch(examples, 16)
    optimizer = torch.optim.Adam(trained.projector.parameters(), 1e-2)
    values = []
    for _ in range(60):
        value, _ = loss(batch)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.5 * values[0]


def test_the_result_runs_as_a_drafter_and_alone(place, corpus, tmp_path):
    mine = tmp_path / "pair"
    shutil.copytree(place, mine)
    train(place, corpus, mine / "heads", "--responses", "corpus", "--layer", "2")
    config = json.loads((mine / "heads" / "slm" / "config.json").read_text())
    assert (config["layer"], config["inject"]) == (2, "add")
    pair = load_pair(str(mine), "cpu", "float32")
    texts = {}
    for drafter in ("none", "slm", "slm-alone"):
        runner = Runner(pair, WORDS[0], Settings(drafter, max_new_tokens=16))
        assert list(runner.decode())
        texts[drafter] = runner.recording().new_ids
    assert texts["slm"] == texts["none"]


def test_the_slm_alone_is_written_as_a_model(place, corpus, tmp_path):
    train(place, corpus, tmp_path, "--responses", "corpus", "--inject", "none")
    pair = load_pair(str(tmp_path / "slm"), "cpu", "float32")
    assert len(list(Runner(pair, "The fox", Settings("none", max_new_tokens=4)).decode())) == 4


def test_another_tokenizer_is_aligned_and_kept(place, corpus, tmp_path):
    mine = tmp_path / "pair"
    shutil.copytree(place, mine)
    pieces = make_pieces()
    small = make_model(layers=1, vocab_size=400)
    small.config.eos_token_id = small.generation_config.eos_token_id = 2
    small.save_pretrained(tmp_path / "small")
    pieces.save_pretrained(tmp_path / "small")
    train(place, corpus, mine / "heads", "--slm", str(tmp_path / "small"), "--responses", "corpus")
    pair = load_pair(str(mine), "cpu", "float32")
    texts = {}
    for drafter in ("none", "slm", "slm-alone"):
        runner = Runner(pair, WORDS[1], Settings(drafter, max_new_tokens=12))
        steps = list(runner.decode())
        texts[drafter] = runner.recording().new_ids
        assert drafter != "slm" or any(step.drafted for step in steps)
    assert texts["slm"] == texts["none"]


def test_an_encoder_decoder_llm_gives_its_encoders_output(place, corpus, tmp_path):
    torch.manual_seed(0)
    sizes = {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_kv": 8, "d_ff": 16}
    config = T5Config(vocab_size=320, decoder_start_token_id=0, eos_token_id=0, **sizes)
    llm = T5ForConditionalGeneration(config).eval()
    ids = torch.tensor([[5, 6, 7, 0]])
    found = module.features_of(llm, ids, (ids > 0).long(), 0)
    expected = llm.get_encoder()(input_ids=ids[:, :3]).last_hidden_state
    assert module.layers_of(llm) == (0,)
    torch.testing.assert_close(found[:, :3], expected)
    mine = tmp_path / "pair" / "target"
    llm.save_pretrained(mine)
    make_tokenizer().save_pretrained(mine)
    with pytest.raises(InputError, match="give --responses corpus"):
        train(place, corpus, mine / "heads", "--llm", str(mine))
    train(place, corpus, mine / "heads", "--llm", str(mine), "--responses", "corpus")
    pair = load_pair(str(tmp_path / "pair"), "cpu", "float32", "off")
    alone = Runner(pair, "The fox", Settings("slm-alone", max_new_tokens=6))
    assert len(list(alone.decode())) == 6
    assert alone.run.lossy
    assert {"slm"} == {"slm", "slm-alone"} & pair.lacks().keys()
    with pytest.raises(InputError, match="no small model can guess for it: use --drafter lookup"):
        Runner(pair, "The fox", Settings("slm"))


def test_labels_are_on_responses_alone(place):
    tokenizer = make_tokenizer()
    aligned = Aligned(tokenizer, tokenizer, [0])
    batch = aligned.batch([Example("The fox", " ran", True), Example("A key", "", False)], 32)
    first = batch["labels"][0]
    assert tokenizer.decode(first[first != IGNORE]) == " ran<|endoftext|>"
    assert (first == batch["ids"][0])[first != IGNORE].all()
    size = len(tokenizer.encode("The fox"))
    assert (first[:size] == IGNORE).all()
    assert batch["inside"].sum(1).tolist() == [size, len(tokenizer.encode("A key"))]
    torch.testing.assert_close(batch["pool"][0, :size, :size], torch.eye(size))


def test_a_step_always_has_the_same_examples():
    works = [f"{WORDS[0]} It was number {i}." for i in range(20)]
    tokenizer = make_tokenizer()
    aligned = Aligned(tokenizer, tokenizer, [0])
    one, two = (
        Batches(aligned, Corpus(works, 0.0, 1), [Example("a", " b", True)], 4, 32, 9, 1)
        for _ in "ab"
    )
    forwards = [one(step)["ids"] for step in range(9)]
    for step in reversed(range(9)):
        assert torch.equal(forwards[step], two(step)["ids"])


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--layer", "9"], "no layer 9 of this LLM: give a number from 1 to 4"),
        (["--steps", "0"], "steps is 0, but must be 1 or more"),
        (["--conditions", "2"], "is a share: give 0 to 1"),
        (["--lr", "0"], "must lie between 0 and 1"),
        (["--stress", "0"], "stress is 0.0, but is a weight"),
        (["--seconds", "0"], "seconds is 0.0, but must be above 0"),
        (["--seed", str(2**63)], "at most 18 digits"),
        (["--own", "-1"], "own is -1, but must be 0 or more"),
        (["--corpus", "/nowhere"], "There is no corpus folder"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(place, corpus, tmp_path, more, why):
    with pytest.raises(InputError, match=why):
        train(place, corpus, tmp_path, *more)
    assert not [*tmp_path.iterdir()]


def test_another_folder_and_a_full_disk_are_left_alone(place, corpus, tmp_path, monkeypatch):
    (tmp_path / "slm").mkdir()
    (tmp_path / "slm" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else than a head"):
        train(place, corpus, tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(InputError, match=r"Checkpoints take .* GB left"):
        train(place, corpus, tmp_path / "other")
    assert not [*tmp_path.glob("other/work/*/*")]


def test_what_was_not_trained_is_the_bundled_pairs(place, corpus, tmp_path):
    """The file holds the attention and the projector; the rest is read from the bundled pair, if
    that is still the one that was trained from."""
    mine = tmp_path / "pair"
    shutil.copytree(place, mine)
    part = ["--slm", "bundled", "--part", "attention", "--responses", "corpus", "--layer", "2"]
    train(place, corpus, mine / "heads", *part)
    kept = load_file(mine / "heads" / "slm" / "model.safetensors")
    assert all("self_attn" in n or "projector" in n or t.dim() == 1 for n, t in kept.items())
    start = AutoModelForCausalLM.from_pretrained(BUNDLED / "draft", dtype=torch.float32)
    pair = load_pair(str(mine), "cpu", "float32", "off")
    small = slm.of(pair).model.state_dict()
    for name, before in start.state_dict().items():
        assert torch.equal(small[name], before) == (f"slm.{name}" not in kept), name
    runner = Runner(pair, WORDS[0], Settings("slm-alone", max_new_tokens=4))
    assert len(list(runner.decode())) == 4
    config = mine / "heads" / "slm" / "config.json"
    facts = json.loads(config.read_text())
    config.write_text(json.dumps(facts | {"slm_from": ["draft", "another"]}))
    with pytest.raises(InputError, match="another draft than the bundled one"):
        Runner(load_pair(str(mine), "cpu", "float32", "off"), WORDS[0], Settings("slm-alone"))
    config.write_text(json.dumps(facts | {"slm_from": "../.."}))
    with pytest.raises(InputError, match="says slm_from"):
        Runner(load_pair(str(mine), "cpu", "float32", "off"), WORDS[0], Settings("slm-alone"))


def test_its_own_texts_are_kept_and_take_the_corpus_place(place, corpus, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(place / "draft")
    tokenizer, prompts = make_tokenizer(), Corpus([f"{WORDS[0]} {WORDS[1]}"] * 9, 0.0, 1)
    asked = (model, tokenizer, prompts, 40, 48, 1, tmp_path)
    assert (works := examples.write_works(*asked))
    times = [file.stat().st_mtime_ns for file in sorted(tmp_path.glob("own-*"))]
    assert examples.write_works(*asked) == works
    assert times == [file.stat().st_mtime_ns for file in sorted(tmp_path.glob("own-*"))]
    prompts.replace(["One two three four five six seven eight nine ten eleven twelve thirteen."])
    assert {prompts.example(0, draw).prompt[:3] for draw in range(9)} == {"One"}


def test_words_that_are_asked_for_weigh_more(place):
    tokenizer = make_tokenizer()
    prompt, story = "Words: fox, key, old\nStory:", " The old Fox saw a fox and a keyhole."
    aligned = Aligned(tokenizer, tokenizer, [0], 5.0)
    batch = aligned.batch([Example(prompt, story, True)], 96)
    ids, weights = batch["ids"][0], batch["weights"][0]
    assert tokenizer.decode(ids[weights == 5]).replace(" ", "") == "oldFox"
    assert torch.equal(weights != 0, batch["labels"][0] != IGNORE)
    plain = Aligned(tokenizer, tokenizer, [0]).batch([Example(prompt, story, True)], 96)
    assert set(plain["weights"].flatten().tolist()) == {0.0, 1.0}
    llm, small = (AutoModelForCausalLM.from_pretrained(place / n) for n in ("target", "draft"))
    loss = module.loss_of(module.LlmToSlm(small, 32, 8, "add"), llm, 2, torch.float32)
    value, shown = loss(batch)
    sums = (weights == 1).sum(), 5 * (weights == 5).sum()
    mean = (sums[0] * shown["others"] + sums[1] * shown["words"]) / sum(sums)
    torch.testing.assert_close(value.detach(), mean)


def test_words_are_asked_for_where_a_response_is_cut():
    works = [f"apple tree house river zebra lion mouse {i}" for i in range(3)]
    cut, whole = (Corpus(works, 1.0, 1, *chars) for chars in ([24], []))
    prompts = [[c.example(i % 3, i).prompt for i in range(20)] for c in (cut, whole)]
    assert "zebra" not in " ".join(prompts[0])
    assert "zebra" in " ".join(prompts[1])


def test_time_ends_training(place, corpus, tmp_path):
    done = train(
        place, corpus, tmp_path, "--responses", "corpus", "--layer", "2", steps=10**6, seconds=1.5
    )
    assert 0 < done["log"][-1]["step"] < 10**6
    assert (tmp_path / "slm" / "model.safetensors").is_file()


def test_batches_made_ahead_are_the_same():
    tokenizer = make_tokenizer()
    aligned, works = Aligned(tokenizer, tokenizer, [0]), Corpus([WORDS[0]] * 5, 0.0, 1)
    batches = Batches(aligned, works, [], 2, 32, 6, 1)
    ahead = Ahead(batches, 2)
    for step in (2, 3, 4, 0, 1):
        found = ahead(step)
        for name, tensor in batches(step).items():
            assert torch.equal(found[name], tensor)
