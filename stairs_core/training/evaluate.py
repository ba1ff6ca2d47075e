"""Measurements: validation loss, greedy text, and how often the draft agrees with the target."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from .recipes import SPACE_K
from .space.objective import IGNORE, add_mask_groups, draw_anchors
from .stream import encode_works


def validation_rows(
    tokenizer: PreTrainedTokenizerFast, works: list[str], length: int, limit: int | None = None
) -> torch.Tensor:
    """Held-out works as rows of ``length`` + 1 ids (the last only a label), (R, length + 1)."""
    if not works:
        return torch.empty(0, length + 1, dtype=torch.long)
    ids = np.concatenate(encode_works(tokenizer, works))
    count = (len(ids) - 1) // length
    if limit is not None:
        count = min(count, max(1, limit // length))
    rows = [ids[i * length : i * length + length + 1] for i in range(count)]
    if not rows:  # less than one row of text: one short row
        rows = [ids]
    return torch.from_numpy(np.stack(rows).astype(np.int64))


@torch.no_grad()
def validation_loss(model: LlamaForCausalLM, rows: torch.Tensor, batch: int = 8) -> float:
    """Mean cross-entropy of a token in nats over ``rows`` (R, T+1), in the weights' own dtype."""
    device = next(model.parameters()).device
    total, count = 0.0, 0
    for chunk in rows.split(batch):
        logits = model(input_ids=chunk[:, :-1].to(device), use_cache=False).logits
        labels = chunk[:, 1:].to(device)
        total += F.cross_entropy(
            logits.float().flatten(0, 1), labels.flatten(), reduction="sum"
        ).item()
        count += labels.numel()
    return total / count if count else float("nan")


@torch.no_grad()
def space_accuracy(model: LlamaForCausalLM, rows: torch.Tensor, k: int = SPACE_K) -> list[float]:
    """How often mask j of a SPACE group predicts the right token, j = 0..k, over ``rows`` (R,
    T+1)."""
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    hits, counts = torch.zeros(k + 1), torch.zeros(k + 1)
    for chunk in rows.split(4):
        text = chunk[:, :-1]
        batch = add_mask_groups(
            text, chunk[:, 1:], draw_anchors(text.shape[0], text.shape[1], generator), k
        )
        labels = batch.pop("labels")[:, text.shape[1] :].view(len(chunk), -1, k + 1)
        logits = model(**{n: t.to(device) for n, t in batch.items()}, use_cache=False).logits
        guess = logits[:, text.shape[1] :].argmax(-1).cpu().view_as(labels)
        hits += ((guess == labels) & (labels != IGNORE)).sum((0, 1))
        counts += (labels != IGNORE).sum((0, 1))
    return (hits / counts.clamp(min=1)).tolist()


@torch.no_grad()
def greedy_text(
    model: Any, tokenizer: PreTrainedTokenizerFast, prompt: str, max_new_tokens: int
) -> torch.Tensor:
    """The ids of prompt and greedy continuation, shape (T,), through ``transformers``' own loop."""
    inputs = tokenizer(prompt, return_tensors="pt").to(next(model.parameters()).device)
    return model.generate(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        max_new_tokens=max_new_tokens,
        do_sample=False,
    )[0].cpu()


@torch.no_grad()
def agreement(draft: LlamaForCausalLM, ids: torch.Tensor, start: int) -> list[bool]:
    """For each id from ``start`` on: whether the draft predicts it from the ids before it.

    One teacher-forced pass. Under greedy decoding the ids are the target's choices, so these bits
    give the acceptance at every draft length.
    """
    device = next(draft.parameters()).device
    logits = draft(input_ids=ids[None].to(device), use_cache=False).logits[0]
    return (logits[start - 1 : -1].argmax(-1).cpu() == ids[start:]).tolist()


def replay(bits: list[bool], k: int) -> tuple[int, int, int, int]:
    """Simulate the greedy loop with ``k`` drafted tokens from agreement bits.

    Returns (drafted, checked, accepted, target calls): ``checked`` counts the accepted and the
    first rejected token of every step, as ``alpha`` = accepted / checked does.
    """
    drafted = checked = accepted = calls = at = 0
    while at < len(bits):
        window = bits[at : at + k]
        kept = next((i for i, same in enumerate(window) if not same), len(window))
        drafted += k
        checked += min(kept + 1, len(window))
        accepted += kept
        calls += 1
        at += kept + 1
    return drafted, checked, accepted, calls


def acceptance(draft: LlamaForCausalLM, texts: list[tuple[torch.Tensor, int]], k: int) -> dict:
    """Greedy acceptance over the target's own texts, given as (ids, length of the prompt).

    One draft pass for each text; no decoding is repeated.
    """
    sums = [0, 0, 0, 0]
    tokens = 0
    for ids, start in texts:
        bits = agreement(draft, ids, start)
        tokens += len(bits)
        sums = [a + b for a, b in zip(sums, replay(bits, k), strict=True)]
    drafted, checked, accepted, calls = sums
    return {
        "k": k,
        "prompts": len(texts),
        "tokens": tokens,
        "alpha": accepted / max(1, checked),
        "acceptance_rate": accepted / max(1, drafted),
        "tokens_per_target_call": tokens / max(1, calls),
    }


def looping(ids: list[int], n: int = 12, times: int = 3) -> bool:
    """Whether some n-gram of ``n`` tokens occurs ``times`` times or more in the text."""
    seen: dict[tuple[int, ...], int] = {}
    for i in range(len(ids) - n + 1):
        key = tuple(ids[i : i + n])
        seen[key] = seen.get(key, 0) + 1
    return any(count >= times for count in seen.values())
