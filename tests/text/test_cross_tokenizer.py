"""A draft of another tokenizer: the text stays the target's own, and guesses mean what they say."""

from __future__ import annotations

import json
import random
import shutil
from itertools import product
from pathlib import Path

import pytest
import torch
from paths import ROOT
from safetensors.torch import load_file, save_file
from tiny_models import make_model, make_pieces, make_tokenizer, save_pair
from transformers import AutoTokenizer

from stairs_core import drafters
from stairs_core.decoding import draft_lengths, generation_defaults, samplers
from stairs_core.drafters import DrafterInputs
from stairs_core.errors import InputError
from stairs_core.measuring.bench import HELD_OUT, ours, read_prompts, theirs
from stairs_core.measuring.runner import Runner
from stairs_core.models.load import load_pair
from stairs_core.settings import methods
from stairs_core.settings.sampling import RULES, Sampling
from stairs_core.settings.settings import BACKENDS, Settings
from stairs_core.text.cross_tokenizer import PART, Interpreter, Language, shared, specials
from stairs_core.traces.metrics import fold

BUNDLED = ROOT / "assets" / "pair"
PROMPTS = read_prompts(HELD_OUT, 3)
WAYS = ("reencode", "shared")
HARD = [
    "Once upon a time, the fox ran. She didn't stop!\n\nThe end.",
    "  two spaces first, \ttabs and trailing ones  ",
    "naïve café, 你好，世界。🦊🔑 — «да» ¿qué? 👩‍👩‍👧‍👦",
    "what looks like <|endoftext|> or </s> is text",
]


def spaced(vocabulary: dict[str, int]) -> dict[str, str]:
    """Byte-level names in the way of SentencePiece: a sign for the space, odd bytes in words."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    byte = {letter: number for number, letter in bytes_to_unicode().items()}

    def rename(name: str) -> str:
        spelled = bytes(byte[letter] for letter in name)
        try:
            return spelled.decode().replace(" ", "\u2581")
        except UnicodeDecodeError:
            return f"<0x{spelled[0]:02X}>" if len(spelled) == 1 else name

    return {name: rename(name) for name in vocabulary if not name.startswith("<|")}


def redraft(folder: Path, *, keep: int = 4096, sentencepiece: bool = False) -> Path:
    """The bundled pair, the draft with the first ``keep`` of its tokens in another order."""
    shutil.copytree(BUNDLED / "target", folder / "target")
    shutil.copytree(BUNDLED / "draft", folder / "draft")
    order = random.Random(0).sample(range(keep), keep)  # what stands where
    moved = {old: new for new, old in enumerate(order)}
    path = folder / "draft" / "tokenizer.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    known = {name: i for name, i in raw["model"]["vocab"].items() if i < keep}
    merges = [pair for pair in raw["model"]["merges"] if "".join(pair) in known]
    name = dict.fromkeys(known, "") | {n: n for n in known}
    if sentencepiece:
        name |= spaced(known)
        raw["model"] |= {"byte_fallback": True, "ignore_merges": False}
        raw["normalizer"] = {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u2581"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        ]}  # fmt: skip
        raw["pre_tokenizer"] = None
        raw["decoder"] = {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]}  # fmt: skip
    raw["model"]["vocab"] = {name[n]: moved[i] for n, i in known.items()}
    raw["model"]["merges"] = [[name[a], name[b]] for a, b in merges]
    for token in raw["added_tokens"]:
        token["id"] = moved[token["id"]]
    for token in raw["post_processor"]["special_tokens"].values():
        token["ids"] = [moved[i] for i in token["ids"]]
    path.write_text(json.dumps(raw), encoding="utf-8")
    for file in ("config.json", "generation_config.json"):
        path = folder / "draft" / file
        config = json.loads(path.read_text())
        config |= {key: moved[i] for key, i in config.items() if key.endswith("_token_id")}
        path.write_text(json.dumps(config | {"vocab_size": keep}))
    weights = load_file(folder / "draft" / "model.safetensors")
    rows = {n for n, w in weights.items() if w.shape[0] == 4096}
    weights = {n: w[order].contiguous() if n in rows else w for n, w in weights.items()}
    save_file(weights, folder / "draft" / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def bundled():
    return load_pair("bundled", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def permuted(tmp_path_factory):
    folder = redraft(tmp_path_factory.mktemp("permuted"))
    return load_pair(str(folder), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def smaller(tmp_path_factory):
    folder = redraft(tmp_path_factory.mktemp("smaller"), keep=800)
    return load_pair(str(folder), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def spelled(tmp_path_factory):
    folder = redraft(tmp_path_factory.mktemp("spelled"), sentencepiece=True)
    return load_pair(str(folder), device="cpu", dtype="float32")


def steps(pair, prompt: str, drafter: str, **settings) -> list:
    settings = {"k": 5, "max_new_tokens": 48} | settings
    found = list(Runner(pair, prompt, Settings(drafter, **settings)).decode())
    return [(s.accepted, [t.id for t in s.tokens], [t.id for t in s.committed]) for s in found]


@pytest.mark.parametrize("way", WAYS)
def test_the_same_guesses_under_other_ids(bundled, permuted, way):
    """Ids in another order are another tokenizer, in which the same draft says the same."""
    assert not permuted.same_tokenizer
    for prompt in PROMPTS:
        assert steps(permuted, prompt, way) == steps(bundled, prompt, "model")


@pytest.mark.parametrize("rule", RULES)
def test_the_same_draws_under_other_ids(bundled, permuted, rule):
    """The law over the target's vocabulary is the one that a draft of that vocabulary has."""
    sampling = Sampling(temperature=0.9, top_p=0.9, repetition_penalty=1.1, seed=5, rule=rule)
    drawn = steps(permuted, PROMPTS[0], "shared", sampling=sampling)
    assert drawn == steps(bundled, PROMPTS[0], "model", sampling=sampling)


