"""What was asked of a run, in words that the page and the terminal share."""

from __future__ import annotations

from collections.abc import Sequence

from ..drafters import REGISTRY
from ..sampling import Sampling
from ..settings import Settings, option_words
from ..trace import Prediction, Run, Token

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


def guesser(name: str) -> str:
    """Who guesses, as the registry calls it; a trace may name one that is not there."""
    return REGISTRY[name].label if name in REGISTRY else name


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
