"""The processes that ``accelerate launch`` started, one a device; without it, there is one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from torch import nn

from ...errors import InputError
from ...models import devices

Result = TypeVar("Result")
PATIENCE = timedelta(days=7)
"""How long processes wait for the main one, which writes texts and features."""


class Ranks:
    """This process among all of them. ``main``: whether it is the one that writes files."""

    def __init__(self, device: str) -> None:
        handlers = [InitProcessGroupKwargs(timeout=PATIENCE)]
        self._all = Accelerator(cpu=device == "cpu", kwargs_handlers=handlers)  # type: ignore[arg-type]
        self.main, self.count = self._all.is_main_process, self._all.num_processes
        one = self.count == 1
        self.device = devices.device(device) if one else self._all.device

    def main_first(self, job: Callable[[], Result]) -> Result:
        """What ``job`` returns, which the main process runs before the others do: they find the
        files that it has written."""
        found = job() if self.main else None
        self._all.wait_for_everyone()
        return job() if found is None else found

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        if self.count == 1:
            return flag
        found: Any = self._all.reduce(torch.tensor(int(flag), device=self._all.device), "sum")
        return bool(found.item())

    def share(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """This process's rows of a step. Raises InputError where they cannot be shared evenly."""
        if self.count == 1:
            return batch
        rows = len(batch["ids"])
        if rows % self.count:
            raise InputError(
                f"{rows} texts a step cannot be shared by {self.count} processes: launch a number "
                "that divides them."
            )
        mine = slice(self._all.process_index, None, self.count)
        return {name: t[mine] if t.dim() else t for name, t in batch.items()}

    def average(self, module: nn.Module) -> None:
        """Gives every process the mean of all processes' gradients."""
        if self.count == 1:
            return
        for weight in module.parameters():
            if weight.grad is not None:
                mean: Any = self._all.reduce(weight.grad, "mean")
                weight.grad = mean
