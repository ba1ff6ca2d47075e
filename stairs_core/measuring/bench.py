"""Prompts x lanes x repeats: every lane is timed in a race with the target alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..errors import InputError
from ..models.load import BUNDLED
from ..models.pair import Pair
from ..settings import methods
from ..settings.settings import AUTO, Settings
from ..text.tokens import read_references
from ..traces.metrics import compare, fold, ideal_speedups
from .baselines import against_transformers, gpt_fast
from .race import race
from .runner import Runner
from .same_text import is_tie

HELD_OUT = BUNDLED.parent / "prompts" / "heldout.txt"
"""Prompts from stories that the bundled pair was never trained on."""

_WARM_UP = 8
"""Tokens that a peer writes off the clock, before it is timed."""

Decoder = Callable[[list[int], int], list[int]]
"""A baseline with its pair: from prompt ids and a length to new ids."""


@dataclass(slots=True)
class Row:
    """One lane over all prompts and repeats, with one entry per race in each list.

    ``speedup``: over plain decoding in the same race, which took ``plain_seconds``. ``share``: the
    speedup as a share of what the race's passes alone would allow (``ideal_speedups``), in races
    where that is known. ``other_share``: engine work outside the models' passes, as a share of the
    lane's time. ``same``: number of races with identical texts. ``ties``: whether the texts part
    where rounding can explain it; empty for a baseline, which tells no logits. ``lossy``: whether
    the texts are others by design, and then none is counted as the same.
    """

    name: str
    speedup: list[float] = field(default_factory=list)
    plain_seconds: list[float] = field(default_factory=list)
    share: list[float] = field(default_factory=list)
    tokens_per_second: list[float] = field(default_factory=list)
    tokens_per_target_call: list[float] = field(default_factory=list)
    alpha: list[float] = field(default_factory=list)
    other_share: list[float] = field(default_factory=list)
    ties: list[bool] = field(default_factory=list)
    same: int = 0
    lossy: bool = False

    @property
    def overall(self) -> float:
        """Plain decoding's seconds over the lane's, both summed over all races."""
        own = [p / s for p, s in zip(self.plain_seconds, self.speedup, strict=True)]
        return sum(self.plain_seconds) / sum(own) if own else 0.0

    def to_dict(self) -> dict:
        """For ``--json``: medians, the quartiles of the speedup, and the ``overall`` speedup."""
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
            "identical": None if self.lossy else self.same,
            "rounding_ties": sum(self.ties) if self.ties and not self.lossy else None,
            "lossy": self.lossy,
        }


def read_prompts(file: str | Path, count: int) -> list[str]:
    r"""``count`` prompts from a file with one per line, whose line breaks are written ``\n``."""
    path = Path(file)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"The prompts in {path} cannot be read: name a text file.") from e
    prompts = [line.replace("\\n", "\n") for line in lines if line.strip()]
    if not prompts:
        raise InputError(f"{path} has no prompts: write one a line.")
    # Spread over the whole file: its beginning and its end may differ in kind.
    step = max(1, len(prompts) // count)
    return prompts[::step][:count]


def ours(
    pair: Pair, ks: Sequence[int], new: int, names: Sequence[str], references: Sequence[str] = ()
) -> dict[str, Settings]:
    """The lanes of a bench, by name: those of the drafters ``names`` that this pair can use.

    The lane "none" is plain decoding against itself: it shows how far the clock can be trusted.
    Prompts are turns in the chat template, where there is one.
    """
    read_references(pair.tokenizer, references)  # raises InputError once, rather than per lane
    middle = ks[len(ks) // 2]
    chat = pair.has_chat_template
    lane = partial(Settings, max_new_tokens=new, references=tuple(references), chat=chat)
    lanes = {"none": lane("none"), "none, strict": lane("none", numerics="strict")}
    for name in names:
        lengths = ks if name == "model" else [pair.usual_k(name) or middle]
        lanes |= {f"{name}, K = {k}": lane(name, k) for k in lengths}
        if name == "model":
            strict = lane(name, middle, numerics="strict")
            lanes[f"{name}, K = {middle}, strict"] = strict
        if methods.REGISTRY[name].by_cost:
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

    They decode with ``stock``, the same pair loaded with ``compile="off"``; gpt-fast's loop, which
    brings no models of its own, with ``pair``. Those with a draft model need one tokenizer for
    both: transformers takes two only if their vocabularies differ in size.
    """
    one = pair.draft is not None and pair.guesser is pair.draft and pair.same_ids
    peers = against_transformers(one)
    lanes: dict[str, Decoder] = {name: partial(peer, stock) for name, peer in peers.items()}
    if one:
        k = ks[len(ks) // 2]
        lanes[f"gpt-fast's loop, K = {k}"] = partial(gpt_fast, pair, k=k)
    return lanes


def only(
    words: Sequence[str], lanes: dict[str, Settings], peers: dict[str, Decoder]
) -> tuple[dict[str, Settings], dict[str, Decoder]]:
    """The lanes and peers whose names hold one of the ``words``. Raises InputError for words that
    no name holds."""
    names = [*lanes, *peers]
    for word in words:
        if not any(word in name for name in names):
            raise InputError(f"No lane is called {word!r:.80}: there are {'; '.join(names)}.")
    return (
        {name: lane for name, lane in lanes.items() if any(word in name for word in words)},
        {name: peer for name, peer in peers.items() if any(word in name for word in words)},
    )


def bench(
    pair: Pair,
    prompts: Sequence[str],
    lanes: dict[str, Settings],
    peers: dict[str, Decoder],
    repeats: int,
    new: int,
) -> Iterator[list[Row]]:
    """Yields the rows as they stand after every prompt; the last ones are the result.

    Lanes take turns on each prompt, so that whatever slows the machine for a while affects all.
    """
    rows = {name: Row(name) for name in (*lanes, *peers)}
    for _ in range(repeats):
        for prompt in prompts:
            for name, settings in lanes.items():
                _race_once(pair, prompt, settings, rows[name])
            for name, peer in peers.items():
                _against(pair, prompt, peer, new, rows[name])
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
    row.ties.append(is_tie(result))
    row.lossy = recordings[1].run.lossy


def _against(pair: Pair, prompt: str, peer: Decoder, new: int, row: Row) -> None:
    alone = Settings("none", max_new_tokens=new, chat=pair.has_chat_template)
    plain = Runner(pair, prompt, alone)
    plain.warm_up()
    peer(plain.prompt_ids, _WARM_UP)
    for _ in plain.decode():
        pass
    expected = plain.recording().new_ids
    began = time.perf_counter()
    ids = peer(plain.prompt_ids, new)
    seconds = time.perf_counter() - began
    row.speedup.append(plain.clock.elapsed / seconds * len(ids) / len(expected))
    row.plain_seconds.append(plain.clock.elapsed)
    row.tokens_per_second.append(len(ids) / seconds)
    row.same += ids == expected


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    head = "| lane | speedup (quartiles) | overall | of ideal | tokens/s | tokens/call | alpha |"
    lines = [head + " same text |", "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        low, middle, high = quartiles(row.speedup)
        lines.append(
            f"| {row.name} | {middle:.2f} ({low:.2f} to {high:.2f}) | {row.overall:.2f} "
            f"| {_shown(row.share)} | {_median(row.tokens_per_second):.0f} "
            f"| {_shown([] if row.lossy else row.tokens_per_target_call)} | {_shown(row.alpha)} "
            f"| {_same_text(row)} |"
        )
    return "\n".join(lines)


def _same_text(row: Row) -> str:
    """How many of the texts were the same, and how many of the others are explained by rounding."""
    if row.lossy:
        return "lossy"
    ties = f", {sum(row.ties)} by rounding" if any(row.ties) else ""
    return f"{row.same} of {len(row.speedup)}{ties}"


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
