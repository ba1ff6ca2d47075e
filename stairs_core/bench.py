"""Prompts x lanes x repeats, every lane in a race of its own against the target alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from . import text
from .errors import InputError
from .metrics import compare, fold
from .models import BUNDLED, Pair
from .race import Runner, race
from .settings import Settings

HELD_OUT = BUNDLED.parent / "prompts" / "heldout.txt"
"""Prompts from stories that the bundled pair was never trained on."""


@dataclass(slots=True)
class Row:
    """One lane over all prompts and repeats; one entry a race in each list.

    ``speedup``: over plain decoding in the same race. ``other_share``: engine work outside the
    models' passes, as a share of the lane's time. ``same``: races in which the text was identical.
    """

    name: str
    speedup: list[float] = field(default_factory=list)
    tokens_per_second: list[float] = field(default_factory=list)
    tokens_per_target_call: list[float] = field(default_factory=list)
    alpha: list[float] = field(default_factory=list)
    other_share: list[float] = field(default_factory=list)
    same: int = 0

    def to_dict(self) -> dict:
        """Medians, with the quartiles of the speedup."""
        low, middle, high = quartiles(self.speedup)
        return {
            "name": self.name,
            "races": len(self.speedup),
            "speedup": middle,
            "speedup_quartiles": [low, high],
            "tokens_per_second": _median(self.tokens_per_second),
            "tokens_per_target_call": _median(self.tokens_per_target_call),
            "alpha": _median(self.alpha),
            "other_share": _median(self.other_share),
            "identical": self.same,
        }


def read_prompts(file: str | Path, count: int) -> list[str]:
    r"""``count`` prompts of a file that has one a line, with line breaks written ``\n``."""
    path = Path(file)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"The prompts in {path} cannot be read: name a text file.") from e
    prompts = [line.replace("\\n", "\n") for line in lines if line.strip()]
    if not prompts:
        raise InputError(f"{path} has no prompts: write one a line.")
    # Spread over the file, because its halves may be of different kinds.
    step = max(1, len(prompts) // count)
    return prompts[::step][:count]


def bench(
    pair: Pair, stock: Pair, prompts: Sequence[str], lanes: dict[str, Settings], repeats: int
) -> Iterator[list[Row]]:
    """Yields the rows as they stand after every prompt; the last are the result.

    Lanes are interleaved, so that whatever slows the machine for a while hits all of them. The row
    "transformers" is ``generate(do_sample=False)`` of ``stock``, the same pair loaded with
    ``pack=False``, timed beside a plain run of ours.
    """
    rows = {name: Row(name) for name in (*lanes, "transformers")}
    for _ in range(repeats):
        for prompt in prompts:
            for name, settings in lanes.items():
                _race_once(pair, prompt, settings, rows[name])
            length = max(s.max_new_tokens for s in lanes.values())
            plain = Settings("none", max_new_tokens=length)
            _against_generate(pair, stock, prompt, plain, rows["transformers"])
            yield list(rows.values())


def _race_once(pair: Pair, prompt: str, settings: Settings, row: Row) -> None:
    plain = Settings("none", max_new_tokens=settings.max_new_tokens, chat=settings.chat)
    runners = [Runner(pair, prompt, plain), Runner(pair, prompt, settings)]
    for _ in race(runners):
        pass
    result = compare(*(r.recording() for r in runners))
    summary = fold(runners[1].steps)
    if result.speedup is not None:
        row.speedup.append(result.speedup)
    row.tokens_per_second.append(summary.tokens_per_second)
    row.tokens_per_target_call.append(summary.tokens_per_target_call)
    row.alpha += [] if summary.alpha is None else [summary.alpha]
    row.other_share.append(summary.other_seconds / summary.seconds)
    row.same += result.identical


def _against_generate(pair: Pair, stock: Pair, prompt: str, settings: Settings, row: Row) -> None:
    plain = Runner(pair, prompt, settings)
    plain.warm_up()
    ours = [t.id for step in plain.decode() for t in step.committed]
    ids, seconds = greedy_by_transformers(stock, prompt, settings)
    row.speedup.append(plain.clock.elapsed / seconds)
    row.tokens_per_second.append(len(ids) / seconds)
    row.tokens_per_target_call.append(1.0)
    row.same += ids == ours


def greedy_by_transformers(pair: Pair, prompt: str, settings: Settings) -> tuple[list[int], float]:
    """The new ids of ``generate(do_sample=False)``, and the seconds it took."""
    ids = text.encode(
        pair.tokenizer, prompt, chat=settings.chat, context_length=pair.context_length
    )
    inputs = torch.tensor([ids], device=pair.device)
    room = pair.context_length - len(ids)
    began = time.perf_counter()
    out = pair.target.generate(
        inputs,
        attention_mask=torch.ones_like(inputs),
        do_sample=False,
        max_new_tokens=min(settings.max_new_tokens, room),
        eos_token_id=sorted(pair.eos_ids) or None,
        pad_token_id=min(pair.eos_ids, default=0),
    )
    new = out[0, len(ids) :].tolist()
    return new, time.perf_counter() - began


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    head = "| lane | speedup (quartiles) | tokens/s | tokens a target call | alpha | same text |"
    lines = [head, "|---|---|---|---|---|---|"]
    for row in rows:
        low, middle, high = quartiles(row.speedup)
        alpha = f"{_median(row.alpha):.2f}" if row.alpha else "-"
        lines.append(
            f"| {row.name} | {middle:.2f} ({low:.2f} to {high:.2f}) "
            f"| {_median(row.tokens_per_second):.0f} | {_median(row.tokens_per_target_call):.2f} "
            f"| {alpha} | {row.same} of {len(row.speedup)} |"
        )
    return "\n".join(lines)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) < 2:
        only = values[0] if values else 0.0
        return only, only, only
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