@pytest.mark.parametrize("which", ["smaller", "spelled"])
@pytest.mark.parametrize("way", WAYS)
def test_the_text_is_the_targets_own_and_guesses_hold(request, bundled, which, way):
    pair = request.getfixturevalue(which)
    for prompt, backend in zip(PROMPTS * 2, BACKENDS, strict=False):
        alone = [t for _, _, ids in steps(bundled, prompt, "none") for t in ids]
        found = list(Runner(pair, prompt, Settings(way, 5, 48, backend)).decode())
        assert [t.id for s in found for t in s.committed] == alone
        alpha = fold(found).alpha
        assert alpha is not None
        assert alpha > 0.4


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    """Two random models with little in common but the alphabet, that write broken characters."""
    folder = save_pair(tmp_path_factory.mktemp("strangers"), make_model(), make_model(seed=4))
    make_tokenizer(" ".join(PROMPTS)).save_pretrained(folder / "draft")
    return load_pair(str(folder), device="cpu", dtype="float32", compile="off")


@pytest.mark.parametrize(("way", "backend"), [*product(WAYS, BACKENDS)])
@pytest.mark.parametrize("length", ["constant", "confidence", "cost"])
def test_strangers_change_nothing(strangers, way, backend, length):
    for prompt in ("The fox ran to 你好 🦊", "\ud7ff "):
        alone = [t for _, _, ids in steps(strangers, prompt, "none") for t in ids]
        found = steps(strangers, prompt, way, backend=backend, length=length)
        assert [t for _, _, ids in found for t in ids] == alone


def test_a_bench_of_such_a_pair_asks_its_draft_as_it_can(strangers):
    lanes = ours(strangers, [5], 24, methods.NAMES[1:])
    assert {"shared, K = 5", "shared, K auto", "reencode, K = 5"} <= lanes.keys()
    assert not {lane.drafter for lane in lanes.values()} & {"model", "hybrid", "tree"}
    assert set(theirs(strangers, strangers, [5])) == {
        "transformers, greedy",
        "transformers, prompt lookup",
    }


def test_drafters_of_one_tokenizer_refuse_in_one_sentence(strangers):
    for drafter in ("model", "hybrid", "tree"):
        with pytest.raises(InputError, match="different tokenizers") as caught:
            Runner(strangers, "hi", Settings(drafter))
        words = str(caught.value)
        assert "target and draft have" in words
        assert "--drafter shared or reencode" in words
        assert words.count(". ") == 0


def proposal(pair, context: list[int], way: str, k: int = 6, sampling=None):
    processors = generation_defaults.processors(pair.target, context, k, pair.eos_ids, sampling)
    chosen = samplers.build(sampling, pair.device, samplers.Processors(processors))
    inputs = DrafterInputs(pair, draft_lengths.build("constant", k), chosen)
    return drafters.build(way, inputs).propose(context, k)


def test_the_law_is_the_drafts_own_among_what_both_have(strangers):
    ours, theirs = strangers.languages
    both = shared(ours, theirs)
    assert 256 <= len(both) < 320
    context = strangers.tokenizer.encode("The fox ran")
    made = proposal(strangers, context, "shared", sampling=Sampling(seed=3))
    told = Interpreter(ours, theirs).to_draft(context)
    for token, law in zip(made.tokens, made.probs, strict=True):
        row = strangers.draft(torch.tensor([told])).logits[0, -1].softmax(-1)
        wanted = torch.zeros(320)
        wanted[[*both]] = row[[*both.values()]] / row[[*both.values()]].sum()
        torch.testing.assert_close(law, wanted, atol=1e-5, rtol=1e-4)
        told.append(both[token])


