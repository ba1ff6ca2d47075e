"""One training run: what its stages share, and the facts that they note in ``metrics.json``."""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from accelerate import Accelerator
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from ..errors import InputError
from .build import build
from .conditions import Conditions
from .corpus import Corpus, read_corpus, source_names
from .optim import remembered_bfloat16
from .recipes import Recipe, Shape
from .stream import TokenStream
from .tokenizer import load_tokenizer
from .trainer import Checkpoint, Plan

VALIDATION = "tinystories"
"""The main validation loss is over sources whose name begins so, where the corpus has any."""


@dataclass
class Session:
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
        """The words that conditions are made of, from the training works."""
        return Conditions(w for works in self.corpus.train.values() for w in works)

    @cached_property
    def held_stories(self) -> list[str]:
        """Held-out works of the sources that the main validation loss is over."""
        held = self.corpus.held
        main = [w for n, works in held.items() if n.startswith(VALIDATION) for w in works]
        return main or [w for works in held.values() for w in works]

    @cached_property
    def bfloat16(self) -> bool:
        """Whether passes run under bfloat16 autocast."""
        if self.args.dtype == "auto":
            return remembered_bfloat16(self.accelerator.device, self.work)
        return self.args.dtype == "bfloat16"

    def stream(self, phases: tuple) -> TokenStream:
        """The training text of some phases."""
        return TokenStream(self.corpus, self.tokenizer, self.conditions, phases, self.args.seed)

    def plan(self, name: str, tokens: int, lr: float) -> Plan:
        """What the training loop needs to know to train one model."""
        assert self.tokenizer is not None  # raises InputError for a work folder without one
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
