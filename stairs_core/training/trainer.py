"""The training loop: one for the target, the draft and the distillation.

A step's data is a pure function of the step, and there is no dropout, so a run that was stopped
and resumed gives the weights it would have given without the stop.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn
from tqdm.auto import tqdm
from transformers import LlamaForCausalLM

from ..errors import InputError
from .optim import make_optimizers, rate
from .space.objective import IGNORE

Batch = dict[str, torch.Tensor]
SAVE_SECONDS = 45.0
"""A run that is killed loses at most what it did since its last checkpoint: under a minute."""


class LanguageLoss(nn.Module):
    """A causal model and its loss in one module, so that one call can be compiled or wrapped.

    ``forward`` takes ``input_ids`` and ``labels`` (B, T), labels already shifted, and optionally
    ``position_ids`` and a 4-D ``attention_mask``; it returns the cross-entropy in nats summed over
    the labelled positions.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype

    def logits(self, batch: Batch) -> torch.Tensor:
        """Logits (B, T, V) in the passes' own dtype."""
        device = next(self.model.parameters()).device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.dtype is torch.bfloat16):
            inputs = {k: v for k, v in batch.items() if k != "labels"}
            return self.model(**inputs, use_cache=False).logits

    def forward(self, batch: Batch) -> torch.Tensor:
        logits = self.logits(batch)
        return F.cross_entropy(
            logits.float().flatten(0, 1),
            batch["labels"].flatten(),
            ignore_index=IGNORE,
            reduction="sum",
        )


@dataclass(frozen=True)
class Plan:
    """The parameters of one run of the loop: sizes in tokens, and rates. ``fingerprint``:
    identifies the run that a checkpoint belongs to."""

    name: str
    tokens: int
    tokens_per_step: int
    lr: float
    warmup: float
    decay: float
    fingerprint: str
    muon: bool
    compile: bool
    eval_every: int = 100  # steps
    stop_after: int | None = None  # steps of this session; the tests stop half-way with it

    @property
    def steps(self) -> int:
        """Optimiser steps in the whole run."""
        return max(1, self.tokens // self.tokens_per_step)


class Checkpoint:
    """One file with weights, optimisers and position, replaced atomically by a rename."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.path, self.plan = folder / f"{plan.name}.pt", plan

    def save(self, model: LlamaForCausalLM, optimizers: list, step: int, log: list) -> None:
        """Write the state after ``step`` steps."""
        state = {
            "fingerprint": self.plan.fingerprint,
            "step": step,
            "log": log,
            "model": model.state_dict(),
            "optimizers": [o.state_dict() for o in optimizers],
        }
        partial = self.path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.path)

    def load(self, model: LlamaForCausalLM, optimizers: list | None = None) -> tuple[int, list]:
        """Restore and return (steps done, log); (0, []) without a checkpoint."""
        if not self.path.is_file():
            return 0, []
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        if state["fingerprint"] != self.plan.fingerprint:
            raise InputError(
                f"The checkpoint {self.path} belongs to another recipe, seed or "
                "tokenizer: pass its options again or another --work folder."
            )
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers or [], state["optimizers"], strict=False):
            optimizer.load_state_dict(saved)
        return state["step"], state["log"]


class _Stop:
    """Turns the first Ctrl-C or SIGTERM into a flag, so that a step is finished and saved."""

    def __enter__(self) -> _Stop:
        self.asked = False
        self.old = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self.old[number] = signal.signal(number, self._ask)
            except ValueError:  # not the main thread: nothing to catch there
                break
        return self

    def _ask(self, *_: object) -> None:
        self.asked = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self.old.items():
            signal.signal(number, handler)


def train(
    model: LlamaForCausalLM,
    loss: nn.Module,
    batches: Callable[[int], list[Batch]],
    plan: Plan,
    accelerator: Accelerator,
    work: Path,
    evaluate: Callable[[], dict[str, float]],
) -> list[dict]:
    """Train ``model`` through ``loss`` until the plan is done; resume from ``work`` if possible.

    ``batches(step)`` gives a step's micro-batches (all ranks' rows; each rank takes its share).
    Returns the log: one dict for each evaluation. Raises ``KeyboardInterrupt`` after saving when
    it was asked to stop.
    """
    model.to(accelerator.device)
    optimizers = make_optimizers(model, plan.lr, plan.muon)
    checkpoint = Checkpoint(work, plan)
    start, log = checkpoint.load(model, optimizers)
    if plan.compile:
        torch._dynamo.config.recompile_limit = 64  # one graph for each shape of row, not a loop
        loss.compile(dynamic=False)
    wrapped = accelerator.prepare(loss) if accelerator.num_processes > 1 else loss
    main, stop_at = accelerator.is_main_process, start + (plan.stop_after or plan.steps)
    bar = tqdm(
        total=plan.tokens,
        initial=start * plan.tokens_per_step,
        unit="tok",
        unit_scale=True,
        desc=plan.name,
        disable=not main,
        mininterval=2.0,
        dynamic_ncols=True,
    )
    saved = time.monotonic()
    with _Stop() as stop:
        for step in range(start, min(plan.steps, stop_at)):
            factor = rate(step / plan.steps, plan.warmup, plan.decay)
            value = _step(model, wrapped, batches(step), optimizers, factor, accelerator)
            bar.update(plan.tokens_per_step)
            if step % 10 == 0:
                bar.set_postfix(loss=f"{value.item():.3f}")
            done = step + 1
            if main and (done % plan.eval_every == 0 or done == plan.steps):
                log.append(
                    {
                        "step": done,
                        "tokens": done * plan.tokens_per_step,
                        "loss": round(value.item(), 4),
                        **evaluate(),
                    }
                )
                tqdm.write(f"{plan.name}: {log[-1]}", file=sys.stderr)
            asked = _any(stop.asked, accelerator)
            last = done in (plan.steps, stop_at) or asked
            if main and (last or time.monotonic() - saved > SAVE_SECONDS):
                checkpoint.save(model, optimizers, done, log)
                saved = time.monotonic()
            if asked:
                bar.close()
                raise KeyboardInterrupt(f"stopped and saved after step {done}")
    bar.close()
    accelerator.wait_for_everyone()
    return log


def _any(flag: bool, accelerator: Accelerator) -> bool:
    if accelerator.num_processes == 1:
        return flag
    flags: Any = accelerator.reduce(torch.tensor(int(flag), device=accelerator.device), "sum")
    return bool(flags.item())


def _step(
    model: LlamaForCausalLM,
    loss: nn.Module,
    batches: list[Batch],
    optimizers: list,
    factor: float,
    accelerator: Accelerator,
) -> torch.Tensor:
    """One optimiser step; returns the mean loss of a labelled token on this rank."""
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
    rank, world = accelerator.process_index, accelerator.num_processes
    labelled = sum(int((b["labels"] != IGNORE).sum()) for b in batches) / world
    total = torch.zeros((), device=accelerator.device)
    for batch in batches:
        if len(batch["input_ids"]) % world:
            raise InputError(
                f"{len(batch['input_ids'])} rows a step cannot be shared by {world} "
                "processes: launch a number that divides them."
            )
        share = {k: v[rank::world].to(accelerator.device) for k, v in batch.items()}
        value = loss(share) / labelled
        accelerator.backward(value)
        total += value.detach()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
    return total
