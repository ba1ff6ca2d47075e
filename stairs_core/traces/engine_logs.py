"""Other engines' logs as recordings: how many guesses of every step were accepted, nothing else.

Formats, as read in the sources of these versions:

- vLLM 0.32, ``docs/features/speculative_decoding/acceptance_metrics.md``: a response's
  ``metrics.speculative_decoding``, with ``per_step_accepted`` and ``per_step_drafted`` where the
  server runs with ``--per-request-spec-decode-metrics detailed``. Bodies as JSON, JSON Lines or
  server-sent events. A step without a guess is not in them. With ``summary`` there is only an
  ``acceptance_histogram``: how many steps accepted how many guesses, in no order.
- SGLang, from February 2026: a response's ``meta_info``, with such a histogram under either of two
  names (``_HISTOGRAM``). Before that it has totals.
- llama.cpp of September 2026, ``post_decode`` in ``tools/server/server-context.cpp``, and
  ``examples/speculative-simple``: see ``_STEP``. A step without a guess writes no such line.

A log is searched for JSON bodies (``_responses``) and then for log lines (``_lines``). What is
found are counts of steps, a ``Lane`` for each request; these become recordings (``_recordings``).
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError
from .from_json import LARGEST
from .records import (
    MAX_DRAFTED,
    MAX_LANES,
    Prediction,
    Recording,
    Run,
    Step,
    Stop,
    Token,
    Untold,
    unused,
)

MAX_TOKENS = 500_000
"""What can be drawn of a log, in all."""
UNKNOWN = "unknown"
"""The value of every text field of a run that a log does not have."""

Counts = Iterable[tuple[int, int]]
"""Of every step: accepted guesses, drafted guesses. Gone through as often as they are needed."""


@dataclass(frozen=True, slots=True)
class _Histogram:
    """Counts of steps that fit a histogram, the fewest accepted guesses first. They are worked out
    as they are gone through: a few digits in a log may ask for half a million of them.

    ``steps[j]``: how many steps accepted j guesses. ``drafted``: guesses in all, None where the log
    does not have them. ``k``: in a step at most. Steps make ``k`` each; what that is too many is
    taken, guess by guess, from the steps in turn that still have more than they accepted.

    >>> [*_Histogram([2, 0, 1], drafted=8, k=3)]
    [(0, 2), (0, 3), (2, 3)]
    """

    steps: Sequence[int]
    drafted: int | None
    k: int

    def __iter__(self) -> Iterator[tuple[int, int]]:
        level, short = (-1, 0) if self.drafted is None else self._level(self.drafted)
        accepted = (j for j, n in enumerate(self.steps) for _ in range(n))
        for i, a in enumerate(accepted):
            yield a, max(a, level + (i >= short))

    @property
    def accepted(self) -> int:
        """Accepted guesses, in all."""
        return self._made(0)

    @property
    def untold(self) -> Untold:
        """What the histogram leaves open about its steps."""
        if self.drafted is None:
            return "guesses"
        return "order" if self.drafted == sum(self.steps) * self.k else "lengths"

    def _level(self, drafted: int) -> tuple[int, int]:
        """How many guesses the steps are left with that accepted no more; and how many of them, the
        first ones: one guess more is left to the others."""
        level = bisect_right(range(self.k + 1), drafted, key=self._made) - 1
        left = drafted - self._made(level)
        return level, sum(self.steps[: level + 1]) - left

    def _made(self, level: int) -> int:
        """Guesses in all, where each step makes ``level``, or as many as it accepted."""
        return sum(n * max(j, level) for j, n in enumerate(self.steps))


@dataclass(frozen=True, slots=True)
class Lane:
    """One request. ``target``: the model's name. ``untold``: see ``Run``."""

    counts: Counts
    target: str = UNKNOWN
    untold: Untold | None = None


Around = Mapping[str, Any]
"""What stands around a JSON object: ``id`` and ``model`` of the objects that hold it, where they
have them, and ``at``, the number of the JSON document it is in."""

