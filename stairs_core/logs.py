"""Other engines' logs as recordings: how many guesses of every step held, and nothing else.

Standard library only. Formats, as read in the sources of these versions:

- vLLM 0.32, ``docs/features/speculative_decoding/acceptance_metrics.md``: a response's
  ``metrics.speculative_decoding``, with ``per_step_accepted`` and ``per_step_drafted`` where the
  server runs with ``--per-request-spec-decode-metrics detailed``. Bodies as JSON, JSON Lines or
  server-sent events. A step without a guess leaves no trace there. With ``summary`` there is an
  ``acceptance_histogram`` alone: how many steps accepted how many guesses, in no order.
- SGLang, from February 2026: a response's ``meta_info``, with such a histogram under either of two
  names (``_HISTOGRAM``). Before that it has totals.
- llama.cpp of September 2026, ``post_decode`` in ``tools/server/server-context.cpp``, and
  ``examples/speculative-simple``: see ``_STEP``. A step without a guess writes no such line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import counts
from .counts import UNKNOWN, Counts, Lane
from .errors import InputError
from .trace import Recording, Untold

Said = Mapping[str, Any]
"""Around an object: ``id`` and ``model``, and ``at``, the number of the document it is in."""

_DETAILED = "--per-request-spec-decode-metrics detailed"
_ASK = {
    "vLLM": f"start vLLM with {_DETAILED} to get those of every step",
    "vLLM before V1": f"a newer vLLM with {_DETAILED} tells of every step",
    "SGLang": "take a version that gives spec_accept_histogram (since February 2026)",
    "llama.cpp": "start llama-server with LLAMA_TRACE=1, or llama-speculative-simple with -v, to "
    "get steps",
    "mlx-vlm": "it tells of no steps, so open a log of vLLM, SGLang or llama.cpp",
}
"""By engine, in the order in which they are looked for: how to get more than totals."""

_HISTOGRAM = ("spec_correct_drafts_histogram", "spec_accept_histogram")
_HELD = ("spec_num_correct_drafts", "spec_accepted_drafts", "spec_accept_token_num")
_MADE = ("spec_num_proposed_drafts", "spec_proposed_drafts", "spec_draft_token_num")
"""SGLang's names of one thing each, the latest first."""

_STRANGERS = {
    "TensorRT-LLM": r"TensorRT-LLM|TRT-?LLM|specDec(?:oding)?Stats|total_accepted_draft_tokens",
    "TGI": r"text_generation_(?:launcher|router)|\btgi_",
}
"""Engines whose logs are told from others and not read, by what stands in them."""

_STEP = re.compile(
    r"(?:id +(-?\d{1,9}) \| task +(-?\d{1,9}) \| +)?(?:"
    # LLAMA_TRACE=1; as counted, before anything is cut off, in every step.
    r"accepted +(?P<a>\d{1,9})/ *(?P<n>\d{1,9}) draft tokens(?P<again> \(restore checkpoint\))?\s*$"
    # -v: in every step too, the target's own token counted with the accepted ones.
    r"|add accepted tokens: sampled=-?\d+, ids\.size=(?P<ids>\d{1,9}), n_draft=(?P<drafted>\d{1,9})"
    # -v, but not in the step that ends a text; and what llama-speculative-simple writes.
    r"|accepted +(?P<a2>\d{1,9})/ *(?P<n2>\d{1,9}) draft tokens, (?:new n_tokens|the last target))"
)
_VLLM_KEYS = {"draft_acceptance_rate", "num_draft_tokens", "num_spec_steps", "num_spec_tokens"}
"""vLLM's, some of which stand beside its histogram; others' may be called the same."""
_WORDS = re.compile("accepted|_histogram|spec_verify_ct")
"""In the names of counts of which every response of use has one: most JSON need not be read."""
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
    # Sums since the server started, so that the last ones hold all.
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
    """What a log holds of one engine. ``totals``: accepted and drafted, by what they are the totals
    of. ``said``: what else it tells, where it has no totals. ``grown``: by request, the document
    that a histogram stands in, and the histogram."""

    engine: str
    lanes: dict[str, Lane] = field(default_factory=dict)
    totals: dict[str, tuple[int, int]] = field(default_factory=dict)
    said: str = ""
    grown: dict[str, tuple[int, list[int]]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.lanes or self.totals or self.said)


def loads(text: str, name: str = "the log") -> list[Recording]:
    """The requests in a log, a lane each; none where it is no log of an engine known here.

    ``name``: of its file. Raises InputError, in one sentence, for a log that has no counts of
    steps, and names what to switch on to get them; or whose counts cannot be.
    """
    found = _responses(text, name) or _lines(text, name)
    if found.lanes:
        return counts.recordings(found.engine, found.lanes, name)
    if found:
        raise InputError(f"{name} has {_summed(found)}: {_ASK[found.engine]}.")
    return []


