"""``stairs train space`` on a tiny target and some made-up text: seconds on one core."""

from __future__ import annotations

import argparse
import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import WORDS, make_model, make_tokenizer

from stairs_core.cli import main as cli
from stairs_core.errors import InputError
from stairs_core.measuring.runner import Runner
from stairs_core.models.load import load_pair
from stairs_core.settings.settings import Settings
from stairs_core.training.space import command, rows
from stairs_core.training.space.objective import IGNORE, add_mask_groups, end_in_masks
from stairs_core.training.space.options import LAYOUTS, add_arguments


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    works = [f"{WORDS[0]} It was «number {i}». {WORDS[1]}" for i in range(200)]
    (folder / "a.txt").write_text("\n<|endoftext|>\n".join(works), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def target(tmp_path_factory) -> Path:
    """A folder with a model that knows no masks."""
    folder = tmp_path_factory.mktemp("target") / "plain"
    make_model(stairs_space=None).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def words(target: Path, corpus: Path, folder: Path) -> list[str]:
    given = ["--target", str(target), "--corpus", str(corpus), "--out", str(folder / "out")]
    given += ["--work", str(folder / "work"), "--k", "3", "--length", "32", "--tokens", "2560"]
    return [*given, "--lr", "0.01", "--device", "cpu", "--dtype", "float32"]


def options(target: Path, corpus: Path, folder: Path, **changes) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args(words(target, corpus, folder))
    vars(args).update(changes)
    return args


def train(*args, **changes) -> dict:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return command.main(options(*args, **changes))


def test_both_layouts_ask_for_the_same():
    model = make_model(seed=3)
    ids = torch.randint(2, 320, (2, 33), generator=torch.Generator().manual_seed(1))
    ids[1, 20] = 0
    text, labels, anchors = ids[:, :-1], ids[:, 1:], torch.tensor([[9], [18]])
    facts = (text, labels, anchors, 4, 1, (0,))
    with torch.no_grad():
        one, two = end_in_masks(*facts), add_mask_groups(*facts)
        plain, added = (
            model(**{n: t for n, t in batch.items() if n != "labels"}).logits
            for batch in (one, two)
        )
    for row, s in enumerate(anchors[:, 0].tolist()):
        torch.testing.assert_close(plain[row, s : s + 5], added[row, 32:], rtol=1e-5, atol=1e-5)
        assert one["labels"][row, s : s + 5].tolist() == two["labels"][row, 32:].tolist()
        assert one["labels"][row, :s].tolist() == labels[row, :s].tolist()
        assert set(one["labels"][row, s + 5 :].tolist()) == {IGNORE}
    assert one["labels"][1, 18:22].tolist() == [int(ids[1, 19]), 0, IGNORE, IGNORE]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_run_that_was_stopped_gives_the_same_model_bit_for_bit(target, corpus, tmp_path, layout):
    whole, part = tmp_path / "whole", tmp_path / "part"
    done = train(target, corpus, whole, layout=layout)
    assert done["tokens"] == 2560
    assert {"loss", "held", "mask1", "mask3"} <= done["log"][-1].keys()
    train(target, corpus, part, layout=layout, stop_after=4)
    assert not (part / "out").exists()
    train(target, corpus, part, layout=layout, rows_at_once=None)
    one, two = (load_file(folder / "out" / "model.safetensors") for folder in (whole, part))
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name
    name = "model.embed_tokens.weight"
    assert not torch.equal(one[name][:320], load_file(target / "model.safetensors")[name])


def test_masks_are_learned_and_the_run_says_that_it_is_tuned(target, corpus, tmp_path):
    changes = {"tokens": 8 * 32 * 70, "layout": "efficient", "mask_prob": 1.0}
    done = train(target, corpus, tmp_path, **changes)
    assert done["log"][-1]["mask1"] > 0.3 > 0.1 > done["before"]["mask1"]  # by chance: 1 in 320
    assert done["log"][-1]["held"] < done["before"]["held"]
    assert done["mask_token_id"] == 320
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["stairs_space"] == {"k": 3, "mask_token_id": 320}
    assert (config["stairs_tuned"]["from"], config["vocab_size"]) == ("plain", 321)
    pair = load_pair(str(tmp_path / "out"), "cpu", "float32", "off")
    assert pair.tokenizer.mask_token == "<|mask|>"
    settings = Settings(drafter="space", k=3, max_new_tokens=32)
    runner = Runner(pair, "Once upon a time", settings)
    plain = runner.alone()
    for one in (runner, plain):
        assert [*one.decode()]
        assert one.run.exactness == "exact to the tuned model"
    assert runner.recording().new_ids == plain.recording().new_ids
    assert len(runner.steps) < len(plain.steps)


def test_the_bundled_target_and_any_other_keep_their_label(tiny_pair):
    runner = Runner(tiny_pair, "a", Settings(drafter="space", k=2))
    assert runner.run.exactness == "token-exact"


@pytest.mark.parametrize(("size", "mask", "expected"), [(328, None, 320), (320, "river", None)])
def test_a_mask_takes_a_row_that_there_is(tmp_path, size, mask, expected):
    model, tokenizer = make_model(vocab_size=size, stairs_space=None), make_tokenizer()
    token = mask and next(t for t in tokenizer.get_vocab() if "river" in t or "fox" in t)
    found = command._mask_id(model, tokenizer, token)
    assert found == (expected or tokenizer.get_vocab()[token])
    assert len(model.get_input_embeddings().weight) == model.config.vocab_size == size


def test_texts_keep_their_characters_and_are_apart():
    tokenizer = make_tokenizer()
    ids = rows.encoded(tokenizer, ["Ačiū.", "fox"], 0, 30, seed=1).tolist()
    texts = tokenizer.decode(ids).split("<|endoftext|>")
    assert {"Ačiū.", "fox"} <= set(texts)
    with pytest.raises(InputError, match="no text that the tokenizer can read"):
        rows.encoded(tokenizer, [""], None, 3, seed=1)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["--k", "0"], "A group needs a mask at least"),
        (["--length", "4"], "no room for 4 masks"),
        (["--mask-prob", "0"], "share of rows with masks is 0"),
        (["--rows-at-once", "0"], "have a row at least"),
        (["--tokens", "9"], "A step reads 256 tokens, and 9 were asked for"),
        (["--lr", "nan"], "learning rate is nan"),
        (["--seed", str(-(2**63))], "at most 18 digits"),
        (["--length", "300", "--tokens", "9000"], "longer than .* reads, which is 256"),
        (["--mask-token", "<|nothing|>"], "no token '<|nothing|>'"),
        (["--corpus", "EMPTY"], "No text was found"),
        (["--device", "cuda"], "no 'cuda' device"),
        (["--target", "no/such/folder"], "no folder no/such/folder"),
    ],
)
def test_bad_input_is_one_sentence_and_changes_nothing(
    target, corpus, tmp_path, capsys, given, why
):
    import re

    if given[1] == "EMPTY":
        given = ["--corpus", str(tmp_path)]
    before = tmp_path / "out"
    before.mkdir()
    assert cli.main(["train", "space", *words(target, corpus, tmp_path), *given]) == 2
    out, err = capsys.readouterr()
    assert re.search(why, err.replace("|", "")) or why in err
    assert (out, err.count("\n")) == ("", 1)
    assert not [*before.iterdir()]
    assert not (tmp_path / "work").exists()


