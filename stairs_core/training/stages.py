"""The stages of ``stairs train``: tokenizer, target, draft, distill, export."""

from __future__ import annotations

import argparse
import random

import torch
from accelerate import Accelerator

from ..errors import InputError
from .build import build, start_from
from .common import check_seed
from .conditions import SHORT_CHARS
from .distill import distill_stage
from .evaluate import validation_loss, validation_rows
from .export import export_stage
from .recipes import Recipe, get_recipe
from .session import Session, row_length
from .space.objective import add_mask_groups, draw_anchors
from .stream import TokenStream
from .tokenizer import train_tokenizer
from .trainer import Batch, LanguageLoss, Plan, train


def text_batches(
    stream: TokenStream, recipe: Recipe, plan: Plan, step: int, seed: int, space: bool, read: int
) -> list[Batch]:
    """A step's rows; with ``space``, every second row in the last quarter has mask groups.

    ``read``: tokens that an earlier run has read; the text continues there.
    """
    done = step / plan.steps
    length = row_length(recipe, done)
    count = plan.tokens_per_step
    ids = torch.from_numpy(stream.at(read + step * count, count + 1, read + plan.tokens))
    rows, labels = ids[:-1].view(-1, length), ids[1:].view(-1, length)
    if not space or done < recipe.space_from:
        return [{"input_ids": rows, "labels": labels}]
    anchors = draw_anchors(
        len(rows[1::2]), length, torch.Generator().manual_seed(seed * 1_000_003 + step)
    )
    return [
        {"input_ids": rows[::2], "labels": labels[::2]},
        add_mask_groups(rows[1::2], labels[1::2], anchors),
    ]


def tokenizer_stage(session: Session) -> None:
    """Train the tokenizer on the training works and write the held-out prompts."""
    from .prompts import write_prompts

    if (session.work / "tokenizer" / "tokenizer.json").is_file():
        return
    train_works = session.corpus.train
    weights = {
        n: max(p.mix.get(n, p.mix.get("*", 0.0)) for p in session.recipe.phases)
        for n in train_works
    }
    # Each source counts as often as it is read in a pass, but at most once.
    texts = [
        w
        for n, works in train_works.items()
        for w in works[: max(1, round(len(works) * min(1.0, weights[n])))]
    ]
    tokenizer = train_tokenizer(texts, session.recipe.vocab, session.recipe.positions)
    tokenizer.save_pretrained(session.work / "tokenizer")
    short = [w for w in session.held_stories if len(w) <= SHORT_CHARS]
    write_prompts(session.args.prompts, short, session.conditions)
    session.note(
        sources={
            n: {
                "train": len(train_works[n]),
                "held": len(session.corpus.held[n]),
                "characters": sum(map(len, train_works[n])),
            }
            for n in train_works
        }
    )


def text_stage(session: Session, name: str) -> None:
    """Train the target or the draft on the text, from scratch or from its checkpoint."""
    recipe, args = session.recipe, session.args
    target = name == "target"
    shape = recipe.target if target else recipe.draft
    tokens = (
        (args.target_tokens or recipe.target_tokens)
        if target
        else (args.draft_tokens or recipe.draft_tokens)
    )
    plan = session.plan(name, tokens, recipe.target_lr if target else recipe.draft_lr)
    model = build(shape, recipe, args.seed)
    earlier = start_from(model, args.target_from) if target and args.target_from else {}
    read = earlier.get("target_tokens", 0)
    phases = recipe.phases if target else recipe.draft_phases or recipe.phases[-1:]
    stream = session.stream(phases)
    rows = validation_rows(session.tokenizer, session.held_stories, recipe.rows[0][1], 32_768)

    def batches(step: int) -> list[Batch]:
        return text_batches(stream, recipe, plan, step, args.seed, space=target, read=read)

    dtype = torch.bfloat16 if session.bfloat16 else torch.float32
    log = train(
        model,
        LanguageLoss(model, dtype),
        batches,
        plan,
        session.accelerator,
        session.work,
        lambda: {"validation": round(validation_loss(model, rows), 4)},
    )
    now = plan.steps * plan.tokens_per_step
    if read:
        log = earlier["target_log"] + [{**e, "tokens": e["tokens"] + read} for e in log]
        session.note(target_runs=[*earlier.get("target_runs", [read]), now])
    session.note(**{f"{name}_log": log, f"{name}_tokens": read + now})


def _check(args: argparse.Namespace) -> None:
    """What can be refused before hours of training."""
    check_seed(args.seed)
    for name in ("target_tokens", "draft_tokens", "distill_tokens"):
        count = getattr(args, name)
        if count is not None and count < 1:
            option = name.replace("_", "-")
            raise InputError(f"--{option} is {count}, but must be 1 or more: or leave it out.")
    for option, folder in (("out", args.out), ("work", args.work)):
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is no folder: name another as --{option}.")


def run(args: argparse.Namespace) -> dict:
    """Run ``args.stage``; see ``command.main``."""
    recipe = get_recipe(args.recipe)
    _check(args)
    args.prompts = args.prompts or args.out.parent / "prompts" / "heldout.txt"
    accelerator = Accelerator(cpu=args.device == "cpu")
    if args.device not in ("auto", accelerator.device.type):
        raise InputError(
            f"This machine has no {args.device!r} device for training: pass --device auto or cpu."
        )
    args.work.mkdir(parents=True, exist_ok=True)
    random.seed(args.seed)
    session = Session(args, recipe, accelerator, args.work)
    wanted = args.stage
    if wanted in ("all", "tokenizer") and accelerator.is_main_process:
        tokenizer_stage(session)
    accelerator.wait_for_everyone()
    for name in ("target", "draft"):
        if wanted in ("all", name):
            text_stage(session, name)
    if wanted in ("all", "distill"):
        distill_stage(session)
    if wanted in ("all", "export") and accelerator.is_main_process:
        export_stage(session)
    return session.note()