def stranger(text: str) -> str | None:
    """The engine that wrote ``text``, if it is one of those whose logs are not read."""
    return next((name for name, marks in _STRANGERS.items() if re.search(marks, text)), None)


def _summed(found: _Found) -> str:
    if not found.totals:
        return f"averages of {found.engine} only ({found.said})"
    accepted, drafted = (sum(t) for t in zip(*found.totals.values(), strict=True))
    # There it compared every guess with the target's own, also behind the first wrong one.
    behind = ", also behind a wrong one" if found.engine == "vLLM before V1" else ""
    return f"totals of {found.engine} only ({accepted} of {drafted} guesses were accepted{behind})"


def _responses(text: str, name: str) -> _Found:
    """What responses tell, of the first engine that tells of steps, or else of any."""
    engines = {engine: _Found(engine) for engine in _ASK}
    for i, (body, said) in enumerate(_bodies(text), 1):
        _response(engines, body, said, str(said.get("id", f"request {i}")), name)
        if any(len(found.lanes) > counts.MAX_LANES for found in engines.values()):
            break  # which `counts` refuses: there may be hundreds of thousands
    told = [found for found in engines.values() if found]
    return next((found for found in told if found.lanes), told[0] if told else _Found("vLLM"))


def _response(
    engines: Mapping[str, _Found], body: Mapping[str, Any], said: Said, request: str, name: str
) -> None:
    """Puts what one object tells to that of its engine."""
    if {"draft_n", "draft_n_accepted"} <= body.keys():
        # mlx-vlm, and what follows it, counts otherwise under llama.cpp's names, and adds two.
        engine = "mlx-vlm" if body.keys() & {"draft_kind", "draft_rounds"} else "llama.cpp"
        _total(engines[engine], request, body["draft_n_accepted"], body["draft_n"])
    elif "per_step_accepted" in body or "per_step_drafted" in body:
        pair = body.get("per_step_accepted"), body.get("per_step_drafted")
        _add(engines["vLLM"], request, said, _zipped(*pair, name))
    elif "acceptance_histogram" in body and body.keys() & _VLLM_KEYS:
        made, most = body.get("num_draft_tokens"), body.get("num_spec_tokens")
        steps, held = body.get("num_spec_steps"), body.get("num_accepted_draft_tokens")
        histogram = body["acceptance_histogram"]
        found = _histogram(histogram, made, most, steps, held, name)
        _add_grown(engines["vLLM"], request, said, histogram, *found)
    elif {"num_accepted_draft_tokens", "num_draft_tokens"} <= body.keys():
        counted = body["num_accepted_draft_tokens"], body["num_draft_tokens"]
        _total(engines["vLLM"], request, *counted)
    elif "spec_verify_ct" in body or any(key in body for key in _HISTOGRAM):
        _sglang(engines["SGLang"], body, said, request, name)


def _sglang(found: _Found, body: Mapping[str, Any], said: Said, request: str, name: str) -> None:
    histogram, held, made = (
        next((body[key] for key in keys if body.get(key) is not None), None)
        for keys in (_HISTOGRAM, _HELD, _MADE)
    )
    passes, new = body.get("spec_verify_ct"), body.get("completion_tokens")
    if histogram:
        told = _histogram(histogram, made, None, passes, held, name)
        _add_grown(found, request, said, histogram, *told)
    elif passes and held is not None and made is not None:
        _total(found, request, held, made)
    elif passes and type(new) is int:
        found.said = f"{new} tokens in {passes!r:.20} passes"


def _histogram(
    histogram: object, drafted: Any, k: Any, steps: Any, accepted: Any, name: str
) -> tuple[Counts, Untold]:
    """``counts.of_histogram``, of numbers that nobody has checked: None where they are not told."""
    for number in (drafted, k, steps, accepted):
        if number is not None and (type(number) is not int or number < 0):
            raise InputError(f"{name} is damaged: {number!r:.20} is no number of steps or guesses.")
    told, untold = counts.of_histogram(histogram, drafted, k, name)
    found = len(told), sum(held for held, _ in told)
    if found != (found[0] if steps is None else steps, found[1] if accepted is None else accepted):
        raise InputError(
            f"{name} is damaged: its histogram has {found[0]} steps and {found[1]} accepted "
            f"guesses, and beside it stand {steps} and {accepted}."
        )
    return told, untold


def _add(
    found: _Found, request: str, said: Said, counted: Counts, untold: Untold | None = None
) -> None:
    target = str(said.get("model", UNKNOWN))
    found.lanes[_free(request, found.lanes)] = Lane(counted, target, untold)


def _add_grown(
    found: _Found, request: str, said: Said, histogram: Any, counted: Counts, untold: Untold
) -> None:
    """A stream repeats a request's histogram as it grows: the last one stays. Within one document,
    and where it has not grown, it is that of another request."""
    at, before = found.grown.get(request, (said["at"], [1]))
    grown = all(a <= b for a, b in zip(before, histogram, strict=False))
    if at != said["at"] and grown and len(before) <= len(histogram):
        del found.lanes[request]
    found.grown[request] = said["at"], histogram
    _add(found, request, said, counted, untold)


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """``name``, numbered where another request is called so."""
    names = (name, *(f"{name} ({i})" for i in range(2, len(taken) + 3)))
    return next(n for n in names if n not in taken)


