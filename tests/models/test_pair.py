"""The bundled pair: what it is, and that on it every way to decode writes transformers' text."""

from __future__ import annotations

import json
import logging
from collections import Counter

import pytest
from paths import ROOT

from stairs_core.errors import InputError
from stairs_core.measuring import baselines, bench
from stairs_core.measuring.runner import Runner
from stairs_core.models.load import load_pair
from stairs_core.settings.settings import BACKENDS, Settings
from stairs_core.traces.metrics import fold

PAIR = ROOT / "assets" / "pair"
HELD_OUT = bench.read_prompts(bench.HELD_OUT, 50)
KS = (1, 2, 4, 6, 10)


@pytest.fixture(scope="module")
def bundled():
    return load_pair("bundled", device="cpu", dtype="float32")


def test_it_is_small_whole_and_safe():
    files = [p for p in PAIR.rglob("*") if p.is_file()]
    assert all(p.stat().st_size <= 15 * 2**20 for p in files)
    assert sum(p.stat().st_size for p in files) <= 60 * 2**20
    assert not [p for p in files if p.suffix in (".bin", ".pt", ".pkl")]
    for name in ("target", "draft"):
        config = json.loads((PAIR / name / "config.json").read_text(encoding="utf-8"))
        assert (config["model_type"], config["vocab_size"]) == ("llama", 4096)


def test_it_is_what_its_card_says(bundled):
    assert 12e6 <= bundled.parameters[0] <= 27e6
    assert 1e6 <= bundled.parameters[1] <= 3e6
    assert bundled.draft.config.num_hidden_layers <= 2
    vocabulary = bundled.tokenizer.get_vocab()
    assert len(vocabulary) == 4096
    assert {"<|endoftext|>", "<|mask|>"} <= set(vocabulary)
    assert bundled.eos_ids == {vocabulary["<|endoftext|>"]}


@pytest.fixture(scope="module")
def stock():
    """The same models as transformers makes them, for its own ``generate``."""
    return load_pair("bundled", device="cpu", dtype="float32", compile="off")


def test_too_long_a_prompt_gets_one_sentence(bundled, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    with pytest.raises(InputError, match="read 2048"):
        Runner(bundled, "fox " * 3000, Settings())
    assert not caplog.records


def check(pair, stock, prompt: str, backends, ks, new: int) -> None:
    ids = Runner(pair, prompt, Settings()).prompt_ids
    expected = baselines.transformers_generate(stock, ids, new)
    for backend in backends:
        for k in ks:
            runner = Runner(pair, prompt, Settings("model", k, new, backend))
            assert [t.id for s in runner.decode() for t in s.committed] == expected


@pytest.mark.parametrize("prompt", HELD_OUT[::17])
def test_the_stairs_write_what_transformers_writes(bundled, stock, prompt):
    check(bundled, stock, prompt, BACKENDS, (2, 6), 32)


@pytest.mark.slow
@pytest.mark.parametrize("prompt", HELD_OUT)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_on_every_held_out_prompt(bundled, stock, prompt, backend):
    check(bundled, stock, prompt, [backend], KS, 40)


def test_the_draft_earns_its_keep(bundled):
    steps = []
    for prompt in HELD_OUT[::10]:
        steps += list(Runner(bundled, prompt, Settings(k=4, max_new_tokens=64)).decode())
    alpha = fold(steps).alpha
    assert alpha is not None
    assert alpha > 0.7


@pytest.mark.slow
def test_the_stories_do_not_loop(bundled):
    """As the card counts: a run of twelve tokens that stands three times; at most one in ten."""
    looped = 0
    for prompt in HELD_OUT[::5]:
        runner = Runner(bundled, prompt, Settings("lookup", max_new_tokens=300))
        words = [t.id for step in runner.decode() for t in step.committed]
        runs = Counter(tuple(words[i : i + 12]) for i in range(len(words) - 11))
        looped += max(runs.values()) >= 3
    assert looped <= 1
