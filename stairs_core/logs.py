"""Other engines' logs as recordings: how many guesses of every step held, and nothing else.

Standard library only. Formats, as read in the sources of these versions:

- vLLM 0.32, ``docs/features/speculative_decoding/acceptance_metrics.md``: a response's
  ``metrics.speculative_decoding``, with ``per_step_accepted`` and ``per_step_drafted`` where the
  server runs with ``--per-request-spec-decode-metrics detailed``. Bodies as JSON, JSON Lines or
  server-sent events. A step without a guess leaves no trace there.
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
from .counts import UNKNOWN, Counts
from .errors import InputError
from .trace import Recording

_VLLM = "start vLLM with --per-request-spec-decode-metrics detailed to get those of every step"
_LLAMA = "start llama-server with LLAMA_TRACE=1, or llama-speculative-simple with -v, to get steps"

_STEP = re.compile(
    r"(?:id +(-?\d{1,9}) \| task +(-?\d{1,9}) \| +)?(?:"
    # LLAMA_TRACE=1; as counted, before anything is cut off, in every step.
    r"accepted +(?P<a>\d{1,9})/ *(?P<n>\d{1,9}) draft tokens(?P<again> \(restore checkpoint\))?\s*$"
    # -v: in every step too, the target's own token counted with the accepted ones.
    r"|add accepted tokens: sampled=-?\d+, ids\.size=(?P<ids>\d{1,9}), n_draft=(?P<drafted>\d{1,9})"
    # -v, but not in the step that ends a text; and what llama-speculative-simple writes.
    r"|accepted +(?P<a2>\d{1,9})/ *(?P<n2>\d{1,9}) draft tokens, (?:new n_tokens|the last target))"
)
_WORD = "accepted"
"""In the name of a count that every response of use has: most JSON need not be read."""
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
}


@dataclass
class _Found:
    """What a log holds. ``totals``: accepted and drafted, by what they are the totals of."""

    engine: str
    lanes: dict[str, Counts] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    totals: dict[str, tuple[int, int]] = field(default_factory=dict)


def loads(text: str, name: str = "the log") -> list[Recording]:
    """The requests in a log, a lane each; none where it is no log of an engine known here.

    ``name``: of its file. Raises InputError, in one sentence, for a log that has no counts of
    steps, and names what to switch on to get them; or whose counts cannot be.
    """
    for found in (_responses(text, name), _lines(text, name)):
        if found.lanes:
            return counts.recordings(found.engine, found.lanes, found.models, name)
        if found.totals:
            accepted, drafted = (sum(t) for t in zip(*found.totals.values(), strict=True))
            raise InputError(
                f"{name} has totals only ({accepted} of {drafted} guesses were accepted): "
                f"{_VLLM if found.engine == 'vLLM' else _LLAMA}."
            )
    return []


def _responses(text: str, name: str) -> _Found:
    """What responses of vLLM tell; and the totals in those of llama.cpp."""
    found, llama = _Found("vLLM"), _Found("llama.cpp")
    for i, (body, said) in enumerate(_bodies(text), 1):
        request = str(said.get("id", f"request {i}"))
        if {"draft_n", "draft_n_accepted"} <= body.keys():
            _total(llama, request, body["draft_n_accepted"], body["draft_n"])
        elif "per_step_accepted" in body or "per_step_drafted" in body:
            request = _free(request, found.lanes)
            pair = body.get("per_step_accepted"), body.get("per_step_drafted")
            found.lanes[request] = _zipped(*pair, name)
            found.models[request] = str(said.get("model", UNKNOWN))
            if len(found.lanes) > counts.MAX_LANES:
                break  # which `counts` refuses: there may be hundreds of thousands
        elif {"num_accepted_draft_tokens", "num_draft_tokens"} <= body.keys():
            _total(found, request, body["num_accepted_draft_tokens"], body["num_draft_tokens"])
    return found if found.lanes or found.totals else llama


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """``name``, numbered where another request is called so."""
    names = (name, *(f"{name} ({i})" for i in range(2, len(taken) + 3)))
    return next(n for n in names if n not in taken)


def _bodies(text: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every object in the JSON of ``text``, and what is said around it: ``id`` and ``model``."""
    if _WORD not in text:
        return
    try:
        documents = [json.loads(text)]
    except (ValueError, RecursionError):
        documents = _documents(text)
    waiting: list[tuple[Any, dict[str, Any]]]
    for document in documents:
        waiting = [(document, {})]
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
        if line.startswith(("{", "[")) and _WORD in line:
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
    """What the log lines of llama.cpp tell; and the totals in those of vLLM."""
    if not any(word in text for word in ("ccepted", "n_accept", "#acc tokens")):
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
    if told and not kinds[0] and _RESTORED in text:
        raise InputError(
            f"{name} does not tell how many guesses were made in steps that llama.cpp did twice: "
            "start llama-server with LLAMA_TRACE=1."
        )
    for lane, steps in told.items():
        found.lanes[lane] = [*_once(steps)]
        found.models[lane] = model[1] if model else UNKNOWN
    if not found.lanes:
        _sums(found, text)
    return found


def _sums(found: _Found, text: str) -> None:
    """What stands at the end of every request; or else what grew while the server ran."""
    for engine, patterns in _TOTALS.items():
        for pattern in patterns:
            for i, match in enumerate(pattern.finditer(text)):
                named = match.groupdict()
                _total(found, named.get("who", str(i)), int(named["a"]), int(named["n"]))
            if found.totals:
                found.engine = engine
                return


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