def _bodies(text: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every object in the JSON of ``text``, and what is said around it: ``id`` and ``model``."""
    if not _WORDS.search(text):
        return
    try:
        documents = [json.loads(text)]
    except (ValueError, RecursionError):
        documents = _documents(text)
    waiting: list[tuple[Any, dict[str, Any]]]
    for at, document in enumerate(documents):
        waiting = [(document, {"at": at})]
        while waiting:
            value, said = waiting.pop()
            if isinstance(value, dict):
                words = {k: value[k] for k in ("id", "model") if isinstance(value.get(k), str)}
                said = said | words
                yield value, said
            inside = value.values() if isinstance(value, dict) else value
            if isinstance(value, dict | list):
                waiting += [(v, said) for v in reversed([*inside]) if isinstance(v, dict | list)]


def _documents(text: str) -> Iterator[Any]:
    for line in text.split("\n"):
        line = line.strip().removeprefix("data:").lstrip()
        if line.startswith(("{", "[")) and _WORDS.search(line):
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                continue  # a line of another kind


def _zipped(accepted: object, drafted: object, name: str) -> Counts:
    if not isinstance(accepted, list) or not isinstance(drafted, list):
        raise InputError(f"{name} is damaged: it needs per_step_accepted and per_step_drafted.")
    if len(accepted) != len(drafted):
        raise InputError(
            f"{name} is damaged: {len(accepted)} steps accepted guesses, {len(drafted)} made them."
        )
    return list(zip(accepted, drafted, strict=True))


def _lines(text: str, name: str) -> _Found:
    """What the log lines of llama.cpp tell; and the totals in those of other engines."""
    if not any(word in text for word in ("ccepted", "n_accept", "#acc tokens", "accept len")):
        return _Found("llama.cpp")
    text = _COLOUR.sub("", text)
    found, model = _Found("llama.cpp"), _MODEL.search(text)
    kinds: list[dict[str, list[tuple[int, int, bool]]]] = [{}, {}, {}]
    for line in text.split("\n"):
        if match := _STEP.search(line):
            lane = f"task {match[2]}" if match[2] else "request"
            for kind, a, n in ((0, "a", "n"), (1, "ids", "drafted"), (2, "a2", "n2")):
                if match[a]:
                    step = int(match[a]) - (kind == 1), int(match[n]), bool(match["again"])
                    kinds[kind].setdefault(lane, []).append(step)
    told = next((kind for kind in kinds if kind), {})
    _check_steps(told, name)
    if told and not kinds[0] and _RESTORED in text:
        raise InputError(
            f"{name} does not tell how many guesses were made in steps that llama.cpp did twice: "
            "start llama-server with LLAMA_TRACE=1."
        )
    for lane, steps in told.items():
        found.lanes[lane] = Lane([*_once(steps)], model[1] if model else UNKNOWN)
    return found or _sums(text)


def _check_steps(told: Mapping[str, list[tuple[int, int, bool]]], name: str) -> None:
    """Before its pull request 18211, llama.cpp emptied the draft before it counted it."""
    for accepted, drafted, _ in (step for steps in told.values() for step in steps):
        if accepted > drafted == 0:
            raise InputError(
                f"{name} is of a llama.cpp before its fix of December 2025, which writes 0 for the "
                f"guesses of every step (accepted {accepted}/0): log with a newer one."
            )


def _sums(text: str) -> _Found:
    """What stands at the end of every request; or else what grew while the server ran."""
    for engine, patterns in _TOTALS.items():
        found = _Found(engine)
        for pattern in patterns:
            for i, match in enumerate(pattern.finditer(text)):
                named = match.groupdict()
                _total(found, named.get("who", str(i)), int(named["a"]), int(named["n"]))
            if found:
                return found
    average = _AVERAGES.search(text)
    return _Found("SGLang", said=average[0].rpartition(", ")[2].strip() if average else "")


def _once(steps: list[tuple[int, int, bool]]) -> Iterator[tuple[int, int]]:
    """Steps as they count. Where a cache cannot go back, llama.cpp reads the accepted guesses and
    its own token again, as a guess that holds: that pass adds one token, and nobody guessed."""
    before: int | None = None
    for accepted, drafted, again in steps:
        replayed = before is not None and accepted == drafted == before + 1
        yield (0, 0) if replayed else (accepted, drafted)
        before = accepted if again else None


def _total(found: _Found, what: str, accepted: object, drafted: object) -> None:
    """Streams repeat their totals as they grow: the last ones stay."""
    if type(accepted) is int and type(drafted) is int and 0 <= accepted <= drafted:
        found.totals[what] = accepted, drafted
