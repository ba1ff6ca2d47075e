"""A race in words: its numbers (tiles and table), the verdict, and where it was run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from ..traces import metrics
from ..traces.engine_logs import UNKNOWN
from ..traces.pass_costs import at_the_pace
from ..traces.records import Recording, Run
from . import explain, labels

Kind = Literal["live", "recorded", "file", "link"]
Lane = Recording | None
_NONE = "–"
MEANINGS = {
    "speedup": "Seconds that the target alone took for as many tokens, over those of the stairs, "
    "both on the engine clock",
    "call": "New tokens of a step, the target's own token included",
    "rate": "Accepted tokens over all that were drafted",
    "alpha": "Accepted tokens over those that were checked: what stands behind a wrong guess is "
    "left out",
    "saved": "Passes of the target alone, minus those of the stairs",
}
"""What the numbers mean, on their tiles and in the glossary of the page."""
_COLUMNS = ("Lane", "Speedup", "Tokens/s", "Tokens/call", "Alpha", "Same text")


def alone(lanes: Sequence[Recording]) -> Lane:
    """The first lane of the target alone."""
    return next((lane for lane in lanes if lane.run.drafter == "none"), None)


def facts(lanes: Sequence[Recording], running: bool = False) -> list[dict[str, Any]]:
    """For every lane, the numbers and the verdict that the page shows while it leads."""
    first = alone(lanes)
    pairs = [(first, lane if lane.run.drafter != "none" else None) for lane in lanes]
    return [
        {
            "numbers": numbers(*pair, running),
            "verdict": verdict(*pair, running),
            "why": _why(*pair) if not running else "",
            "ahead": _ahead(*pair) if not running else "",
        }
        for pair in pairs or [(None, None)]
    ]


def _why(first: Lane, lead: Lane) -> str:
    """Why the lane was faster, or was not; empty where there is nothing to compare."""
    return explain.why(first, lead) if first and lead else ""


def _ahead(first: Lane, lead: Lane) -> str:
    """What the tokens cost that are read for the next guesses; empty where there are none."""
    return explain.ahead(first, lead) if first and lead else ""


def passes(lanes: Sequence[Recording], running: bool = False) -> list[dict[str, list[float]]]:
    """For every lane, by backend: seconds of passes over 1, 2, ... tokens, up to its widest.

    As measured before the run, scaled to the run's own pace; empty while it is ``running``.
    """
    found: list[dict[str, list[float]]] = []
    for lane in lanes:
        widest = max((s.width for s in lane.steps), default=0)
        known = {} if running or lane.run.engine else at_the_pace(lane)
        widths = range(1, widest + 1)
        found.append({b: [float(f"{c.target(n):.4g}") for n in widths] for b, c in known.items()})
    return found


def table(lanes: Sequence[Recording], running: bool = False) -> dict[str, Any]:
    """All lanes side by side, a row each: ``columns`` and ``rows``."""
    return {"columns": _COLUMNS, "rows": [_row(alone(lanes), lane, running) for lane in lanes]}


def numbers(first: Lane, lead: Lane, running: bool = False) -> list[dict[str, str]]:
    """The tiles above the race. A number that is not known, or not known yet, is a dash."""
    base, own = (lane and metrics.known(lane) for lane in (first, lead))
    both = _compare(first, lead)
    saved = both.calls_saved if both and not running else None
    calls = f": {own.steps} for {_tokens(own.new_tokens)}" if own and saved is not None else ""
    return [
        _speedup(first, lead, running),
        _tile(
            _rate(base),
            "tokens/s, target alone",
            "New tokens per second of the engine clock, without guesses",
        ),
        _tile(_rate(own), "tokens/s, stairs", "New tokens per second of the engine clock"),
        _tile(
            _number(None if lossy(lead) else own and own.tokens_per_target_call, "{:.2f}"),
            "tokens per target call",
            MEANINGS["call"],
        ),
        _tile(
            _number(own and own.acceptance_rate, "{:.2f}"),
            "acceptance rate",
            MEANINGS["rate"],
        ),
        _tile(
            _number(own and own.alpha, "{:.2f}"),
            "alpha",
            MEANINGS["alpha"],
        ),
        _tile(
            _number(saved, "{:d}"),
            "target calls saved",
            MEANINGS["saved"] + calls,
        ),
    ]


def _speedup(first: Lane, lead: Lane, running: bool) -> dict[str, str]:
    both = _compare(first, lead)
    found = both.speedup if both else None
    # What it was worth is only known at the end, as is the sentence that says so.
    busy = bool(
        first and lead and not running and not lossy(lead) and metrics.too_busy(lead, first)
    )
    tone = "unsure" if busy else "slower" if found is not None and found < 1 else ""
    return _tile(
        _number(found, "{:.2f} ×"),
        "the speed of the target alone"
        + (", for another text (lossy)" if lossy(lead) else "")
        + (" (busy machine)" if busy else "")
        + (", so far" if running else ""),
        f"Speedup: {_uncapital(MEANINGS['speedup'])}",
        f"big {tone}".rstrip(),
    )


def _uncapital(text: str) -> str:
    return text[0].lower() + text[1:]


def verdict(first: Lane, lead: Lane, running: bool = False) -> dict[str, str]:
    """Whether both lanes wrote the same text: a ``text``, and a ``state``: yes, no or open."""
    if first is None and lead is None:
        return {"state": "open", "text": "Nothing has run yet."}
    both = _compare(first, lead)
    if both is None:
        log = lead is not None and lead.run.engine
        why = "a log holds no texts" if log else "the trace does not hold both lanes"
        return {"state": "open", "text": f"Same text: not compared, {why}."}
    if lossy(first, lead):
        return {"state": "open", "text": f"Same text: not compared, this is {labels.LOSSY}."}
    if both.identical is None:
        text = "Same text: not compared, each lane drew its own; both follow the target's law."
        return {"state": "open", "text": text}
    if both.first_difference:
        d = both.first_difference
        return {
            "state": "no",
            "text": f"Same text: no, first difference at new token {d.position + 1}: {d.first!r} "
            f"alone, {d.second!r} with stairs, by a margin of {d.margin:.2g} logits ({d.verdict}).",
        }
    counts = [metrics.fold(lane.steps).new_tokens for lane in (first, lead) if lane]
    common = min(counts)
    if running:
        return {"state": "open", "text": f"Same text: yes so far (new tokens compared: {common})."}
    if not both.identical:
        text = f"Same text: no, one ends after {_tokens(common)}, the other after {max(counts)}."
        return {"state": "no", "text": text}
    if "stopped" not in {lane.stop.reason for lane in (first, lead) if lane}:
        every = "the one token" if common == 1 else f"all {common} tokens"
        return {"state": "yes", "text": f"Same text: yes, {every}."}
    these = "the one token" if common == 1 else f"the {common} tokens"
    text = f"Same text: yes, {these} that both had written when the run was stopped."
    return {"state": "yes", "text": text}


def lossy(*lanes: Lane) -> bool:
    """Whether one of them wrote another text than the target's, by design."""
    return any(lane is not None and lane.run.lossy for lane in lanes)


