"""``stairs train`` on a few kilobytes of made-up text: seconds on one core."""

from __future__ import annotations

import argparse
import json
import lzma
import random
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from stairs_core.errors import InputError
from stairs_core.training.build import build
from stairs_core.training.command import add_arguments, main
from stairs_core.training.conditions import Conditions
from stairs_core.training.corpus import END, clean, is_held_out, read_corpus
from stairs_core.training.evaluate import replay
from stairs_core.training.prompts import read_prompts
from stairs_core.training.recipes import RECIPES, SPACE_K
from stairs_core.training.space.objective import IGNORE, add_mask_groups, draw_anchors
from stairs_core.training.stream import END_ID, MASK_ID, TokenStream, encode_works


def stories(count: int = 400) -> list[str]:
    """Made-up stories, all different, so that about a dozen are held out."""
    rng = random.Random(5)
    words = [f"{a}{b}{c}o" for a in "bdfklmnprt" for b in "aeiu" for c in "bdkls"]
    pick = [rng.sample(words, 3) for _ in range(count)]
    return [
        f"A {a} went up the hill.\nThere it saw a {b} and a {c}, number {i}. It was glad."
        for i, (a, b, c) in enumerate(pick)
    ]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    works = stories()
    (folder / "a.txt").write_text(f"\n{END}\n".join(works[:200]))
    (folder / "b.txt.xz").write_bytes(lzma.compress(f"\n{END}\n".join(works[200:]).encode()))
    return folder


