"""The loop that trains any kind of head.

The batch of a step depends only on its number and the seed. So a run that was killed and resumed
gives the same weights, and loses at most the time since its last checkpoint.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
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
    without it they are read from the files beside the texts, one file after the other, as they are
    too much for memory. With it, texts of all files share a step."""

    def __init__(self, files: Sequence[Path], plan: Plan, states: States | None = None) -> None:
        self._plan, self._states = plan, states
        self._parts = [[file] for file in files] if states is None else [[*files]]
        self._read: tuple[int, _Texts] | None = None  # the last part, by its number
        with safe_open(files[0], "pt") as first:
            per_file, self.length = first.get_slice("ids").get_shape()
        self.texts = per_file * len(files)
        self._per_part = self.texts // len(self._parts)
        self._texts = min(plan.texts, self._per_part)
        self._steps_a_part = self._per_part // self._texts
        self.steps = max(1, round(plan.passes * len(self._parts) * self._steps_a_part))

    @property
    def tokens(self) -> int:
        """Of a step, padding included."""
        return self._texts * self.length

    def __call__(self, step: int) -> Batch:
        """``ids`` [texts, length], ``lengths`` and ``starts`` [texts]. ``hidden`` too, where it was
        kept."""
        done, at = divmod(step, len(self._parts) * self._steps_a_part)
        # Parts, and the steps of each, are shuffled in each pass. Texts of like length share a
        # step, so that little of it is padding.
        order = self._shuffled(len(self._parts), done)
        number, turn = divmod(at, self._steps_a_part)
        part = int(order[number])
        texts = self._part(part)
        return texts.batch(self._rows(texts.lengths, done, part, turn))

    def complete(self, batch: Batch) -> Batch:
        """With ``hidden`` [texts, length, layers, width], bfloat16."""
        return batch if self._states is None else {**batch, "hidden": self._states(batch["ids"])}

    def _rows(self, lengths: torch.Tensor, done: int, part: int, turn: int) -> torch.Tensor:
        """The texts of step ``turn`` of a part, in a pass."""
        shuffled = self._shuffled(self._per_part, done, part)
        alike = shuffled[lengths[shuffled].argsort(stable=True)]
        first = int(self._shuffled(self._steps_a_part, done, part, 1)[turn])
        return alike[first * self._texts :][: self._texts]

    def _shuffled(self, count: int, *key: int) -> torch.Tensor:
        seed = hash((self._plan.seed, *key)) % 2**31
        return torch.randperm(count, generator=torch.Generator().manual_seed(seed))

    def _part(self, number: int) -> _Texts:
        if self._read is None or self._read[0] != number:
            self._read = number, _Texts(self._parts[number], kept=self._states is None)
        return self._read[1]


class _Texts:
    """The texts of some files; of one file also its hidden states, if they were ``kept``."""

    def __init__(self, files: Sequence[Path], *, kept: bool) -> None:
        found = [load_file(file) for file in files]
        self._ids, self.lengths = (
            torch.cat([f[name] for f in found]) for name in ("ids", "lengths")
        )
        none = torch.zeros_like(self.lengths)
        self._starts = torch.cat([f["starts"] for f in found]) if "starts" in found[0] else none
        self._hidden = safe_open(place(files[0]), "pt") if kept else None

    def batch(self, rows: torch.Tensor) -> Batch:
        """Those of ``rows``, as long as the longest of them."""
        lengths = self.lengths[rows].long()
        longest = int(lengths.max())
        batch = {"ids": self._ids[rows, :longest].long(), "lengths": lengths}
        batch["starts"] = self._starts[rows].long()
        if self._hidden is not None:
            hidden = self._hidden.get_slice("hidden")
            batch["hidden"] = torch.cat([hidden[row : row + 1, :longest] for row in rows.tolist()])
        return batch


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
    was asked to stop."""
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
    sums, counts = dict[str, Any](), Counter[str]()
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
            sums |= {k: sums.get(k, 0.0) + v for k, v in shown.items()}
            counts.update(shown.keys())
            bar.update(batches.tokens)
            done = step + 1
            over = done == batches.steps
            over = over or ranks.any(_share(done, batches.steps, began, plan.seconds) >= 1)
            if done % 50 == 0 or over:
                means = {k: round(float(v) / counts[k], 4) for k, v in sums.items()}
                log.append({"step": done, **means})
                bar.set_postfix({k: f"{v:.3f}" for k, v in log[-1].items() if k != "step"})
                sums, counts = {}, Counter()
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