_DETAILED = "--per-request-spec-decode-metrics detailed"
_ASK = {
    "vLLM": f"start vLLM with {_DETAILED} to get those of every step",
    "vLLM before V1": f"a newer vLLM with {_DETAILED} tells of every step",
    "SGLang": "take a version that gives spec_accept_histogram (since February 2026)",
    "llama.cpp": "start llama-server with LLAMA_TRACE=1, or llama-speculative-simple with -v, to "
    "get steps",
    "mlx-vlm": "it tells of no steps, so open a log of vLLM, SGLang or llama.cpp",
}
"""By engine, in the order in which they are looked for: how to get counts of steps, for a log that
has only totals."""

_HISTOGRAM = ("spec_correct_drafts_histogram", "spec_accept_histogram")
_ACCEPTED = ("spec_num_correct_drafts", "spec_accepted_drafts", "spec_accept_token_num")
_DRAFTED = ("spec_num_proposed_drafts", "spec_proposed_drafts", "spec_draft_token_num")
"""SGLang's names for each of three things, the latest name first."""

_OTHER_ENGINES = {
    "TensorRT-LLM": r"TensorRT-LLM|TRT-?LLM|specDec(?:oding)?Stats|total_accepted_draft_tokens",
    "TGI": r"text_generation_(?:launcher|router)|\btgi_",
}
"""Engines whose logs are recognised, by these patterns, but not read."""

_STEP = re.compile(
    r"(?:id +(-?\d{1,9}) \| task +(-?\d{1,9}) \| +)?(?:"
    # With LLAMA_TRACE=1: in every step, counted before the text is cut off at its end.
    r"accepted +(?P<a>\d{1,9})/ *(?P<n>\d{1,9}) draft tokens(?P<again> \(restore checkpoint\))?\s*$"
    # With -v: in every step too; the target's own token is counted as an accepted one.
    r"|add accepted tokens: sampled=-?\d+, ids\.size=(?P<ids>\d{1,9}), n_draft=(?P<drafted>\d{1,9})"
    # With -v, but not in the step that ends a text; and what llama-speculative-simple writes.
    r"|accepted +(?P<a2>\d{1,9})/ *(?P<n2>\d{1,9}) draft tokens, (?:new n_tokens|the last target))"
)
_VLLM_KEYS = {"draft_acceptance_rate", "num_draft_tokens", "num_spec_steps", "num_spec_tokens"}
"""Keys of which some stand beside vLLM's histogram; other engines name a histogram the same."""
_COUNTS_INSIDE = re.compile("accepted|_histogram|spec_verify_ct")
"""What every JSON body with counts contains: all other JSON need not be parsed."""
_RESTORED = "restoring speculative checkpoint"
_MODEL = re.compile(r"loading model '([^']{1,200})'")
_COLOUR = re.compile(r"\x1b\[[0-9;]{0,20}m")
_TOTALS = {
    "llama.cpp": (
        re.compile(r"\( *(?P<a>\d{1,15}) accepted / *(?P<n>\d{1,15}) generated\)"),
        re.compile(
            r"statistics +(?P<who>\S{1,40}):[^\n]{0,200}?"
            r"#gen tokens = *(?P<n>\d{1,15}), #acc tokens = *(?P<a>\d{1,15})"
        ),
        re.compile(r"n_drafted += (?P<n>\d{1,15})\n[^\n]{0,40}?n_accept +=(?P<a> *\d{1,15})"),
    ),
    "vLLM": (
        re.compile(
            r"SpecDecoding metrics: [^\n]{0,300}?"
            r"Accepted: (?P<a>\d{1,15}) tokens, Drafted: (?P<n>\d{1,15}) tokens"
        ),
    ),
    # Sums since the server started: the last line holds them all.
    "vLLM before V1": (
        re.compile(
            r"(?P<who>Speculative metrics): [^\n]{0,200}?accepted tokens(?: tokens)?: "
            r"(?P<a>\d{1,15}), Number of draft tokens(?: tokens)?: (?P<n>\d{1,15})"
        ),
    ),
}
_AVERAGES = re.compile(r"Decode batch[^\n]{0,300}? accept len: (\d{1,9}(?:\.\d{1,9})?)")