def test_the_drafts_window_is_kept(strangers):
    """The same text may be longer in the draft's tokens than in the target's."""
    ids = strangers.tokenizer.encode("The fox had a key. " * 40)[:240]
    told = Interpreter(*strangers.languages).to_draft(ids)
    assert len(told) > strangers.context_length
    for way in WAYS:
        assert proposal(strangers, ids, way).tokens == []


@pytest.fixture(scope="module")
def languages():
    """By kind: byte-level, byte-level with other merges, and SentencePiece's with a start."""
    found = {}
    for name, folder in (("bytes", "target"), ("pieces", None), ("others", None)):
        if folder:
            tokenizer = AutoTokenizer.from_pretrained(BUNDLED / folder)
        else:
            tokenizer = make_pieces() if name == "pieces" else make_tokenizer(" ".join(HARD))
        found[name] = Language(tokenizer, {tokenizer.eos_token_id})
    return found


KINDS = [*product(("bytes", "pieces", "others"), repeat=2)]


@pytest.mark.parametrize("text", HARD)
@pytest.mark.parametrize(("heard", "told"), KINDS)
def test_a_text_survives_the_way_there_and_back(languages, heard, told, text):
    ours, theirs = languages[heard], languages[told]
    ids = ours.start + ours.encode(text)
    assert Interpreter(ours, theirs).to_draft(ids) == theirs.start + theirs.encode(text)
    there = Interpreter(ours, theirs)
    for cut in range(len(ours.start), len(ids)):
        assert (there.to_draft(ids[:cut]) == theirs.start) == (
            not (known := words(ours, ids[:cut]))
        )
        answer = there.to_target(theirs.follow(known[-9:], text[len(known) :]))
        if known:
            assert words(ours, ids[:cut] + answer) == text


def words(language: Language, ids: list[int]) -> str:
    pieces, _ = language.speller.spell_all(ids[len(language.start) :])
    return "".join(pieces).removeprefix(language.lead)


@pytest.mark.parametrize(("heard", "told"), KINDS)
def test_what_is_told_does_not_depend_on_how_it_came(languages, heard, told):
    ours, theirs = languages[heard], languages[told]
    text = " ".join(HARD * 8)
    assert len(text) > 2 * PART
    ids = ours.start + ours.encode(text)
    grown = Interpreter(ours, theirs)
    rng, cut = random.Random(1), 1
    while cut < len(ids):
        assert grown.to_draft(ids[:cut]) == Interpreter(ours, theirs).to_draft(ids[:cut])
        cut += rng.randrange(1, 40)
    assert grown.to_draft(ids) == theirs.start + theirs.encode(text)
    assert grown.to_draft(ids[:20]) == Interpreter(ours, theirs).to_draft(ids[:20])


@pytest.mark.parametrize(("heard", "told"), KINDS)
def test_shared_tokens_spell_the_same(languages, heard, told):
    ours, theirs = languages[heard], languages[told]
    both = shared(ours, theirs)
    assert len(set(both.values())) == len(both) > 100
    assert both[ours.end] == theirs.end
    for a, b in both.items():
        words, others = (side.speller.spell((), i) for side, i in ((ours, a), (theirs, b)))
        assert a == ours.end or words[0] == others[0]


def test_special_tokens_are_told_as_such_and_their_names_as_text(languages):
    ours, theirs = languages["bytes"], languages["pieces"]
    assert specials(ours, theirs) == {ours.end: theirs.end}
    assert specials(theirs, ours) == {theirs.end: ours.end}
    turns = ours.start + ours.encode("hi") + [ours.end] + ours.encode("you")
    middle = theirs.encode("hi") + [theirs.end] + theirs.encode("you")
    there = Interpreter(ours, theirs)
    assert there.to_draft(turns) == theirs.start + middle
    written = theirs.follow("you", " are</s>")
    assert theirs.end not in written
    said = ours.follow("you", " are</s>")
    assert there.to_target(written) == said
    assert there.to_target([*written, theirs.end, *written]) == [*said, ours.end]
    assert there.to_target([theirs.end]) == [ours.end]
    assert there.to_target([theirs.start[0], *written]) == []


def test_a_begun_character_is_gone_on_with_or_nothing_is_guessed(languages):
    ours, theirs = languages["others"], languages["bytes"]
    turtle, key = ours.encode("🐢"), theirs.encode("🔑")
    there = Interpreter(ours, theirs)
    told = there.to_draft(ours.encode("a ") + turtle[:1])
    assert told == theirs.start + theirs.encode("a ")
    assert there.pending == tuple(turtle[:1])
    assert there.to_target(theirs.encode("🐢!")) == turtle[1:] + ours.encode("!")
    assert there.to_target(key[:1]) == []
    assert there.to_target(theirs.encode("fox")) == []
