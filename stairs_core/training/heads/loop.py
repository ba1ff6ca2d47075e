"""The loop that trains any kind of head.

The batch of a step depends only on its number and the seed. So a run that was killed and resumed
gives the same weights, and loses at most the time since its last checkpoint.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from tqdm.auto import tqdm

from ...errors import InputError
from ..optim import make_optimizers, rate
from ..trainer import _Stop
from .features import place
from .ranks import Ranks

SAVE_SECONDS = 45.0
Batch = dict[str, torch.Tensor]
States = Callable[[torch.Tensor], torch.Tensor]
Loss = Callable[[Batch], tuple[torch.Tensor, dict[str, Any]]]
"""Of a batch: the mean loss in nats, and what else is worth showing, numbers or [] tensors."""


@dataclass(frozen=True)
class Plan:
    """``texts``: in one step. ``passes``: over all texts. ``fingerprint``: only a checkpoint with
    the same one is resumed. ``seconds``: after which training ends, however many steps were made:
    the learning rate falls as the time runs out. A run that is resumed has all of them again."""

    fingerprint: str
    texts: int = 16
    passes: float = 1.0
    lr: float = 2e-3
    warmup: float = 0.03
    decay: float = 0.5
    seed: int = 1
    muon: bool = True
    seconds: float | None = None
    stop_after: int | None = None  # steps of this session; the tests stop half-way with it


class Batches:
    """The texts of every step, and their hidden states. ``states``: computes these from ids;
    without it they are read from the files beside the texts."""

    def __init__(self, files: Sequence[Path], plan: Plan, states: States | None = None) -> None:
        self._files, self._plan, self._states = files, plan, states
        self._open: dict[int, tuple[Any, Any]] = {}
        with safe_open(files[0], "pt") as first:
            self.per_file, self.length = first.get_slice("ids").get_shape()
        self._texts = min(plan.texts, self.per_file)
        self._steps_a_file = self.per_file // self._texts
        self.steps = max(1, round(plan.passes * len(files) * self._steps_a_file))

    @property
    def tokens(self) -> int:
        """Of a step, padding included."""
        return self._texts * self.length

    def __call__(self, step: int) -> Batch:
        """``ids`` [texts, length], ``lengths`` and ``starts`` [texts]. ``hidden`` too, where it was
        kept."""
        in_all = len(self._files) * self._steps_a_file
        done, at = divmod(step, in_all)
        # A file is read for some steps on end; files, and the steps of each, are shuffled in each
        # pass. Texts of like length share a step, so that little of it is padding.
        order = self._shuffled(len(self._files), done)
        number, part = divmod(at, self._steps_a_file)
        texts, features = self._opened(order[number])
        ids, lengths = (texts.get_tensor(name).long() for name in ("ids", "lengths"))
        rows = self._rows(lengths, done, order[number], part)
        longest = int(lengths[rows].max())
        starts = torch.zeros_like(lengths)
        if "starts" in texts.keys():  # noqa: SIM118 - it is no dict
            starts = texts.get_tensor("starts").long()
        batch = {"ids": ids[rows, :longest], "lengths": lengths[rows], "starts": starts[rows]}
        if features is not None:
            hidden = features.get_slice("hidden")
            batch["hidden"] = torch.cat([hidden[row : row + 1, :longest] for row in rows.tolist()])
        return batch

    def complete(self, batch: Batch) -> Batch:
        """With ``hidden`` [texts, length, layers, width], bfloat16."""
        return batch if self._states is None else {**batch, "hidden": self._states(batch["ids"])}

    def _rows(self, lengths: torch.Tensor, done: int, file: int, part: int) -> torch.Tensor:
        """The texts of step ``part`` of a file, in a pass."""
        shuffled = torch.tensor(self._shuffled(self.per_file, done, file))
        alike = shuffled[lengths[shuffled].argsort(stable=True)]
        first = int(torch.tensor(self._shuffled(self._steps_a_file, done, file, 1))[part])
        return alike[first * self._texts :][: self._texts]

    def _shuffled(self, count: int, *key: int) -> list[int]:
        seed = hash((self._plan.seed, *key)) % 2**31
        return torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()

    def _opened(self, file: int) -> tuple[Any, Any]:
        if file not in self._open:
            path = self._files[file]
            kept = safe_open(place(path), "pt") if self._states is None else None
            self._open = {file: (safe_open(path, "pt"), kept)}
        return self._open[file]


class ReadAhead:
    """The same batches, each of which is read during the step before it. For a device that works
    by itself meanwhile: on a CPU, two threads of torch would fight for its cores."""

    def __init__(self, batches: Batches) -> None:
        self._batches, self._reader = batches, ThreadPoolExecutor(1)
        self.steps, self.tokens = batches.steps, batches.tokens
        self._coming: tuple[int, Future[Batch]] | None = None

    def __call__(self, step: int) -> Batch:
        known, self._coming = self._coming, None
        batch = known[1].result() if known and known[0] == step else self._batches(step)
        if step + 1 < self.steps:
            self._coming = step + 1, self._reader.submit(self._batches, step + 1)
        return batch


def taught(batch: Batch, device: torch.device) -> torch.Tensor:
    """[texts, length]: whether a token is one that heads learn to guess. Prompts are none."""
    places = torch.arange(batch["ids"].shape[1])
    there = (places < batch["lengths"][:, None]) & (places >= batch["starts"][:, None])
    return there.to(device)


def train(
    name: str,
    module: nn.Module,
    loss: Loss,
    batches: Batches | ReadAhead,
    plan: Plan,
    file: Path,
    ranks: Ranks,
) -> list[dict[str, float]]:
    """Trains ``module`` and returns the log: a dict for every 50 steps, and for the last. Resumes
    from the checkpoint ``file`` if there is one. Raises KeyboardInterrupt, after saving, when it
    was asked to stop.
    """
    optimizers = make_optimizers(module, plan.lr, plan.muon)
    start, log = _restore(file, plan, module, optimizers)
    end = min(batches.steps, start + (plan.stop_after or batches.steps))
    bar = tqdm(
        total=batches.steps * batches.tokens,
        initial=start * batches.tokens,
        desc=name,
        unit="tok",
        unit_scale=True,
        mininterval=2.0,
        disable=not ranks.main,
    )
    began = saved = time.monotonic()
    sums, count = dict[str, Any](), 0
    with _Stop() as stop:
        for step in range(start, end):
            share = _share(step, batches.steps, began, plan.seconds)
            factor = rate(share, plan.warmup, plan.decay)
            batch = {**batches(step), "done": torch.tensor(share)}
            value, shown = loss(ranks.share(batch))
            value.backward()
            ranks.average(module)
            _update(module, optimizers, factor)
            # Summed where they are: to read one waits for the device.
            shown = {"loss": value.detach(), **shown}
            sums, count = {k: sums.get(k, 0.0) + v for k, v in shown.items()}, count + 1
            bar.update(batches.tokens)
            done = step + 1
            over = done == batches.steps
            over = over or ranks.any(_share(done, batches.steps, began, plan.seconds) >= 1)
            if done % 50 == 0 or over:
                means = {k: round(float(v) / count, 4) for k, v in sums.items()}
                log.append({"step": done, **means})
                bar.set_postfix({k: f"{v:.3f}" for k, v in log[-1].items() if k != "step"})
                sums, count = {}, 0
            asked = ranks.any(stop.asked)
            late = time.monotonic() - saved > SAVE_SECONDS
            if ranks.main and (late or asked or over or done == end):
                _save(file, plan, module, optimizers, done, log)
                saved = time.monotonic()
            if over:
                break
            if asked:
                bar.close()
                raise KeyboardInterrupt(f"{name}: stopped after {done} of {batches.steps} steps")
    bar.close()
    return log


def _update(module: nn.Module, optimizers: list[Any], factor: float) -> None:
    """One step along the gradients, which it clears; ``factor``: of the learning rate."""
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def _share(step: int, steps: int, began: float, seconds: float | None) -> float:
    """Of training, before a step: by steps or by time, whichever is further."""
    by_time = (time.monotonic() - began) / seconds if seconds else 0.0
    return max(step / steps, by_time)


def _save(
    file: Path, plan: Plan, module: nn.Module, optimizers: list[Any], step: int, log: list
) -> None:
    state = {
        "fingerprint": plan.fingerprint,
        "step": step,
        "log": log,
        "module": module.state_dict(),
        "optimizers": [o.state_dict() for o in optimizers],
    }
    partial = file.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, file)


def _restore(
    file: Path, plan: Plan, module: nn.Module, optimizers: list[Any]
) -> tuple[int, list[dict[str, float]]]:
    """(steps done, log); (0, []) without a checkpoint."""
    if not file.is_file():
        return 0, []
    state = torch.load(file, map_location="cpu", weights_only=True)
    if state["fingerprint"] != plan.fingerprint:
        raise InputError(
            f"The checkpoint {file} was made with other options or for another target: give those "
            "again, or another --work folder."
        )
    module.load_state_dict(state["module"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return state["step"], state["log"]
