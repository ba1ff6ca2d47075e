"""One run of chosen parts on a pair, and transformers' own text to hold it against."""

from __future__ import annotations

import torch
from tiny_models import WORDS

from stairs_core import drafters
from stairs_core.decoding import draft_lengths, samplers, verify
from stairs_core.decoding.clock import Clock
from stairs_core.decoding.engine import Limits, generate
from stairs_core.decoding.recorder import Recorder
from stairs_core.drafters import DrafterInputs
from stairs_core.measuring.pass_timing import PassCosts
from stairs_core.settings import methods
from stairs_core.text.tokens import Document

GREEDY = samplers.Greedy(samplers.Processors())
COSTS = PassCosts(((1, 1.0), (9, 1.3)), 0.2)
PROMPTS = ["Once upon a time", "The fox ran to 你好 🦊"]


def plain(pair, ids: list[int], new: int, eos: frozenset[int]) -> list[int]:
    """transformers' own greedy decoding of the target."""
    out = pair.target.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        do_sample=False,
        max_new_tokens=new,
        eos_token_id=sorted(eos) or None,
        pad_token_id=0,
    )
    return out[0, len(ids) :].tolist()


def decode(pair, ids, drafter, backend, k, new, eos, numerics="fast", length="constant") -> list:
    policy = draft_lengths.build(length, k, COSTS, methods.REGISTRY[drafter])
    parts = (verify.build(backend, pair.target, numerics), build(drafter, pair, policy))
    return list(start(pair, ids, *parts, policy, new, eos))


def build(drafter, pair, policy):
    """With references from which some of the text could be copied, for those that copy."""
    references = [Document("words", pair.tokenizer.encode(" ".join([*PROMPTS, *WORDS])))]
    return drafters.build(drafter, DrafterInputs(pair, policy, GREEDY, references))


def start(pair, ids: list[int], target, drafter, length, new: int = 40, eos=frozenset()):
    """A run of these very parts, whatever they have been used for."""
    length = draft_lengths.build("constant", length) if isinstance(length, int) else length
    limits = Limits.of(len(ids), new, pair.context_length, eos_ids=eos)
    recorder, clock = Recorder(pair.speller, ids), Clock(pair.device)
    return generate(ids, target, drafter, GREEDY, recorder, clock, limits, length)


def committed(steps) -> list[int]:
    return [t.id for s in steps for t in s.committed]
