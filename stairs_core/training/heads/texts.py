"""What heads are trained on: openings from the corpus, continued by the target itself.

Kept as files of a batch each, so that a run that was stopped goes on with the next one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tqdm.auto import tqdm

from ...errors import InputError
from ..conditions import SHORT_CHARS, Conditions
from .chat_texts import ChatTexts
from .generate import ends_of, generate

OPENING = (4, 24)
"""Tokens of an opening that the target goes on from, at least and at most."""
TEMPERATURES = (0.0, 0.0, 0.0, 0.7)
"""Of the batches in turn: mostly greedy, as most decoding is; the sampled ones for variety."""


AGAIN = 20
"""Answers to each prompt of a file, about; after them the model's own prompts are answered."""


CACHES = 0.45
"""The share of a GPU's memory that KV caches may take while texts are written."""


@dataclass(frozen=True)
class TextPlan:
    """``tokens``: to write in all; ``length``: of a text with its opening, at most; ``batch``:
    texts written at once; ``conditions``: the share that opens with "Words: a, b, c", for a target
    that was trained to read that."""

    tokens: int
    length: int = 128
    batch: int = 256
    conditions: float = 0.0
    seed: int = 1

    @property
    def batches(self) -> int:
        return max(1, -(-self.tokens // (self.length * self.batch)))


def at_once(model: Any, length: int) -> int:
    """Texts of ``length`` tokens that are written at once: 256 or, on a GPU, as many more as let
    their KV caches take up to ``CACHES`` of its memory."""
    if model.device.type != "cuda":
        return 256
    text = model.config.get_text_config()
    # No more than this: most models' keys and values are narrower than their hidden states.
    each = 2 * text.num_hidden_layers * text.hidden_size * length * 2
    heads = getattr(text, "num_key_value_heads", None)
    if type(heads) is int and heads:
        each = each * heads // text.num_attention_heads
    room = torch.cuda.get_device_properties(model.device).total_memory
    return 2 ** min(13, max(8, int(CACHES * room / each).bit_length() - 1))


def write_texts(
    model: Any,
    tokenizer: Any,
    works: list[str],
    plan: TextPlan,
    folder: Path,
    prompts: Sequence[str] = (),
) -> list[Path]:
    """The files of the target's texts, of which those that exist are kept. ``prompts``: for a chat
    model, in place of ``works``.

    Each holds ``ids`` [texts, length], padded on the right, and ``lengths`` [texts]; answers to
    prompts also ``starts`` [texts], where they begin.
    """
    files = [folder / f"texts-{i:05d}.safetensors" for i in range(plan.batches)]
    conditions = Conditions(works) if plan.conditions else None
    chat = ChatTexts(model, tokenizer, prompts, plan.length // 2) if prompts else None
    per_batch = plan.length * plan.batch
    left = [i for i, file in enumerate(files) if not file.is_file()]
    bar = tqdm(
        total=len(files) * per_batch,
        initial=(len(files) - len(left)) * per_batch,
        desc="texts",
        unit="tok",
        unit_scale=True,
    )
    for i in left:
        temperature, seed = TEMPERATURES[i % 4], plan.seed + i
        if chat:
            # A file's prompts come again, so their answers are sampled, and not without end.
            own = not temperature or i // 4 * plan.batch > AGAIN * len(prompts)
            openings = chat.openings(plan.batch, seed, own=own)
            texts = answer(model, openings, plan.length, temperature, seed)
        else:
            openings = _openings(tokenizer, works, conditions, plan, i)
            texts = continue_texts(model, openings, plan.length, temperature, seed)
        save_whole(texts, files[i])
        bar.update(per_batch)
    bar.close()
    return files


def _openings(
    tokenizer: Any, works: list[str], conditions: Conditions | None, plan: TextPlan, index: int
) -> torch.Tensor:
    """[texts, tokens]: the openings of one batch, all of one length so that none needs padding."""
    rng = random.Random(f"{plan.seed}/{index}")
    size = rng.randint(*OPENING)
    with_conditions = conditions is not None and rng.random() < plan.conditions
    short = [work for work in works if len(work) <= SHORT_CHARS] or works
    found: dict[int, list[list[int]]] = {}
    for _ in range(200 * plan.batch):
        work = rng.choice(short)
        text = conditions.prefix(work, rng) if conditions and with_conditions else work[:400]
        ids = tokenizer.encode(text) if text else []
        ids = ids if with_conditions else ids[:size]
        same = found.setdefault(len(ids), [])
        same.append(ids)
        if len(same) == plan.batch and ids:
            return torch.tensor(same)
    longest = max(found.items(), key=lambda item: len(item[1]) * bool(item[0]))[1]
    if not longest or not longest[0]:
        raise InputError("The corpus holds no text that the target's tokenizer can read: add some.")
    return torch.tensor([longest[i % len(longest)] for i in range(plan.batch)])


def continue_texts(
    model: Any, openings: torch.Tensor, length: int, temperature: float, seed: int
) -> dict[str, torch.Tensor]:
    """``openings`` [texts, tokens] continued to ``length`` tokens or to an end of text."""
    found = answer(model, openings.tolist(), length, temperature, seed)
    return {name: found[name] for name in ("ids", "lengths")}


def answer(
    model: Any, openings: list[list[int]], length: int, temperature: float, seed: int
) -> dict[str, torch.Tensor]:
    """``openings``, of any lengths below ``length``, continued to so many tokens or to an end of
    text. Adds ``starts`` [texts]: where the continuation begins."""
    ends = ends_of(model)
    longest = max(map(len, openings))
    padded = torch.full((len(openings), longest), ends[0] if ends else 0)
    mask = torch.zeros_like(padded)
    for row, opening in enumerate(openings):
        padded[row, longest - len(opening) :] = torch.tensor(opening)
        mask[row, longest - len(opening) :] = 1
    shortest = min(map(len, openings))
    made = generate(model, padded, mask, length - shortest, temperature, seed)
    ids = torch.full((len(openings), length), ends[0] if ends else 0)
    for row, opening in enumerate(openings):
        text = made[row, longest - len(opening) :][:length]
        ids[row, : len(text)] = text
    starts = torch.tensor([len(opening) for opening in openings])
    written = torch.arange(length) >= starts[:, None]
    # The end of text itself is part of the text; nothing after it is.
    ended = (torch.isin(ids, torch.tensor(ends, dtype=ids.dtype)) & written).int()
    lengths = (ended.cumsum(1) - ended == 0).sum(1)
    return {"ids": ids.int(), "lengths": lengths.int(), "starts": starts.int()}


def save_whole(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Writes a file that is either whole or not there."""
    partial = path.with_suffix(".partial")
    save_file(tensors, partial)
    partial.replace(path)