def source(lanes: Sequence[Recording], kind: Kind, name: str = "") -> str:
    """The source line: whether recorded or live, on which machine, with which models."""
    if not lanes:
        return ""
    run = lanes[-1].run
    if run.engine:
        target = "" if run.target == UNKNOWN else f" with {run.target}"
        log = f"“{name}”, a log of {run.engine}{target}{labels.longest(lanes)}."
        content = "It tells which guesses held, but no texts and no times."
        return " ".join([log, content, *labels.untold(lanes)])
    place = labels.place(run)
    if kind == "live":
        return f"On {place}: {_setting(lanes)}."
    return f"“{name}”, made on {place}, {run.created[:10]}: {_setting(lanes)}."


def _setting(lanes: Sequence[Recording]) -> str:
    run = lanes[-1].run
    guessing = [lane.run for lane in lanes if lane.run.drafter != "none"]
    parts = [_models([lane.run for lane in lanes])]
    if len(guessing) == 1:  # where several guess, the names of the lanes tell how
        (one,) = guessing
        parts += [] if one.drafter == "model" else [labels.guesser(one.drafter)]
        parts += [labels.drafting(one), *labels.checking(one, usual=True)]
    parts += [labels.chat(run), labels.sampled(run.sampling), labels.defaults(run)]
    parts.append(labels.promises(lanes))
    return ", ".join(filter(None, parts))


def _models(runs: Sequence[Run]) -> str:
    draft = next((run.draft for run in runs if run.draft), None)
    return f"{runs[-1].target} with {draft}" if draft else runs[-1].target


def _row(first: Lane, lane: Recording, running: bool) -> list[str]:
    own = metrics.known(lane)
    both = None if lane is first else _compare(first, lane)
    return [
        lane.run.name,
        _number(both and both.speedup, "{:.2f} ×"),
        _rate(own),
        _number(own.tokens_per_target_call if own.steps and not lossy(lane) else None, "{:.2f}"),
        _number(own.alpha, "{:.2f}"),
        "lossy" if lossy(lane) else _same(both, running),
    ]


def _same(both: metrics.Comparison | None, running: bool) -> str:
    if both is None:
        return _NONE
    if both.first_difference:
        return f"no, from token {both.first_difference.position + 1}"
    if both.identical is None:
        return "not compared"
    if running:
        return "so far"
    return "yes" if both.identical else "no, one is longer"


def _compare(first: Lane, lead: Lane) -> metrics.Comparison | None:
    return metrics.compare(first, lead) if first and lead else None


def _tile(value: str, label: str, meaning: str, tone: str = "") -> dict[str, str]:
    return {"value": value, "label": label, "meaning": meaning, "tone": tone}


def _number(value: float | None, form: str) -> str:
    return _NONE if value is None else form.format(value)


def _tokens(count: int) -> str:
    return f"{count} token{'s' * (count != 1)}"


def _rate(summary: metrics.Summary | None) -> str:
    return _number(summary.tokens_per_second if summary and summary.seconds else None, "{:.1f}")
