"""The stages of ``stairs train``: tokenizer, target, draft, distill, export."""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from accelerate import Accelerator
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from ..errors import InputError
from .build import build, start_from
from .conditions import SHORT_CHARS, Conditions
from .corpus import Corpus, read_corpus, source_names
from .evaluate import validation_loss, validation_rows
from .optim import fast_bfloat16
from .recipes import Recipe, Shape, get_recipe
from .space import add_mask_groups, draw_anchors
from .stream import TokenStream
from .tokenizer import load_tokenizer, train_tokenizer
from .trainer import Batch, Checkpoint, LanguageLoss, Plan, train

VALIDATION = "tinystories"
"""Sources whose name begins so carry the main validation loss, where the corpus has them."""


@dataclass
class Sitting:
    """What the stages share: options, recipe, device, and the data, read when first needed."""

    args: argparse.Namespace
    recipe: Recipe
    accelerator: Accelerator
    work: Path

    @cached_property
    def corpus(self) -> Corpus:
        """The sources the recipe gives any weight."""
        mixes = [p.mix for p in (*self.recipe.phases, *self.recipe.draft_phases)]
        names = source_names(self.args.corpus)
        return read_corpus(
            self.args.corpus, [n for n in names if any(m.get(n, m.get("*", 0.0)) for m in mixes)]
        )

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer the tokenizer stage made."""
        return load_tokenizer(self.work / "tokenizer")

    @cached_property
    def conditions(self) -> Conditions:
        """The word band, from the training works."""
        return Conditions(w for works in self.corpus.train.values() for w in works)

    @cached_property
    def held_stories(self) -> list[str]:
        """Held-out works of the sources that carry the main validation loss."""
        held = self.corpus.held
        main = [w for n, works in held.items() if n.startswith(VALIDATION) for w in works]
        return main or [w for works in held.values() for w in works]

    @cached_property
    def bfloat16(self) -> bool:
        """Whether passes run under bfloat16 autocast."""
        if self.args.dtype == "auto":
            return fast_bfloat16(self.accelerator.device)
        return self.args.dtype == "bfloat16"

    def stream(self, phases: tuple) -> TokenStream:
        """The training text of some phases."""
        return TokenStream(self.corpus, self.tokenizer, self.conditions, phases, self.args.seed)

    def plan(self, name: str, tokens: int, lr: float) -> Plan:
        """The loop's orders for one model."""
        assert self.tokenizer is not None  # refuses, in words, a work folder without one
        entries = (self.work / "tokenizer" / "tokenizer.json").read_bytes()
        digest = hashlib.sha256(entries).hexdigest()[:12]
        want = self.args.optimizer
        return Plan(
            name=name,
            tokens=tokens,
            tokens_per_step=self.recipe.tokens_per_step,
            lr=lr,
            warmup=self.recipe.warmup,
            decay=self.recipe.decay,
            fingerprint=f"{self.recipe.name}/{name}/{self.args.seed}/{digest}",
            muon=self.bfloat16 if want == "auto" else want == "muon",
            compile=self.recipe.compile if self.args.compile is None else self.args.compile,
            stop_after=getattr(self.args, "stop_after", None),
        )

    def trained(self, name: str, shape: Shape) -> LlamaForCausalLM:
        """A model with the weights of a stage's checkpoint; ``InputError`` when there is none."""
        model = build(shape, self.recipe, self.args.seed)
        step, _ = Checkpoint(self.work, self.plan(name, 1, 0.0)).load(model)
        if not step:
            raise InputError(
                f"There is no trained {name} in {self.work}: run --stage {name} first."
            )
        return model.to(self.accelerator.device).eval()

    def note(self, **facts: object) -> dict:
        """Add facts to ``metrics.json`` in the work folder and return all of them."""
        path = self.work / "metrics.json"
        known = json.loads(path.read_text()) if path.is_file() else {}
        known.update(facts)
        if self.accelerator.is_main_process:
            path.write_text(json.dumps(known, indent=1))
        return known


def row_length(recipe: Recipe, done: float) -> int:
    """Tokens in a row at share ``done`` of training."""
    return next((length for until, length in recipe.rows if done < until), recipe.rows[-1][1])


