"""Long runs: a step costs what it adds to the text, and what broke can be used again."""

from __future__ import annotations

import statistics
import time

import pytest
import torch
from tiny_models import make_model, make_tokenizer, perturb, save_pair

from stairs_core.forward import kv_cache
from stairs_core.forward.cached_model import CachedModel
from stairs_core.measuring.runner import Runner
from stairs_core.models.load import load_pair
from stairs_core.settings.settings import Settings

NEW = 2000


@pytest.fixture(scope="module")
def long_pair(tmp_path_factory: pytest.TempPathFactory):
    target = make_model(seed=3)
    target.config.max_position_embeddings = 4096
    target.generation_config.eos_token_id = None
    target.config.eos_token_id = None
    tokenizer = make_tokenizer()
    tokenizer.eos_token = None
    folder = save_pair(tmp_path_factory.mktemp("long"), target, perturb(target), tokenizer)
    return load_pair(str(folder), "cpu", "float32", "off")


def test_a_cache_is_seldom_copied_and_at_most_doubled(monkeypatch):
    """2,000 tokens, one at a time, rolled back now and then."""
    grown = []
    honest = kv_cache._grown
    monkeypatch.setattr(kv_cache, "_grown", lambda t, n: grown.append(n) or honest(t, n))
    cache = kv_cache.KV()
    one = torch.zeros(1, 2, 1, 4)
    for token in range(NEW):
        keys, _ = cache.update(one + token, one, 0)
        assert keys.shape[2] == token + 1
        cache.keep(token)
        cache.update(one + token, one, 0)
    assert len(grown) <= 12
    assert keys[0, 0, :, 0].tolist() == list(map(float, range(NEW)))
    assert cache.layers[0].buffers[0].shape[2] <= 2 * NEW + kv_cache.BLOCK


@pytest.mark.slow
def test_a_step_at_the_end_costs_what_one_at_the_start_did(long_pair):
    """But for attention, whose share is measured apart."""
    runner = Runner(long_pair, "Once upon a time", Settings(k=4, max_new_tokens=NEW))
    runner.warm_up()
    steps = list(runner.decode())
    assert sum(len(s.committed) for s in steps) == NEW
    part = len(steps) // 8
    times = [s.draft_seconds + s.verify_seconds + s.other_seconds for s in steps]
    start, end = statistics.median(times[:part]), statistics.median(times[-part:])
    grown = 5 * (_pass(long_pair.target, NEW) - _pass(long_pair.target, 30))
    assert end <= 1.15 * start + max(0.0, grown)


def _pass(model, context: int) -> float:
    lane, times = CachedModel(model), []
    ids = [3] * context
    for _ in range(30):
        lane.logits(ids, 1)
        began = time.perf_counter()
        lane.logits(ids, 5)
        times.append(time.perf_counter() - began)
    return statistics.median(times)
