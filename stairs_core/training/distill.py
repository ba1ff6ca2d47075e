"""Distillation: the draft learns the target's own predictions, on the target's own text."""

from __future__ import annotations

import random
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import tqdm
from transformers import LlamaForCausalLM

from .conditions import SHORT_CHARS, Conditions
from .evaluate import validation_loss, validation_rows
from .recipes import Recipe
from .session import Session, row_length
from .stream import END_ID, TokenStream, encode_works
from .trainer import Batch, Checkpoint, LanguageLoss, train

GREEDY_SHARE = 0.7
"""Share of the generated batches that is greedy; the others are sampled, for variety."""

TEMPERATURE = 0.6
BATCH = 128


class DistillLoss(nn.Module):
    """KL from the target's distribution to the draft's, plus cross-entropy on the target's choice.

    ``forward`` takes ``input_ids`` (B, T) and returns nats summed over the positions. The KL term
    teaches the whole distribution (for sampling and trees), the other the token of greedy decoding.
    """

    def __init__(
        self, draft: LlamaForCausalLM, target: LlamaForCausalLM, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.draft, self.target = LanguageLoss(draft, dtype), LanguageLoss(target, dtype)
        target.requires_grad_(False)

    def forward(self, batch: Batch) -> torch.Tensor:
        inputs = {"input_ids": batch["input_ids"]}
        with torch.no_grad():
            wanted = self.target.logits(inputs).float().flatten(0, 1).log_softmax(-1)
        offered = self.draft.logits(inputs).float().flatten(0, 1).log_softmax(-1)
        divergence = F.kl_div(offered, wanted, reduction="sum", log_target=True)
        return divergence + F.nll_loss(offered, wanted.argmax(-1), reduction="sum")


def opening_prompts(
    works: list[str], stream: TokenStream, conditions: Conditions, count: int, seed: int
) -> list[list[int]]:
    """Prompts from training stories: 40 % conditions, the others openings of 4 to 24 tokens."""
    rng = random.Random(f"{seed}/openings")
    short = [w for w in works if len(w) <= SHORT_CHARS]
    if not short:
        short = works
    prompts: list[list[int]] = []
    while len(prompts) < count:
        story = rng.choice(short)
        prefix = conditions.prefix(story, rng) if rng.random() < 0.4 else ""
        ids = encode_works(stream.tokenizer, [prefix or story])[0].tolist()
        prompts.append(ids if prefix else ids[: rng.randint(5, 25)])
    return prompts


def continue_batch(
    model: Any, prompts: torch.Tensor, new_tokens: int, temperature: float, seed: int
) -> list[list[int]]:
    """Continue prompts (B, P) of one length up to ``new_tokens`` tokens or ``<|endoftext|>``.

    Each returned text starts with its prompt and ends before its end token.
    """
    sampling = {"temperature": temperature, "top_k": 0} if temperature else {}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        texts = model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=new_tokens,
            do_sample=bool(sampling),
            eos_token_id=END_ID,
            pad_token_id=END_ID,
            # Written in place: a growing cache would be copied at every token.
            cache_implementation="static",
            disable_compile=True,
            **sampling,
        ).tolist()
    return [t[: t.index(END_ID, 1)] if END_ID in t[1:] else t for t in texts]