@dataclass
class _Found:
    """What a log holds of one engine.

    ``lanes``: requests with counts of steps, by name. ``totals``: (accepted, drafted), by what they
    are the totals of. ``averages``: in words, where there are not even totals. ``histograms``: the
    last histogram of each request, and the number of the document that it is in.
    """

    engine: str
    lanes: dict[str, Lane] = field(default_factory=dict)
    totals: dict[str, tuple[int, int]] = field(default_factory=dict)
    averages: str = ""
    histograms: dict[str, tuple[int, Sequence[int]]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.lanes or self.totals or self.averages)


def loads(text: str, name: str = "the log") -> list[Recording]:
    """A recording for each request in a log; none where it is not a log of an engine known here.

    ``name``: its file's. Raises InputError, in one sentence, for impossible counts, and for a log
    without counts of steps; that sentence says how to get them.
    """
    found = _responses(text, name) or _lines(text, name)
    if found.lanes:
        return _recordings(found.engine, found.lanes, name)
    if found:
        raise InputError(f"{name} has {_no_steps(found)}: {_ASK[found.engine]}.")
    return []


def other_engine(text: str) -> str | None:
    """The engine that wrote ``text``, if it is one of those whose logs are not read."""
    return next((name for name, marks in _OTHER_ENGINES.items() if re.search(marks, text)), None)


def _no_steps(found: _Found) -> str:
    """In words: what a log has where it has no counts of steps."""
    if not found.totals:
        return f"averages of {found.engine} only ({found.averages})"
    accepted, drafted = (sum(t) for t in zip(*found.totals.values(), strict=True))
    # That version compared every guess with the target's token, also after a rejected one.
    behind = ", also behind a wrong one" if found.engine == "vLLM before V1" else ""
    return f"totals of {found.engine} only ({accepted} of {drafted} guesses were accepted{behind})"


def _responses(text: str, name: str) -> _Found:
    """What the JSON bodies in a log hold: of the first engine with counts of steps, else of any."""
    engines = {engine: _Found(engine) for engine in _ASK}
    for i, (body, around) in enumerate(_bodies(text), 1):
        _response(engines, body, around, str(around.get("id", f"request {i}")), name)
        if any(len(found.lanes) > MAX_LANES for found in engines.values()):
            break  # `_recordings` refuses that many, and there may be hundreds of thousands more
    filled = [found for found in engines.values() if found]
    return next((found for found in filled if found.lanes), filled[0] if filled else _Found("vLLM"))


def _response(
    engines: Mapping[str, _Found], body: Mapping[str, Any], around: Around, request: str, name: str
) -> None:
    """Adds the counts of one JSON object to those of the engine that wrote it."""
    if {"draft_n", "draft_n_accepted"} <= body.keys():
        # mlx-vlm and its forks count differently under llama.cpp's names; two more keys tell.
        engine = "mlx-vlm" if body.keys() & {"draft_kind", "draft_rounds"} else "llama.cpp"
        _total(engines[engine], request, body["draft_n_accepted"], body["draft_n"])
    elif "per_step_accepted" in body or "per_step_drafted" in body:
        pair = body.get("per_step_accepted"), body.get("per_step_drafted")
        _add(engines["vLLM"], request, around, _zipped(*pair, name))
    elif "acceptance_histogram" in body and body.keys() & _VLLM_KEYS:
        drafted, k = body.get("num_draft_tokens"), body.get("num_spec_tokens")
        steps, accepted = body.get("num_spec_steps"), body.get("num_accepted_draft_tokens")
        histogram = body["acceptance_histogram"]
        found = _checked_histogram(histogram, drafted, k, steps, accepted, name)
        _add_histogram(engines["vLLM"], request, around, found)
    elif {"num_accepted_draft_tokens", "num_draft_tokens"} <= body.keys():
        counted = body["num_accepted_draft_tokens"], body["num_draft_tokens"]
        _total(engines["vLLM"], request, *counted)
    elif "spec_verify_ct" in body or any(key in body for key in _HISTOGRAM):
        _sglang(engines["SGLang"], body, around, request, name)


