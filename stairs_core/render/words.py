"""What was asked of a run, in words that the page and the terminal share."""

from __future__ import annotations

from collections.abc import Sequence

from .. import errors, presets
from ..drafters import REGISTRY
from ..sampling import Sampling
from ..settings import Settings, option_words
from ..trace import Prediction, Recording, Run, Token

_CUTS = {"top_k": 0, "top_p": 1, "min_p": 0, "repetition_penalty": 1}
"""What else may shape a draw, and the value that changes nothing."""

BACKENDS = {
    "single_kv": "one pass over the cache",
    "single": "one pass, no cache",
    "matrix_kv": "every row over the cache",
    "matrix": "every row, no cache",
}
"""The four ways of the stairs in words, the usual first."""

_DRAFTING = {
    "constant": "K {k}",
    "cost": "K auto, {k} at most",
    "heuristic": "from K {k} (heuristic)",
}


_UNTOLD = {
    "order": "It counts how many steps kept how many guesses: their order is not known, and they "
    "stand sorted, from the fewest kept.",
    "lengths": "How many guesses each step made is known in sum only, and spread over them.",
    "guesses": "How many guesses were made is not known: only those that held are drawn.",
}
"""What a log leaves open: see ``trace.Run``."""


def untold(lanes: Sequence[Recording]) -> list[str]:
    """Sentences on what the logs of these lanes leave open."""
    found = {lane.run.untold for lane in lanes} - {None}
    found |= {"order"} if found else set()
    return [said for kind, said in _UNTOLD.items() if kind in found]


def guesser(name: str) -> str:
    """Who guesses, as the registry calls it; a trace may name one that is not there."""
    return REGISTRY[name].label if name in REGISTRY else name


def longest(lanes: Sequence[Recording]) -> str:
    """The most guesses of a step in the logs of these lanes; nothing where one does not tell."""
    if any(lane.run.untold in ("lengths", "guesses") for lane in lanes):
        return ""
    return f", K {max(lane.run.k for lane in lanes)} at most"


def quoted(choice: str, value: str) -> str:
    """A value of a choice as its menu on the page has it."""
    label = guesser(value) if choice == "drafter" else BACKENDS.get(value, value)
    return f"“{label}”" if choice in _CHOICES else value


def _listed(choice: str, values: Sequence[str], last: str) -> str:
    return errors.listed([quoted(choice, value) for value in values], last)


def _use(choice: str, values: Sequence[str]) -> str | None:
    if choice in _CHOICES:
        return f"choose {_listed(choice, values, 'or')}"
    if choice == "draft" and presets.allowed() == "bundled":
        return None
    return _WAYS.get((choice, *values))


_CHOICES = {"drafter": "guesser", "backend": "way to compute the stairs"}
_WAYS: dict[tuple[str, ...], str] = {
    ("chat", ""): "switch “Chat template” on",
    ("draft", ""): "load a pair with one under “Models”",
    ("numerics", "fast"): "switch “Strict numerics” off",
    ("reference", "FILE"): "paste one as “Reference text”, or add a file of it",
}

PAGE = errors.Words(lambda choice: _CHOICES.get(choice, choice), _listed, _use)
"""What choices are called on the page; it has no others than these."""


def lane(settings: Settings) -> str:
    """Who guesses, and how many: what tells one lane of a race from another."""
    k = f"K {settings.k}" if settings.length == "constant" else "K auto"
    return ", ".join([guesser(settings.drafter), k, *checking(settings)])


def checking(run: Run | Settings, *, usual: bool = False) -> list[str]:
    """How guesses are checked; unless ``usual``, only what is not."""
    known = usual or run.backend != next(iter(BACKENDS))
    parts = [BACKENDS.get(run.backend, run.backend)] if known else []
    return [*parts, "strict"] if run.numerics == "strict" else parts


def drafting(run: Run) -> str:
    """How many tokens a run drafts in a step, in a few words; the trace's own: not yet harmless."""
    return _DRAFTING.get(run.length, "K {k} at most ({length})").format(k=run.k, length=run.length)


def chat(run: Run) -> str:
    """With what the chat template was filled in, if it was."""
    if not run.chat:
        return ""
    parts = ["a system prompt"] if run.system else []
    parts += option_words(run.template)
    return " with ".join(filter(None, ["chat template", " and ".join(parts)]))


def special(token: Token | Prediction) -> str:
    """The name of a special token between brackets of its own; nothing for a piece of text."""
    return f"⟦{token.special}⟧" if token.special else ""


def defaults(run: Run) -> str:
    """What the target's own generation config does to the text, and what of it is left out."""
    return told_defaults(run.defaults, run.left_out)


def told_defaults(applied: Sequence[str], left_out: Sequence[str]) -> str:
    """The same of entries, each ``name=value``; the trace's own: not yet harmless."""
    parts = [f"the target's {', '.join(applied)}"] * bool(applied)
    return "; ".join(parts + [f"its {', '.join(left_out)} left out"] * bool(left_out))


def sampled(sampling: Sampling | None) -> str:
    """How tokens were drawn; nothing for greedy decoding."""
    if sampling is None:
        return ""
    shaping = _CUTS if sampling.draws else ("repetition_penalty",)
    values = {name: getattr(sampling, name) for name in shaping}
    cuts = [f"{n.replace('_', '-')} {v:g}" for n, v in values.items() if v != _CUTS[n]]
    if not sampling.draws:
        return ", ".join(["greedy", *cuts])
    dice = ", same dice" if sampling.rule == "coupled" else ""
    heat, seed = f"temperature {sampling.temperature:g}", f"seed {sampling.seed}{dice}"
    return ", ".join(["sampled", heat, *cuts, seed])