def generate_stories(session: Session, target: LlamaForCausalLM, stream: TokenStream) -> np.ndarray:
    """The target's own stories as one row of ids, cached in the work folder batch by batch."""
    recipe, path = session.recipe, session.work / "generated.pt"
    texts: list[list[int]] = torch.load(path, weights_only=True) if path.is_file() else []
    works = [
        w
        for n, ws in session.corpus.train.items()
        for w in ws
        if recipe.phases[-1].mix.get(n, recipe.phases[-1].mix.get("*", 0.0)) >= 1
    ]
    count = recipe.generate_stories
    prompts = sorted(
        opening_prompts(works, stream, session.conditions, count, session.args.seed), key=len
    )
    batches = [
        same[i : i + BATCH]
        for _, group in groupby(prompts, len)
        if (same := list(group))
        for i in range(0, len(same), BATCH)
    ]
    random.Random(0).shuffle(batches)
    model = target.bfloat16() if session.bfloat16 else target
    bar = tqdm(total=count, initial=len(texts), desc="stories", unit="story")
    skip = len(texts)
    for number, batch in enumerate(batches):
        if skip >= len(batch):  # made in an earlier session
            skip -= len(batch)
            continue
        temperature = 0.0 if number % 10 < 10 * GREEDY_SHARE else TEMPERATURE
        ids = torch.tensor(batch, device=session.accelerator.device)
        texts += continue_batch(model, ids, recipe.story_tokens, temperature, number)
        _write(path, texts)
        bar.update(len(batch))
    bar.close()
    random.Random(1).shuffle(texts)
    return np.concatenate([np.array(t, dtype=np.int64) for t in texts])


def _write(path: Path, texts: list[list[int]]) -> None:
    partial = path.with_suffix(".partial")
    torch.save(texts, partial)
    partial.replace(path)


def mixed_batches(
    own: np.ndarray, stream: TokenStream, recipe: Recipe, step: int, steps: int, count: int
) -> list[Batch]:
    """A step's rows: two steps in three on the target's stories (cyclic), one on the text."""
    length = row_length(recipe, step / steps)
    if step % 3:
        at = (step - step // 3 - 1) * count
        ids = own[np.arange(at, at + count) % len(own)]
    else:
        ids = stream.at(step // 3 * count, count, steps * count)
    rows = torch.from_numpy(ids).view(-1, length)
    return [{"input_ids": rows, "labels": rows}]


@torch.no_grad()
def argmax_agreement(
    draft: LlamaForCausalLM, target: LlamaForCausalLM, rows: torch.Tensor
) -> float:
    """Share of positions of ``rows`` (R, T) where both models predict the same next token."""
    device = next(draft.parameters()).device
    same = [
        (draft(input_ids=c).logits.argmax(-1) == target(input_ids=c).logits.argmax(-1)).float()
        for c in rows.to(device).split(8)
    ]
    return torch.cat(same).mean().item()


def distill_stage(session: Session) -> None:
    """Train the draft on the target's predictions, starting from the draft stage's weights."""
    recipe, args = session.recipe, session.args
    draft = session.trained("draft", recipe.draft)
    target = session.trained("target", recipe.target)
    plan = session.plan("distill", args.distill_tokens or recipe.distill_tokens, recipe.distill_lr)
    stream = session.stream(recipe.draft_phases or recipe.phases[-1:])
    if session.accelerator.is_main_process:
        generate_stories(session, target, stream)
    session.accelerator.wait_for_everyone()
    own = generate_stories(session, target, stream)  # from the file, on every rank
    target = session.trained("target", recipe.target)
    rows = validation_rows(session.tokenizer, session.held_stories, recipe.rows[0][1], 32_768)
    dtype = torch.bfloat16 if session.bfloat16 else torch.float32
    started = Checkpoint(session.work, plan).path.is_file()

    def measure() -> dict[str, float]:
        return {
            "validation": round(validation_loss(draft, rows), 4),
            "agreement": round(argmax_agreement(draft, target, rows[:, :-1]), 4),
        }

    if not started:
        session.note(draft_before=measure())
    draft.train()
    log = train(
        draft,
        DistillLoss(draft, target, dtype),
        lambda step: mixed_batches(own, stream, recipe, step, plan.steps, plan.tokens_per_step),
        plan,
        session.accelerator,
        session.work,
        measure,
    )
    session.note(
        distill_log=log,
        distill_tokens=plan.steps * plan.tokens_per_step,
        generated_tokens=len(own),
        generated_stories=recipe.generate_stories,
    )