def _sglang(
    found: _Found, body: Mapping[str, Any], around: Around, request: str, name: str
) -> None:
    histogram, accepted, drafted = (
        next((body[key] for key in keys if body.get(key) is not None), None)
        for keys in (_HISTOGRAM, _ACCEPTED, _DRAFTED)
    )
    passes, new = body.get("spec_verify_ct"), body.get("completion_tokens")
    if histogram:
        counted = _checked_histogram(histogram, drafted, None, passes, accepted, name)
        _add_histogram(found, request, around, counted)
    elif passes and accepted is not None and drafted is not None:
        _total(found, request, accepted, drafted)
    elif passes and type(new) is int:
        found.averages = f"{new!r:.20} tokens in {passes!r:.20} passes"


def _checked_histogram(
    steps: object, drafted: Any, k: Any, passes: Any, accepted: Any, name: str
) -> _Histogram:
    """A histogram of the log called ``name``, after checking it and the numbers beside it: None
    where the log has none.

    ``passes`` and ``accepted``: of steps and of accepted guesses, in all; the rest: ``_Histogram``.
    """
    for number in (drafted, k, passes, accepted):
        if number is not None and (type(number) is not int or number < 0):
            raise InputError(f"{name} is damaged: {number!r:.20} is no number of steps or guesses.")
    if not isinstance(steps, list) or not all(type(n) is int and n >= 0 for n in steps):
        raise InputError(f"{name} is damaged: its histogram is no list of numbers of steps.")
    count = sum(steps)
    if k is None:
        k = -(-(drafted or 0) // count) if count else 0
    found = _Histogram(steps, drafted, k)
    if max(k, len(steps) - 1) > MAX_DRAFTED:
        raise InputError(f"{name} has more than {MAX_DRAFTED} guesses in a step: check the file.")
    if count + (found.accepted if drafted is None else drafted) > MAX_TOKENS:
        raise InputError(f"{name} has more than {MAX_TOKENS} tokens: cut it shorter.")
    most = max((j for j, n in enumerate(steps) if n), default=0)
    if drafted is not None and (not found.accepted <= drafted <= count * k or most > k):
        raise InputError(
            f"{name} is damaged: of {drafted} guesses in {count} steps, {found.accepted} were "
            f"accepted, {most} in one of them."
        )
    if passes not in (None, count) or accepted not in (None, found.accepted):
        raise InputError(
            f"{name} is damaged: its histogram has {count} steps and {found.accepted} accepted "
            f"guesses, and beside it stand {passes!r:.20} and {accepted!r:.20}."
        )
    return found


def _add(
    found: _Found, request: str, around: Around, counts: Counts, untold: Untold | None = None
) -> None:
    target = str(around.get("model", UNKNOWN))
    found.lanes[unused(request, found.lanes)] = Lane(counts, target, untold)


def _add_histogram(found: _Found, request: str, around: Around, histogram: _Histogram) -> None:
    """Adds a lane, or replaces the request's last one: a stream repeats its histogram as it grows.

    In the same document, or where the histogram has not grown, it is one of another request.
    """
    steps = histogram.steps
    at, before = found.histograms.get(request, (around["at"], [1]))
    grown = all(a <= b for a, b in zip(before, steps, strict=False))
    if at != around["at"] and grown and len(before) <= len(steps):
        del found.lanes[request]
    found.histograms[request] = around["at"], steps
    _add(found, request, around, histogram, histogram.untold)


def _bodies(text: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every JSON object in ``text``, and what stands around it (see ``Around``)."""
    if not _COUNTS_INSIDE.search(text):
        return
    try:
        documents = [json.loads(text)]
    except (ValueError, RecursionError):
        documents = _documents(text)
    waiting: list[tuple[Any, dict[str, Any]]]
    for at, document in enumerate(documents):
        waiting = [(document, {"at": at})]
        while waiting:
            value, around = waiting.pop()
            if isinstance(value, dict):
                names = {k: value[k] for k in ("id", "model") if isinstance(value.get(k), str)}
                around = around | names
                yield value, around
            inside = value.values() if isinstance(value, dict) else value
            if isinstance(value, dict | list):
                waiting += [(v, around) for v in reversed([*inside]) if isinstance(v, dict | list)]


def _documents(text: str) -> Iterator[Any]:
    """The JSON documents of a text that has one on each line (JSON Lines, server-sent events)."""
    for line in text.split("\n"):
        line = line.strip().removeprefix("data:").lstrip()
        if line.startswith(("{", "[")) and _COUNTS_INSIDE.search(line):
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                continue  # not JSON


def _zipped(accepted: object, drafted: object, name: str) -> Counts:
    if not isinstance(accepted, list) or not isinstance(drafted, list):
        raise InputError(f"{name} is damaged: it needs per_step_accepted and per_step_drafted.")
    if len(accepted) != len(drafted):
        raise InputError(
            f"{name} is damaged: {len(accepted)} steps accepted guesses, {len(drafted)} made them."
        )
    return list(zip(accepted, drafted, strict=True))


def _lines(text: str, name: str) -> _Found:
    """Counts of steps in the log lines of llama.cpp; or else totals in the lines of any engine."""
    if not any(word in text for word in ("ccepted", "n_accept", "#acc tokens", "accept len")):
        return _Found("llama.cpp")
    text = _COLOUR.sub("", text)
    found, model = _Found("llama.cpp"), _MODEL.search(text)
    # By kind of line (``_STEP`` has three), by lane: accepted, drafted, whether it is done again.
    kinds: list[dict[str, list[tuple[int, int, bool]]]] = [{}, {}, {}]
    for line in text.split("\n"):
        if match := _STEP.search(line):
            lane = f"task {match[2]}" if match[2] else "request"
            for kind, a, n in ((0, "a", "n"), (1, "ids", "drafted"), (2, "a2", "n2")):
                if match[a]:
                    step = int(match[a]) - (kind == 1), int(match[n]), bool(match["again"])
                    kinds[kind].setdefault(lane, []).append(step)
    best = next((kind for kind in kinds if kind), {})
    _check_steps(best, name)
    if best and not kinds[0] and _RESTORED in text:
        raise InputError(
            f"{name} does not tell how many guesses were made in steps that llama.cpp did twice: "
            "start llama-server with LLAMA_TRACE=1."
        )
    for lane, steps in best.items():
        found.lanes[lane] = Lane([*_once(steps)], model[1] if model else UNKNOWN)
    return found or _sums(text)


def _check_steps(lanes: Mapping[str, list[tuple[int, int, bool]]], name: str) -> None:
    """Refuses logs from before llama.cpp's pull request 18211: it emptied the draft and then
    counted it."""
    for accepted, drafted, _ in (step for steps in lanes.values() for step in steps):
        if accepted > drafted == 0:
            raise InputError(
                f"{name} is of a llama.cpp before its fix of December 2025, which writes 0 for the "
                f"guesses of every step (accepted {accepted}/0): log with a newer one."
            )


def _sums(text: str) -> _Found:
    """The totals at the end of every request; or else those since the server started."""
    for engine, patterns in _TOTALS.items():
        found = _Found(engine)
        for pattern in patterns:
            for i, match in enumerate(pattern.finditer(text)):
                groups = match.groupdict()
                _total(found, groups.get("who", str(i)), int(groups["a"]), int(groups["n"]))
            if found:
                return found
    average = _AVERAGES.search(text)
    return _Found("SGLang", averages=average[0].rpartition(", ")[2].strip() if average else "")


def _once(steps: list[tuple[int, int, bool]]) -> Iterator[tuple[int, int]]:
    """The steps as (accepted, drafted), with repeated passes as steps without a guess.

    Where a cache cannot be cropped, llama.cpp restores a checkpoint and reads the accepted guesses
    and its own token once more, and logs them as a guess that was accepted. That pass adds one
    token, and nothing was guessed in it.
    """
    before: int | None = None
    for accepted, drafted, again in steps:
        repeated = before is not None and accepted == drafted == before + 1
        yield (0, 0) if repeated else (accepted, drafted)
        before = accepted if again else None


def _total(found: _Found, what: str, accepted: object, drafted: object) -> None:
    """Keeps a total, in place of an earlier one: streams repeat their totals as they grow."""
    if type(accepted) is int and type(drafted) is int and 0 <= accepted <= drafted <= LARGEST:
        found.totals[what] = accepted, drafted


def _recordings(engine: str, lanes: Mapping[str, Lane], name: str) -> list[Recording]:
    """A recording for each of ``lanes``, without texts or times.

    Raises InputError for counts that are impossible, or too many, in the file called ``name``.
    """
    if len(lanes) > MAX_LANES:
        raise InputError(
            f"{name} has more requests than can be drawn ({MAX_LANES}): cut it shorter."
        )
    room = MAX_TOKENS
    for lane in lanes.values():
        for step, pair in enumerate(lane.counts, 1):
            accepted, drafted = pair
            whole = type(accepted) is int and type(drafted) is int
            if not whole or not 0 <= accepted <= drafted <= MAX_DRAFTED:
                raise InputError(
                    f"{name} is damaged: in step {step}, {accepted!r:.20} of {drafted!r:.20} "
                    "guesses were accepted."
                )
            room -= drafted + 1
            if room < 0:
                raise InputError(f"{name} has more than {MAX_TOKENS} tokens: cut it shorter.")
    return [_recording(engine, request, lane) for request, lane in lanes.items()]


def _recording(engine: str, name: str, lane: Lane) -> Recording:
    steps, length = [], 0
    for index, (accepted, drafted) in enumerate(lane.counts):
        steps.append(_step(index, length, accepted, drafted))
        length += accepted + 1
    run = Run(
        name=name[:80],
        prompt="",
        prompt_ids=(),
        prompt_tokens=(),
        target=lane.target[:200] or UNKNOWN,
        draft=None,
        drafter=UNKNOWN,
        k=max((drafted for _, drafted in lane.counts), default=0),
        backend=UNKNOWN,
        max_new_tokens=length,
        exactness=UNKNOWN,
        dtype=UNKNOWN,
        device=UNKNOWN,
        hardware=UNKNOWN,
        versions={},
        created="",
        engine=engine,
        untold=lane.untold,
    )
    return Recording(run, tuple(steps), Stop("stopped", ""))


_GUESSES = {s: Token(0, "", s, "draft") for s in ("accepted", "rejected", "unchecked")}
_TARGETS = {s: Token(0, "", s, "target") for s in ("correction", "bonus")}
_PREDICTION = Prediction(0, "", 0.0)
"""Tokens and predictions without text, of which a log's steps are made."""


def _step(index: int, start: int, accepted: int, drafted: int) -> Step:
    wrong = drafted - accepted
    tokens = (
        *(_GUESSES["accepted"],) * accepted,
        *(_GUESSES["rejected"],) * (wrong > 0),
        *(_GUESSES["unchecked"],) * (wrong - 1),
        _TARGETS["correction" if wrong else "bonus"],
    )
    predictions = (_PREDICTION,) * (drafted + 1)
    return Step(index, start, tokens, predictions, accepted, 0.0, 0.0, 0.0, 0.0)
