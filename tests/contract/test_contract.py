"""The promise: whoever drafts, however the stairs are computed, the text is the target's own."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from decoding import PROMPTS, build, committed, decode, plain, start

from stairs_core.decoding import draft_lengths, verify
from stairs_core.measuring.runner import Runner
from stairs_core.settings import methods
from stairs_core.settings.settings import BACKENDS, LENGTHS, NUMERICS, Settings
from stairs_core.traces.metrics import fold

WAYS = [(b, n) for b in BACKENDS for n in NUMERICS if n == "fast" or b.startswith("single")]
KS, NEW = (1, 3, 10), 30
GRID = [
    # Every drafter in every way, with every K, and to an end of text in every other way; all of it
    # takes minutes.
    pytest.param(
        *(d, *way, k, to_end),
        marks=() if (i + j - n) % len(KS) == 0 and (i + j) % 2 == to_end else pytest.mark.slow,
    )
    for (i, d), (j, way), (n, k), to_end in itertools.product(
        enumerate(methods.EXACT), enumerate(WAYS), enumerate(KS), (False, True)
    )
    if way[1] == "fast" or not methods.REGISTRY[d].tree
]


@pytest.fixture(scope="module")
def references(tiny_pair):
    """For every prompt: its ids, the endless plain text, an id midway in it, and one not in it."""
    found = []
    for prompt in PROMPTS:
        ids = tiny_pair.tokenizer.encode(prompt)
        text = plain(tiny_pair, ids, NEW, frozenset())
        end = max(set(text), key=lambda t: min(text.index(t), 20))
        unused = next(i for i in range(320) if i not in text)
        found.append((ids, text, end, unused))
    return found


@pytest.mark.parametrize(("drafter", "backend", "numerics", "k", "with_eos"), GRID)
def test_the_text_is_the_targets_own(
    tiny_pair, lean_pair, references, drafter, backend, numerics, k, with_eos
):
    for (ids, text, end, unused), pair in zip(references, (tiny_pair, lean_pair), strict=True):
        eos = frozenset([end, unused]) if with_eos else frozenset()
        steps = decode(replace(pair, eos_ids=eos), ids, drafter, backend, k, NEW, eos, numerics)
        assert committed(steps) == (text[: text.index(end) + 1] if with_eos else text)
        assert steps[-1].stop == ("eos" if with_eos else "length")
        assert [s.stop for s in steps[:-1]] == [None] * (len(steps) - 1)


@pytest.mark.parametrize("drafter", sorted(set(methods.EXACT) - {"none"}))
@pytest.mark.parametrize("length", sorted(LENGTHS))
def test_the_text_is_the_targets_own_however_much_is_drafted(
    tiny_pair, lean_pair, references, drafter, length
):
    if length == "confidence" and not methods.REGISTRY[drafter].reports_confidence:
        pytest.skip("as with a constant length: it asks nobody whether to go on")
    for (ids, text, *_), pair in zip(references, (tiny_pair, lean_pair), strict=True):
        steps = decode(pair, ids, drafter, "single_kv", 8, NEW, frozenset(), length=length)
        assert committed(steps) == text


@pytest.mark.parametrize("drafter", ["lookup", "hybrid"])
@pytest.mark.parametrize(("backend", "numerics"), WAYS)
@pytest.mark.parametrize("length", ["constant", "cost"])
def test_copied_tokens_are_accepted_and_the_text_is_the_targets_own(
    looping, drafter, backend, numerics, length
):
    ids = looping.tokenizer.encode("The fox")
    text = plain(looping, ids, 90, frozenset())
    steps = decode(looping, ids, drafter, backend, 5, 90, frozenset(), numerics, length)
    assert committed(steps) == text
    copied = [t.status for s in steps for t in s.drafted if t.source == "lookup"]
    # K auto has one rule for copies and for a draft, and this draft is no use here: only tries.
    least = 5 if (drafter, length) == ("hybrid", "cost") else 9
    assert copied.count("accepted") > least


def test_the_reference_itself_stops_where_ours_does(tiny_pair, references):
    for ids, text, end, unused in references:
        stopped = plain(tiny_pair, ids, NEW, frozenset([end, unused]))
        assert stopped == text[: text.index(end) + 1]


def test_both_acceptance_and_rejection_happen(tiny_pair, references):
    """Without this, the contract could hold for want of anything to reject."""
    for ids, *_ in references:
        summary = fold(decode(tiny_pair, ids, "model", "single_kv", 4, NEW, frozenset()))
        assert summary.alpha is not None
        assert 0.2 < summary.alpha < 0.95


def test_every_backend_gives_the_same_steps(tiny_pair, references):
    ids = references[0][0]
    seen = {
        tuple((s.accepted, tuple(t.id for t in s.tokens)) for s in steps)
        for steps in (decode(tiny_pair, ids, "model", b, 5, NEW, frozenset()) for b in BACKENDS)
    }
    assert len(seen) == 1


def test_every_step_is_told_in_full(tiny_pair, references):
    ids, text, end, _ = references[1]
    steps = decode(tiny_pair, ids, "model", "single_kv", 6, NEW, frozenset([end]))
    length = len(ids)
    for step in steps:
        assert step.start == length
        assert len(step.predictions) == len(step.tokens)
        own = step.predictions[step.accepted].id
        assert step.tokens[-1].id == own
        kept = [t.status for t in step.drafted]
        n, m = len(step.drafted), step.accepted
        if step.stop is None:
            mismatch = ["rejected"] + ["unchecked"] * (n - m - 1)
            assert kept == ["accepted"] * m + (mismatch if m < n else [])
            assert step.tokens[-1].status == ("correction" if m < n else "bonus")
        length += len(step.committed)
    assert committed(steps) == text[: text.index(end) + 1]
    assert "".join(t.text for s in steps for t in s.committed).startswith(
        tiny_pair.tokenizer.decode(committed(steps)).rstrip("\ufffd")
    )


def test_a_draft_that_is_the_target_is_always_right(tiny_pair, references):
    pair = replace(tiny_pair, draft=tiny_pair.target)
    ids, text, *_ = references[0]
    steps = decode(pair, ids, "model", "single_kv", 4, NEW, frozenset())
    assert committed(steps) == text
    assert fold(steps).alpha == 1.0
    assert len(steps) == NEW // 5


def test_context_and_budget_are_kept(tiny_pair):
    ids = tiny_pair.tokenizer.encode("fox " * 300)[:250]
    for new, reason, count in ((3, "length", 3), (6, "length", 6), (7, "context", 6)):
        pair = replace(tiny_pair, context_length=256)
        steps = decode(pair, ids, "model", "single_kv", 4, new, frozenset())
        assert (steps[-1].stop, len(committed(steps))) == (reason, count)


def test_an_abandoned_or_failing_run_leaves_its_parts_usable(tiny_pair, references):
    ids, text, *_ = references[0]
    target = verify.build("single_kv", tiny_pair.target)
    drafter = build("model", tiny_pair, draft_lengths.build("constant", 5))
    abandoned = start(tiny_pair, ids, target, drafter, 5)
    next(abandoned)
    next(abandoned)
    abandoned.close()

    class Broken:
        reads_layers = ()

        def propose(self, context, k):
            raise RuntimeError("the drafter broke")

    with pytest.raises(RuntimeError, match="broke"):
        next(start(tiny_pair, ids, target, Broken(), 5))
    assert committed(start(tiny_pair, ids, target, drafter, 5, NEW)) == text


def test_an_interrupted_pass_leaves_an_empty_lane(tiny_pair, references, monkeypatch):
    ids, text, *_ = references[0]
    target = verify.build("single_kv", tiny_pair.target)
    drafter = build("none", tiny_pair, draft_lengths.build("constant", 1))
    first = start(tiny_pair, ids, target, drafter, 1)
    next(first)
    layer = tiny_pair.target.model.layers[1]
    with monkeypatch.context() as patch:
        patch.setattr(layer, "forward", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            next(first)
    assert committed(start(tiny_pair, ids, target, drafter, 1, NEW)) == text


def test_stop_ends_a_run_after_its_step(tiny_pair):
    runner = Runner(tiny_pair, "Once upon a time", Settings(k=3))
    steps = list(runner.decode(stop=lambda: len(runner.steps) == 2))
    assert len(steps) == 3
    assert runner.recording().stop.reason == "stopped"
