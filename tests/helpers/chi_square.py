"""How far sampled text is from the target's distribution: chi-square over its first two tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from stairs_core import drafters
from stairs_core.decoding import draft_lengths, generation_defaults, samplers, verify
from stairs_core.decoding.clock import Clock
from stairs_core.decoding.engine import Limits, generate
from stairs_core.decoding.recorder import Recorder
from stairs_core.drafters import DrafterInputs
from stairs_core.settings.sampling import Sampling
from stairs_core.text.tokens import Document
from stairs_core.traces.metrics import fold
from stairs_core.traces.records import Step

VOCABULARY = 6
IDS = [1, 2, 3, 1, 2, 4, 1, 2]
SAMPLING = Sampling(0.9, top_k=5, top_p=0.97, min_p=0.01, repetition_penalty=1.1)
LIMIT = 80.0
"""Of chi-square with 35 degrees of freedom at most: passed by chance once in 50,000."""


def probabilities(pair, sampling: Sampling) -> dict[tuple[int, int], float]:
    """Of the first two tokens, from plain passes and transformers' own processors."""
    processors = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty),
            TemperatureLogitsWarper(sampling.temperature),
            TopKLogitsWarper(sampling.top_k),
            TopPLogitsWarper(sampling.top_p),
            MinPLogitsWarper(sampling.min_p),
        ]
    )

    def after(ids: list[int]) -> list[float]:
        logits = pair.target(torch.tensor([ids])).logits[:, -1]
        return processors(torch.tensor([ids]), logits).softmax(-1)[0].tolist()

    firsts = after(IDS)
    return {
        (a, b): firsts[a] * p for a in range(VOCABULARY) for b, p in enumerate(after([*IDS, a]))
    }


def sampler_of(pair, sampling: Sampling, ids: list[int]):
    found = generation_defaults.processors(pair.target, ids, 4, pair.eos_ids, sampling)
    return samplers.build(sampling, pair.device, samplers.Processors(found))


def sampled(pair, drafter: str, sampling: Sampling, new: int = 4) -> Iterator[Step]:
    """One run, step by step; of four tokens, so that guesses two deep are made at its start."""
    policy = draft_lengths.build("constant", 3)
    sampler = sampler_of(pair, sampling, IDS)
    inputs = DrafterInputs(pair, policy, sampler, [Document("words", [1, 2, 5, 0, 1, 2, 3, 3])])
    target, clock = verify.build("single_kv", pair.target), Clock(pair.device)
    limits = Limits(len(IDS) + new, "length")
    guesser, recorder = drafters.build(drafter, inputs), Recorder(pair.speller, IDS)
    return generate(IDS, target, guesser, sampler, recorder, clock, limits, policy)


def start_of(pair, drafter: str, sampling: Sampling) -> tuple[tuple[int, int], int]:
    """The first two tokens of a run, and how many guesses were accepted until they were there."""
    steps: list[Step] = []
    found: list[int] = []
    for step in sampled(pair, drafter, sampling):
        steps.append(step)
        found += [t.id for t in step.committed]
        if len(found) > 1:
            break
    return (found[0], found[1]), fold(steps).accepted


def distance(pair, drafter: str, sampling: Sampling, runs: int) -> tuple[float, int]:
    """Chi-square of the first two tokens over many seeds, and how many guesses were accepted."""
    seen: Counter[tuple[int, int]] = Counter()
    accepted = 0
    for seed in range(runs):
        tokens, held = start_of(pair, drafter, replace(sampling, seed=seed))
        seen[tokens] += 1
        accepted += held
    expected = probabilities(pair, sampling)
    assert not [cell for cell in seen if expected[cell] == 0]
    return sum((seen[c] - runs * p) ** 2 / (runs * p) for c, p in expected.items() if p), accepted
