"""Prompts x lanes x repeats, every lane timed beside the target alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from .errors import InputError
from .metrics import compare, fold, ideal_speedups
from .models import BUNDLED
from .pair import Pair
from .peers import against_transformers, gpt_fast
from .race import WARM_UP_TOKENS, Runner, race
from .settings import AUTO, Settings
from .text import read_references

HELD_OUT = BUNDLED.parent / "prompts" / "heldout.txt"
"""Prompts from stories that the bundled pair was never trained on."""
USUAL_K = {
    "lookup": 10,
    "suffix": 16,
    "reference": 16,
    "recycle": 8,
    "lookahead": 9,
    "layer-skip": 4,
}
"""Guesses a step of drafters that are not timed at every length."""
BY_COST = ("model", "tree", "hybrid", "lookup", "suffix", "shared")
"""Drafters that are timed with K auto too."""

Decoder = Callable[[list[int], int], list[int]]
"""A peer with its pair: prompt ids and a length to new ids."""


@dataclass(slots=True)
class Row:
    """One lane over all prompts and repeats; one entry a race in each list.

    ``speedup``: over plain decoding in the same race, which took ``plain_seconds``. ``share``: of
    the speedup that the passes of the race alone would allow (``ideal_speedups``), where that can
    be said.
    ``other_share``: engine work outside the models' passes, as a share of the lane's time.
    ``same``: races in which the text was identical.
    """

    name: str
    speedup: list[float] = field(default_factory=list)
    plain_seconds: list[float] = field(default_factory=list)
    share: list[float] = field(default_factory=list)
    tokens_per_second: list[float] = field(default_factory=list)
    tokens_per_target_call: list[float] = field(default_factory=list)
    alpha: list[float] = field(default_factory=list)
    other_share: list[float] = field(default_factory=list)
    same: int = 0

    @property
    def overall(self) -> float:
        """Plain decoding's seconds over the lane's, all races together."""
        own = [p / s for p, s in zip(self.plain_seconds, self.speedup, strict=True)]
        return sum(self.plain_seconds) / sum(own) if own else 0.0

    def to_dict(self) -> dict:
        """Medians, with the quartiles of the speedup, and the speedup of all races together."""
        low, middle, high = quartiles(self.speedup)
        return {
            "name": self.name,
            "races": len(self.speedup),
            "speedup": middle,
            "speedup_quartiles": [low, high],
            "speedup_overall": self.overall,
            "share_of_ideal": _median(self.share),
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


def ours(
    pair: Pair, ks: Sequence[int], new: int, names: Sequence[str], references: Sequence[str] = ()
) -> dict[str, Settings]:
    """The lanes of a bench by name, of the drafters ``names`` that this pair can use.

    Plain against plain says how far the clock can be trusted.
    """
    read_references(pair.tokenizer, references)  # refused now, not lane by lane
    middle = ks[len(ks) // 2]
    lane = partial(Settings, max_new_tokens=new, references=tuple(references))
    lanes = {"none": lane("none"), "none, strict": lane("none", numerics="strict")}
    for name in names:
        lengths = ks if name == "model" else [USUAL_K.get(name, middle)]
        lanes |= {f"{name}, K = {k}": lane(name, k) for k in lengths}
        if name == "model":
            strict = lane(name, middle, numerics="strict")
            lanes[f"{name}, K = {middle}, strict"] = strict
        if name in BY_COST:
            lanes[f"{name}, K auto"] = lane(name, **AUTO)
    return {name: settings for name, settings in lanes.items() if _usable(pair, settings)}


def _usable(pair: Pair, settings: Settings) -> bool:
    try:
        Runner(pair, "a", settings)
    except InputError:
        return False
    return True


def theirs(pair: Pair, stock: Pair, ks: Sequence[int]) -> dict[str, Decoder]:
    """The lanes of ``--against transformers`` by name.

    They decode with ``stock``, the same pair loaded with ``compile="off"``; gpt-fast's loop, whose
    models are not part of it, with ``pair``. Those that draft, for one tokenizer: transformers
    takes two only of vocabularies of different sizes.
    """
    one = pair.draft is not None and pair.guesser is pair.draft and pair.same_ids
    peers = against_transformers(one)
    lanes: dict[str, Decoder] = {name: partial(peer, stock) for name, peer in peers.items()}
    if one:
        k = ks[len(ks) // 2]
        lanes[f"gpt-fast's loop, K = {k}"] = partial(gpt_fast, pair, k=k)
    return lanes


def bench(
    pair: Pair,
    prompts: Sequence[str],
    lanes: dict[str, Settings],
    peers: dict[str, Decoder],
    repeats: int,
) -> Iterator[list[Row]]:
    """Yields the rows as they stand after every prompt; the last are the result.

    Lanes are interleaved, so that whatever slows the machine for a while hits all of them.
    """
    rows = {name: Row(name) for name in (*lanes, *peers)}
    length = max(s.max_new_tokens for s in lanes.values())
    for _ in range(repeats):
        for prompt in prompts:
            for name, settings in lanes.items():
                _race_once(pair, prompt, settings, rows[name])
            for name, peer in peers.items():
                _against(pair, prompt, peer, length, rows[name])
            yield list(rows.values())


def _race_once(pair: Pair, prompt: str, settings: Settings, row: Row) -> None:
    runners = [Runner(pair, prompt, s) for s in (settings.alone(), settings)]
    for _ in race(runners):
        pass
    recordings = [r.recording() for r in runners]
    result = compare(*recordings)
    summary = fold(runners[1].steps)
    if result.speedup is not None:
        row.speedup.append(result.speedup)
        row.plain_seconds.append(runners[0].clock.elapsed)
        if ideal := ideal_speedups(recordings[1], recordings[0]):
            row.share.append(result.speedup / ideal[-1])
    row.tokens_per_second.append(summary.tokens_per_second)
    row.tokens_per_target_call.append(summary.tokens_per_target_call)
    row.alpha += [] if summary.alpha is None else [summary.alpha]
    row.other_share.append(summary.other_seconds / summary.seconds)
    row.same += bool(result.identical)


def _against(pair: Pair, prompt: str, peer: Decoder, new: int, row: Row) -> None:
    plain = Runner(pair, prompt, Settings("none", max_new_tokens=new))
    plain.warm_up()
    peer(plain.prompt_ids, WARM_UP_TOKENS)
    ours = [t.id for step in plain.decode() for t in step.committed]
    began = time.perf_counter()
    ids = peer(plain.prompt_ids, new)
    seconds = time.perf_counter() - began
    row.speedup.append(plain.clock.elapsed / seconds * len(ids) / len(ours))
    row.plain_seconds.append(plain.clock.elapsed)
    row.tokens_per_second.append(len(ids) / seconds)
    row.same += ids == ours


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    head = "| lane | speedup (quartiles) | overall | of ideal | tokens/s | tokens/call | alpha |"
    lines = [head + " same text |", "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        low, middle, high = quartiles(row.speedup)
        lines.append(
            f"| {row.name} | {middle:.2f} ({low:.2f} to {high:.2f}) | {row.overall:.2f} "
            f"| {_shown(row.share)} | {_median(row.tokens_per_second):.0f} "
            f"| {_shown(row.tokens_per_target_call)} | {_shown(row.alpha)} "
            f"| {row.same} of {len(row.speedup)} |"
        )
    return "\n".join(lines)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median, third."""
    if len(values) < 2:
        only = values[0] if values else 0.0
        return only, only, only
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def _shown(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f}" if values else "-"


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