def text_batches(
    stream: TokenStream, recipe: Recipe, plan: Plan, step: int, seed: int, space: bool, read: int
) -> list[Batch]:
    """A step's rows; with ``space``, every second row of the last quarter carries mask groups.

    ``read`` is the tokens an earlier run read: the text goes on from there.
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


def tokenizer_stage(sitting: Sitting) -> None:
    """Train the tokenizer on the training works and write the held-out prompts."""
    from .prompts import write_prompts

    if (sitting.work / "tokenizer" / "tokenizer.json").is_file():
        return
    train_works = sitting.corpus.train
    weights = {
        n: max(p.mix.get(n, p.mix.get("*", 0.0)) for p in sitting.recipe.phases)
        for n in train_works
    }
    # A source counts as it is read: at most once, and a rarely read one in proportion.
    texts = [
        w
        for n, works in train_works.items()
        for w in works[: max(1, round(len(works) * min(1.0, weights[n])))]
    ]
    tokenizer = train_tokenizer(texts, sitting.recipe.vocab, sitting.recipe.positions)
    tokenizer.save_pretrained(sitting.work / "tokenizer")
    short = [w for w in sitting.held_stories if len(w) <= SHORT_CHARS]
    write_prompts(sitting.args.prompts, short, sitting.conditions)
    sitting.note(
        sources={
            n: {
                "train": len(train_works[n]),
                "held": len(sitting.corpus.held[n]),
                "characters": sum(map(len, train_works[n])),
            }
            for n in train_works
        }
    )


def text_stage(sitting: Sitting, name: str) -> None:
    """Train the target or the draft on the text, from scratch or from its checkpoint."""
    recipe, args = sitting.recipe, sitting.args
    target = name == "target"
    shape = recipe.target if target else recipe.draft
    tokens = (
        (args.target_tokens or recipe.target_tokens)
        if target
        else (args.draft_tokens or recipe.draft_tokens)
    )
    plan = sitting.plan(name, tokens, recipe.target_lr if target else recipe.draft_lr)
    model = build(shape, recipe, args.seed)
    earlier = start_from(model, args.target_from) if target and args.target_from else {}
    read = earlier.get("target_tokens", 0)
    phases = recipe.phases if target else recipe.draft_phases or recipe.phases[-1:]
    stream = sitting.stream(phases)
    rows = validation_rows(sitting.tokenizer, sitting.held_stories, recipe.rows[0][1], 32_768)

    def batches(step: int) -> list[Batch]:
        return text_batches(stream, recipe, plan, step, args.seed, space=target, read=read)

    dtype = torch.bfloat16 if sitting.bfloat16 else torch.float32
    log = train(
        model,
        LanguageLoss(model, dtype),
        batches,
        plan,
        sitting.accelerator,
        sitting.work,
        lambda: {"validation": round(validation_loss(model, rows), 4)},
    )
    now = plan.steps * plan.tokens_per_step
    if read:
        log = earlier["target_log"] + [{**e, "tokens": e["tokens"] + read} for e in log]
        sitting.note(target_runs=[*earlier.get("target_runs", [read]), now])
    sitting.note(**{f"{name}_log": log, f"{name}_tokens": read + now})


def run(args: argparse.Namespace) -> dict:
    """Run ``args.stage``; see ``stairs_core.training.main``."""
    from .distill import distill_stage
    from .export import export_stage

    recipe = get_recipe(args.recipe)
    args.prompts = args.prompts or args.out.parent / "prompts" / "heldout.txt"
    accelerator = Accelerator(cpu=args.device == "cpu")
    if args.device not in ("auto", accelerator.device.type):
        raise InputError(
            f"This machine has no {args.device!r} device for training: pass --device auto or cpu."
        )
    args.work.mkdir(parents=True, exist_ok=True)
    random.seed(args.seed)
    sitting = Sitting(args, recipe, accelerator, args.work)
    wanted = args.stage
    if wanted in ("all", "tokenizer") and accelerator.is_main_process:
        tokenizer_stage(sitting)
    accelerator.wait_for_everyone()
    for name in ("target", "draft"):
        if wanted in ("all", name):
            text_stage(sitting, name)
    if wanted in ("all", "distill"):
        distill_stage(sitting)
    if wanted in ("all", "export") and accelerator.is_main_process:
        export_stage(sitting)
    return sitting.note()
