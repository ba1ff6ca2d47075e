"""Optimisers, the learning-rate schedule, and whether bfloat16 is fast on this machine."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch
from torch import nn

from ..models.devices import has_bfloat16


def fast_bfloat16(device: torch.device) -> bool:
    """Whether a bfloat16 matrix product beats float32 here by a fifth, measured in milliseconds.

    CPUs without bfloat16 units emulate it and are many times slower, so it must be measured.
    """
    if device.type == "cuda":
        return has_bfloat16(device)
    times = []
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.ones(512, 512, dtype=dtype, device=device)
        torch.mm(a, a)
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            torch.mm(a, a)
            best = min(best, time.perf_counter() - start)
        times.append(best)
    return times[0] > 1.2 * times[1]


def remembered_bfloat16(device: torch.device, folder: Path) -> bool:
    """``fast_bfloat16``, measured once for a folder of checkpoints: a run that goes on must go on
    in the same arithmetic, also where the machine was too busy to say what is faster."""
    file = folder / "bfloat16"
    if not file.is_file():
        partial = file.with_suffix(".partial")
        partial.write_text(str(int(fast_bfloat16(device))), encoding="utf-8")
        os.replace(partial, file)
    return file.read_text(encoding="utf-8") == "1"


def make_optimizers(model: nn.Module, lr: float, muon: bool) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices and AdamW for the rest, or AdamW for everything.

    Muon (torch.optim.Muon, scaled to AdamW's step size) learns more from each token but works in
    bfloat16. Each optimiser's base rate is kept in its groups as ``base_lr``.
    """
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    hidden = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in hidden]
    found: list[torch.optim.Optimizer] = []
    if muon:
        found.append(
            torch.optim.Muon(
                matrices, lr=lr, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"
            )
        )
        groups = [{"params": rest, "weight_decay": 0.0}]
    else:
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
        lr = lr / 2
    found.append(torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), eps=1e-10))
    for optimizer in found:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return found


def rate(done: float, warmup: float, decay: float) -> float:
    """Learning-rate factor at share ``done`` of training: up, level, then straight down to 1 %."""
    if done < warmup:
        return (done + 1e-3) / (warmup + 1e-3)
    if done < 1 - decay:
        return 1.0
    return max(0.01, (1 - done) / decay)