def test_a_folder_that_holds_something_else_stays(target, corpus, tmp_path, capsys):
    other = tmp_path / "out"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    assert cli.main(["train", "space", *words(target, corpus, tmp_path)]) == 2
    assert "holds something else than a tuned model" in capsys.readouterr().err
    assert [p.name for p in other.iterdir()] == ["notes.txt"]
    with pytest.raises(InputError, match="is the model to tune itself"):
        train(target, corpus, tmp_path, out=target)


def test_damaged_and_pickled_targets_are_refused(target, corpus, tmp_path):
    place = tmp_path / "damaged"
    shutil.copytree(target, place)
    weights = place / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="cut off or damaged"):
        train(place, corpus, tmp_path)
    weights.rename(place / "pytorch_model.bin")
    with pytest.raises(InputError, match="pickled weights can run code"):
        train(place, corpus, tmp_path)
    assert not (tmp_path / "work").exists()


def test_a_full_disk_is_said_before_anything_is_computed(target, corpus, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=r"Checkpoints and the tuned model take .* GB left"):
        train(target, corpus, tmp_path)
    assert not (tmp_path / "work").exists()


def test_the_efficient_layout_needs_rows_that_are_seen_whole(corpus, tmp_path):
    from transformers import MistralConfig, MistralForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 320}
    config = MistralConfig(**sizes, num_attention_heads=2, num_key_value_heads=1, sliding_window=8)
    MistralForCausalLM(config).save_pretrained(tmp_path / "slides")
    make_tokenizer().save_pretrained(tmp_path / "slides")
    with pytest.raises(InputError, match="does not see whole rows of 32 tokens"):
        train(tmp_path / "slides", corpus, tmp_path, layout="efficient")
    assert train(tmp_path / "slides", corpus, tmp_path, tokens=512)["tokens"] == 512


def test_what_an_unfinished_write_left_is_replaced(target, corpus, tmp_path):
    for tokens in (512, 768):
        for name in (".out.partial", ".out.old"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "config.json").write_text("{}")
        train(target, corpus, tmp_path, tokens=tokens)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "work"]
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["stairs_tuned"]["tokens"] == 768
