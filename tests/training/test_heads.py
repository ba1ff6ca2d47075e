"""``stairs train head`` on a tiny target and some made-up text: seconds on one core."""

from __future__ import annotations

import argparse
import json
import shutil
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import WORDS, make_model

from stairs_core.decoding import draft_lengths, samplers
from stairs_core.drafters import DrafterInputs, build
from stairs_core.errors import InputError
from stairs_core.models import heads
from stairs_core.models.ngram_tables import NGramTable, key
from stairs_core.training.heads import command, features, loop, ngrams
from stairs_core.training.heads.options import KINDS, add_arguments

DRAFTERS = tuple(kind for kind in KINDS if kind != "draft")
"""A draft is no drafter: it is what several of them ask."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    works = [f"{WORDS[0]} It was number {i}. {WORDS[1]}" for i in range(60)]
    (folder / "a.txt").write_text("\n<|endoftext|>\n".join(works), encoding="utf-8")
    return folder


def options(kind: str, target: Path, corpus: Path, folder: Path, **changes) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    words = ["--kind", kind, "--target", str(target), "--corpus", str(corpus), "--texts", "8"]
    words += ["--out", str(folder / kind), "--work", str(folder / "work"), "--tokens", "1024"]
    args = parser.parse_args([*words, "--length", "32", "--passes", "2", "--device", "cpu"])
    vars(args).update(changes)
    return args


def train(*args, **changes) -> dict:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return command.main(options(*args, **changes))


@pytest.mark.parametrize("kind", command.KINDS)
def test_a_run_that_was_stopped_gives_the_same_head(tiny_pair_dir, corpus, tmp_path, kind):
    target = tiny_pair_dir / "target"
    done = train(kind, target, corpus, tmp_path / "whole")
    assert done["log"][-1]["loss"] > 0
    part = tmp_path / "part"
    # The same texts: sampled anew, rounding may once in a thousand times choose another token.
    shutil.copytree(tmp_path / "whole/work", part / "work", ignore=shutil.ignore_patterns("*.pt"))
    train(kind, target, corpus, part, stop_after=5)
    assert not (part / kind).exists()
    assert [*part.glob(f"work/*/{kind}-*.pt")]
    train(kind, target, corpus, part)
    one, two = (load_file(tmp_path / n / kind / "model.safetensors") for n in ("whole", "part"))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name])


@pytest.mark.parametrize(
    "kind",
    [
        *("medusa", "eagle", "draft", "firp"),
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("chimera", "hidden-transfer")),
    ],
)
def test_a_gpu_computes_hidden_states_in_each_step(
    tiny_pair_dir, corpus, tmp_path, kind, monkeypatch
):
    target = tiny_pair_dir / "target"
    train(kind, target, corpus, tmp_path / "kept")
    monkeypatch.setattr(command.features, "are_kept", lambda model: False)
    monkeypatch.setattr(loop, "Batches", FileAfterFile)
    train(kind, target, corpus, tmp_path / "fresh")
    assert not [*tmp_path.glob("fresh/work/*/features-*")]
    one, two = (load_file(tmp_path / n / kind / "model.safetensors") for n in ("kept", "fresh"))
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-2, atol=1e-2)


class FileAfterFile(loop.Batches):
    """In the order in which hidden states that were kept are read."""

    def __init__(self, files, plan, states) -> None:
        super().__init__(files, plan)
        self._states = states


@pytest.mark.parametrize("kind", ["eagle", "draft", "hidden-transfer"])
def test_a_head_is_trained_further_until_its_time_is_over(
    tiny_pair_dir, corpus, tmp_path, kind, monkeypatch
):
    # As on a GPU: in bfloat16, hidden states computed in each step.
    monkeypatch.setattr(command, "remembered_bfloat16", lambda device, folder: True)
    monkeypatch.setattr(command.features, "are_kept", lambda model: False)
    target, further = tiny_pair_dir / "target", tmp_path / "further"
    train(kind, target, corpus, tmp_path)
    options = {"start": tmp_path / kind, "out": further, "passes": 1e6, "seconds": 0.01}
    assert train(kind, target, corpus, tmp_path, **options)["log"][-1]["step"] < 3
    one, two = (load_file(f / "model.safetensors") for f in (tmp_path / kind, further))
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=1e-2)
    assert any((one[name] != two[name]).any() for name in one)
    with pytest.raises(InputError, match="holds no .* head to go on from"):
        train(kind, target, corpus, tmp_path, start=tmp_path / "work")
    with pytest.raises(InputError, match="in other sizes"):
        train(kind, target, corpus, tmp_path, **options | {"vocabulary": 7, "heads": 2})


def test_more_guesses_in_a_row_than_the_texts_have_give_numbers(tiny_pair_dir, corpus, tmp_path):
    target = tiny_pair_dir / "target"
    train("eagle", target, corpus, tmp_path)
    for file in tmp_path.glob("work/*/texts-*"):
        short = load_file(file)
        short["lengths"].clamp_(max=10)
        save_file(short, file)
    log = train("eagle", target, corpus, tmp_path, unroll=20)["log"]
    assert all(value == value for row in log for value in row.values())
    assert {name for name in log[-1] if "right" in name} == {f"right{i}" for i in range(1, 9)}


@pytest.mark.parametrize("kind", [kind for kind in DRAFTERS if kind in command.KINDS])
def test_features_are_shared_and_the_head_is_found(tiny_pair_dir, corpus, tmp_path, kind):
    from stairs_core.models.load import load_pair

    place, work = tmp_path / "pair", tmp_path / "work"
    shutil.copytree(tiny_pair_dir, place)
    shutil.rmtree(place / "heads")
    train(kind, place / "target", corpus, place / "heads", work=work)
    features = sorted(work.glob("*/features-*"))
    times = [file.stat().st_mtime_ns for file in features]
    train(kind, place / "target", corpus, place / "heads", work=work, lr=1e-3)
    assert features
    assert times == [file.stat().st_mtime_ns for file in features]
    assert build(kind, inputs(load_pair(str(place), "cpu", "float32"))).reads_layers


def inputs(pair) -> DrafterInputs:
    sampler = samplers.Greedy(samplers.Processors())
    return DrafterInputs(pair, draft_lengths.build("constant", 3), sampler)


@pytest.mark.parametrize("kind", DRAFTERS)
def test_what_is_no_head_of_this_target_is_refused(tiny_pair, tiny_pair_dir, tmp_path, kind):
    from stairs_core.models.load import load_pair

    place = tmp_path / "pair"
    shutil.copytree(tiny_pair_dir, place)
    pair = load_pair(str(place), "cpu", "float32", "off")
    assert build(kind, inputs(pair)).name == kind
    head = place / "heads" / kind
    weights = head / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="cut off or damaged"):
        build(kind, inputs(pair))
    weights.rename(head / "pytorch_model.bin")
    with pytest.raises(InputError, match="pickled weights can run code"):
        build(kind, inputs(pair))
    config = json.loads((head / "config.json").read_text())
    for name, value, why in (
        ("target_layers", 9, "layers 9, not 4"),
        (heads.FINGERPRINT, "0" * 32, "other weights"),
    ):
        (head / "config.json").write_text(json.dumps(config | {name: value}))
        with pytest.raises(InputError, match=f"belongs to another target .*{why}"):
            build(kind, inputs(pair))
        assert kind in pair.lacks()
    (head / "config.json").write_text(
        json.dumps(config | {heads.FINGERPRINT: "0" * 32, "stairs_known": "a-name"})
    )
    with pytest.raises(InputError, match="other weights"):
        build(kind, inputs(pair))
    pair.target.config.stairs_known = "a-name"  # the same model from another place
    with pytest.raises(InputError, match="pickled weights can run code"):
        build(kind, inputs(pair))
    shutil.rmtree(head)
    other = replace(pair, target=make_model(layers=3, seed=9))
    with pytest.raises(InputError, match=f"No head was trained on .*, as {kind} needs"):
        build(kind, inputs(other))


def test_a_table_holds_what_followed_most_often(tmp_path):
    told = ([1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 5], [7, 2, 3, 9], [7, 2, 3, 9], [7, 2, 3, 9])
    ids = torch.tensor([[0, 0, 0, *row] for row in told] * 10, dtype=torch.int32)
    lengths, starts = torch.full((60,), 7), torch.full((60,), 4)
    file = tmp_path / "texts-00000.safetensors"
    save_file({"ids": ids, "lengths": lengths.int(), "starts": starts.int()}, file)
    tensors, tried = ngrams.count([file], most=100)
    table = NGramTable(*tensors.values(), ngrams.LONGEST)
    assert tensors["keys"].tolist() == sorted(tensors["keys"].tolist())

    def share(times: int, all_: int) -> float:
        return round(100 * (times - ngrams.DISCOUNT) / all_) / 100

    # Texts 0 and 50 are held back.
    assert table.after([2, 3]) == (9, share(30, 58))
    assert table.after([1, 2, 3]) == (4, share(19, 28))
    assert table.after([5, 7, 2, 3]) == (9, share(30, 30))
    assert table.after([8]) is None
    assert 0.5 <= tried["right"] <= tried["guesses"] <= 1
    fewer, _ = ngrams.count([file], most=2)
    assert len(fewer["keys"]) == 2


def test_a_table_is_what_counting_one_by_one_gives(tmp_path):
    spread = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 9, (200, 40), generator=spread, dtype=torch.int32)
    lengths = torch.randint(8, 41, (200,), generator=spread, dtype=torch.int32)
    file = tmp_path / "texts-00000.safetensors"
    save_file({"ids": ids, "lengths": lengths}, file)
    texts = [x.tolist() for i, x in enumerate(ngrams.answers([file])) if i % ngrams.HELD]
    shares: dict[tuple[int, ...], int] = {}
    for length in range(1, ngrams.LONGEST + 1):
        followed: dict[tuple[int, ...], Counter[int]] = {}
        for text in texts:
            for at in range(length, len(text)):
                ngram = tuple(text[at - length : at])
                followed.setdefault(ngram, Counter())[text[at]] += 1
        for ngram, after in followed.items():
            times = after.most_common(1)[0][1]
            share = round(100 * (times - ngrams.DISCOUNT) / after.total())
            if share > max((shares.get(ngram[i:], 0) for i in range(1, length)), default=0):
                shares[ngram] = share
    tensors, _ = ngrams.count([file], most=10**6)
    found = dict(zip(tensors["keys"].tolist(), tensors["shares"].tolist(), strict=True))
    assert found == {key(ngram): share for ngram, share in shares.items()}


def test_a_table_is_trained_found_and_guesses(tiny_pair_dir, corpus, tmp_path):
    from stairs_core.models.load import load_pair

    place = tmp_path / "pair"
    shutil.copytree(tiny_pair_dir, place)
    shutil.rmtree(place / "heads")
    options = {"work": tmp_path / "work", "ngrams": 50}
    told = train("ngram-table", place / "target", corpus, place / "heads", **options)
    assert 0 < told["ngrams"] <= 50
    assert not [*tmp_path.glob("work/*/features-*")]
    drafter = build("ngram-table", inputs(load_pair(str(place), "cpu", "float32")))
    written = load_file(next(tmp_path.glob("work/*/texts-*")))["ids"]
    assert any(drafter.propose(row[:20].tolist(), 3).tokens for row in written)


def test_texts_of_a_chat_model_answer_prompts(tiny_pair_dir, tmp_path):
    from stairs_core.models.load import load_tokenizer

    target = tmp_path / "target"
    shutil.copytree(tiny_pair_dir / "target", target)
    tokenizer = load_tokenizer(str(target))
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(target)
    often = {"eos_token_id": [*range(0, 500, 16)]}  # so that prompts of its own end
    (target / "generation_config.json").write_text(json.dumps(often))
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(WORDS))
    asked = {"prompts": prompts, "length": 256, "tokens": 4096}
    told = train("medusa", target, tmp_path, tmp_path, **asked)
    assert told["log"]
    before = tokenizer.encode("User: ", add_special_tokens=False)
    found = load_file(next(tmp_path.glob("work/*/texts-00000*")))
    for row, start, length in zip(found["ids"], found["starts"], found["lengths"], strict=True):
        assert row[: len(before)].tolist() == before
        assert tokenizer.decode(row[:start]).endswith("Assistant:")
        assert start < length <= 256
    prompts.write_text(" \n")
    with pytest.raises(InputError, match="holds no prompt"):
        train("medusa", target, tmp_path, tmp_path, **asked)
    prompts.write_text("one")
    with pytest.raises(InputError, match="has no chat template: give --corpus"):
        train("medusa", tiny_pair_dir / "target", tmp_path, tmp_path / "x", **asked)


TEMPLATE = (
    "{% for m in messages %}User: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


def test_bad_input_is_refused_before_anything_is_written(tiny_pair_dir, corpus, tmp_path):
    target = tiny_pair_dir / "target"
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="No text was found"):
        train("medusa", target, empty, tmp_path)
    with pytest.raises(InputError, match="number of heads is 0, but must be from 1"):
        train("firp", target, corpus, tmp_path, heads=0)
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else than a head"):
        train("medusa", target, corpus, tmp_path, out=other)
    assert [p.name for p in other.iterdir()] == ["notes.txt"]
    assert not (tmp_path / "work").exists()


def test_a_full_disk_is_said_before_anything_is_computed(
    tiny_pair_dir, corpus, tmp_path, monkeypatch
):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=r"hidden states take .* GB left"):
        train("medusa", tiny_pair_dir / "target", corpus, tmp_path)
    assert not [*tmp_path.glob("work/*/texts-*")]


def test_texts_of_all_files_share_a_step_where_nothing_is_kept(tmp_path):
    """Each is read once in a pass, beside those of its length."""
    generator = torch.Generator().manual_seed(3)
    for number in range(4):
        lengths = torch.randint(3, 12, (20,), generator=generator)
        ids = (20 * number + torch.arange(20))[:, None].repeat(1, 12)
        path = tmp_path / f"texts-{number}.safetensors"
        save_file({"ids": ids.int(), "lengths": lengths.int()}, path)
        save_file({"hidden": ids[:, :, None, None].half()}, features.place(path))
    files = sorted(tmp_path.glob("texts-*"))
    plan = loop.Plan("", texts=4, passes=2)
    for states, shared in ((lambda ids: ids, True), (None, False)):
        batches = loop.Batches(files, plan, states)
        assert (batches.texts, batches.steps, batches.tokens) == (80, 40, 48)
        steps = [batches(step) for step in range(batches.steps)]
        for start in (0, 20):
            read = torch.cat([b["ids"][:, 0] for b in steps[start : start + 20]])
            assert sorted(read.tolist()) == [*range(80)]
        assert [b["ids"][:, 0].tolist() for b in steps[:20]] != [
            b["ids"][:, 0].tolist() for b in steps[20:]
        ]
        assert all(b["ids"].shape[1] == b["lengths"].max() for b in steps)
        mixed = [len({*(b["ids"][:, 0] // 20).tolist()}) > 1 for b in steps]
        assert sum(mixed) > 30 if shared else not any(mixed)
        spread = [int(b["lengths"].max() - b["lengths"].min()) for b in steps]
        assert max(spread) <= (2 if shared else 6)
        assert all(("hidden" in b) != shared for b in steps)


def test_checkpoints_come_once_a_minute():
    assert loop.SAVE_SECONDS < 60