def options(text: Path, folder: Path, **changes: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args(
        [
            "--corpus",
            str(text),
            "--out",
            str(folder / "pair"),
            "--work",
            str(folder / "work"),
            "--recipe",
            "tiny",
            "--device",
            "cpu",
            "--dtype",
            "float32",
        ]
    )
    vars(args).update(changes)
    return args


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("trained")
    return folder, main(options(corpus, folder))


def test_cleaning_gives_ascii_and_mends_mojibake() -> None:
    assert clean("\u201cDon\u2019t\u201d \u2014 he said\u2026\r\n\r\nCaf\u00e9") == (
        '"Don\'t" -- he said...\nCafe'
    )
    broken = "It\u2019s \u201cfine\u201d".encode().decode("cp1252", errors="ignore")
    assert clean(broken).startswith("It's \"fine")


def test_held_out_works_never_reach_training(corpus: Path) -> None:
    read = read_corpus(corpus)
    train = {w for works in read.train.values() for w in works}
    held = {w for works in read.held.values() for w in works}
    assert train.isdisjoint(held)
    assert train | held == set(stories())
    assert 3 <= len(held) <= 30
    assert all(is_held_out(w) for w in held)


def test_stream_is_a_function_of_the_position(corpus: Path, trained: tuple[Path, dict]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(trained[0] / "pair" / "target", local_files_only=True)
    read = read_corpus(corpus)
    conditions = Conditions(w for works in read.train.values() for w in works)
    make = [TokenStream(read, tokenizer, conditions, RECIPES["tiny"].phases, 1) for _ in range(2)]
    far = make[0].read(0, 20_000, 3000)
    assert (make[0].read(0, 0, 40_000)[20_000:23_000] == far).all()
    assert (make[1].read(0, 20_000, 3000) == far).all()
    held = [w for works in read.held.values() for w in works]
    drawn = make[0].draw(0, 0)
    assert not any(work in text for work in held for text in drawn)
    share = sum(text.startswith("Words: ") for text in drawn) / len(drawn)
    assert 0.25 < share < 0.55
    for text in drawn:
        if text.startswith("Words: "):
            head, story = text.split("\nStory: ", 1)
            assert all(f" {word}" in story for word in head.removeprefix("Words: ").split(", "))


def test_tokenizer_has_the_specials_and_round_trips_bytes(trained: tuple[Path, dict]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(trained[0] / "pair" / "draft", local_files_only=True)
    assert len(tokenizer) == RECIPES["tiny"].vocab
    assert tokenizer.convert_tokens_to_ids([END, "<|mask|>"]) == [END_ID, MASK_ID] == [0, 1]
    text = "Fox\n\t na\u00efve \u2603 \U0001f98a  two  spaces \x00\x7f"
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == END_ID
    assert tokenizer.decode(ids[1:]) == text


def test_mask_groups_leave_the_text_alone_and_ask_for_what_follows() -> None:
    model = build(RECIPES["tiny"].target, RECIPES["tiny"], seed=3).eval()
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(2, 300, (2, 33), generator=generator)
    ids[1, 20] = END_ID
    rows, labels = ids[:, :-1], ids[:, 1:]
    anchors = torch.tensor([[4, 26], [9, 18]])
    batch = add_mask_groups(rows, labels, anchors)
    wanted = batch.pop("labels")
    with torch.no_grad():
        plain = model(input_ids=rows).logits
        both = model(**batch).logits
    torch.testing.assert_close(both[:, :32], plain, rtol=1e-5, atol=1e-6)
    slots = SPACE_K + 1
    for row, group in ((0, 0), (0, 1), (1, 0)):
        s = int(anchors[row, group])
        at = 32 + group * slots
        assert wanted[row, at : at + slots].tolist() == ids[row, s + 1 : s + 1 + slots].tolist()
        # A group reads as its own short sequence: the text before s, then the masks.
        alone = torch.cat([rows[row, :s], torch.full((slots,), MASK_ID)])[None]
        with torch.no_grad():
            expected = model(input_ids=alone).logits[0, s:]
        torch.testing.assert_close(both[row, at : at + slots], expected, rtol=1e-5, atol=1e-6)
    # Nothing after a story's end can be asked for: token 20 ends it, 21 begins another.
    assert wanted[1, 38:44].tolist() == [int(ids[1, 19]), END_ID, *[IGNORE] * 4]


def test_anchors_keep_their_group_inside_the_row() -> None:
    anchors = draw_anchors(64, 32, torch.Generator().manual_seed(0))
    assert anchors.shape == (64, 2)
    assert anchors.min() >= 1
    assert anchors.max() <= 32 - 1 - SPACE_K


def test_resumed_training_equals_training_in_one_go(corpus: Path, tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    for folder in (whole, halves):
        main(options(corpus, folder, stage="tokenizer"))
    main(options(corpus, whole, stage="target"))
    main(options(corpus, halves, stage="target", stop_after=7))
    main(options(corpus, halves, stage="target"))
    states = [torch.load(f / "work" / "target.pt", weights_only=True) for f in (whole, halves)]
    assert states[0]["step"] == states[1]["step"] == 16
    for name, weight in states[0]["model"].items():
        assert torch.equal(weight, states[1]["model"][name]), name


def test_all_stages_give_a_loadable_pair(trained: tuple[Path, dict]) -> None:
    folder, metrics = trained
    pair = folder / "pair"
    tokenizer = AutoTokenizer.from_pretrained(pair / "target", local_files_only=True)
    for name in ("target", "draft"):
        model = AutoModelForCausalLM.from_pretrained(pair / name, local_files_only=True)
        assert model.dtype == torch.float16
        assert model.config.eos_token_id == model.config.bos_token_id == END_ID
        files = [p for p in (pair / name).iterdir() if "safetensors" in p.name]
        assert files
        assert all(p.stat().st_size <= 15_000_000 for p in files)
    prompts = read_prompts(folder / "prompts" / "heldout.txt")
    assert prompts[0].startswith("Words: ")
    assert prompts[0].endswith("\nStory:")
    assert encode_works(tokenizer, prompts)[0][0] == END_ID
    card = (pair / "README.md").read_text()
    assert f"{metrics['measured']['validation']['main']['target']:.3f}" in card
    assert json.loads((pair / "metrics.json").read_text())["recipe"] == "tiny"
    first, last = metrics["target_log"][0], metrics["target_log"][-1]
    assert last["validation"] <= first["validation"] < 6.0


def test_replay_counts_as_the_loop_does() -> None:
    # Five drafted and kept with a bonus token (never asked for), then a miss at the second token.
    assert replay([True] * 5 + [False] + [True, False], 5) == (10, 7, 6, 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"corpus": Path("no/such/folder")}, "--corpus"),
        ({"recipe": "huge"}, "cpu, full, tiny"),
        ({"stage": "target"}, "--stage tokenizer"),
        ({"stage": "export"}, "--stage"),
        ({"target_tokens": 0}, "--target-tokens is 0"),
        ({"distill_tokens": -5}, "--distill-tokens is -5"),
        ({"out": Path(__file__)}, "is no folder: name another as --out"),
        ({"seed": 2**63}, "at most 18 digits"),
    ],
)
def test_bad_input_names_the_fix(corpus: Path, tmp_path: Path, changes: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        main(options(corpus, tmp_path, **changes))


def test_an_empty_corpus_and_a_foreign_checkpoint_are_refused(
    corpus: Path, trained: tuple[Path, dict], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="No text"):
        main(options(tmp_path, tmp_path / "x"))
    with pytest.raises(ValueError, match="another recipe"):
        main(options(corpus, trained[0], stage="target", seed=9))


def test_a_target_is_trained_on_from_a_pair(
    corpus: Path, trained: tuple[Path, dict], tmp_path: Path
) -> None:
    pair, first = trained[0] / "pair", trained[1]
    metrics = main(options(corpus, tmp_path, target_from=pair, target_tokens=2048))
    assert metrics["target_runs"] == [first["target_tokens"], 2048]
    assert metrics["target_tokens"] == first["target_tokens"] + 2048
    assert metrics["target_log"][: len(first["target_log"])] == first["target_log"]
    assert metrics["target_log"][-1]["tokens"] == metrics["target_tokens"]
    assert metrics["target_log"][-1]["validation"] < first["target_log"][-1]["validation"]
    card = (tmp_path / "pair" / "README.md").read_text()
    assert "--target-from pair-1" in card
    assert "trained in 2 runs" in " ".join(card.split())


@pytest.mark.parametrize("what", ["nothing", "another shape"])
def test_a_pair_that_cannot_be_gone_on_with_is_refused(
    corpus: Path, trained: tuple[Path, dict], tmp_path: Path, what: str
) -> None:
    pair = tmp_path / "elsewhere"
    if what == "another shape":
        shutil.copytree(trained[0] / "pair", pair)
        shutil.rmtree(pair / "target")
        shutil.copytree(trained[0] / "pair" / "draft", pair / "target")
    with pytest.raises(InputError, match="cannot be gone on with"):
        main(options(corpus, tmp_path, target_from=pair))
