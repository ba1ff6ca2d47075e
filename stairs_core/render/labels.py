"""Names of drafters, backends, settings and sampling, as the page and the terminal show them."""

from __future__ import annotations

from collections.abc import Sequence

from ..settings.methods import REGISTRY
from ..settings.sampling import Sampling
from ..settings.settings import Settings, option_words
from ..traces.records import Prediction, Recording, Run, Token

_CUTS = {"top_k": 0, "top_p": 1, "min_p": 0, "repetition_penalty": 1}
"""Options of sampling other than the temperature, and the value at which each has no effect."""

BACKENDS = {
    "single_kv": "one pass over the cache",
    "single": "one pass, no cache",
    "matrix_kv": "every row over the cache",
    "matrix": "every row, no cache",
}
"""The four backends in words, the default first."""

_PASSES = {
    "graphs": "passes replayed as CUDA graphs",
    "lean": "Stairs' own forward pass",
    "packed": "packed weights",
    "compiled": "torch.compile",
    "stock": "transformers' forward pass",
}
"""What computes a target's passes (``Run.passes``), in words."""

_DRAFTING = {
    "constant": "K {k}",
    "cost": "K auto, {k} at most",
    "heuristic": "from K {k} (heuristic)",
}
"""How many tokens a run drafts, by its length policy."""

LOSSY = "another text, by design (lossy)"
"""What is said of a lane whose text is not the target's."""

_UNTOLD = {
    "order": "It counts how many steps kept how many guesses: their order is not known, and they "
    "stand sorted, from the fewest kept.",
    "lengths": "How many guesses each step made is known in sum only, and spread over them.",
    "guesses": "How many guesses were made is not known: only those that held are drawn.",
}
"""What a log leaves out, in sentences: see ``Run.untold``."""


def untold(lanes: Sequence[Recording]) -> list[str]:
    """Sentences on what the logs of these lanes leave out."""
    found = {lane.run.untold for lane in lanes} - {None}
    found |= {"order"} if found else set()
    return [sentence for kind, sentence in _UNTOLD.items() if kind in found]


def promises(lanes: Sequence[Recording]) -> str:
    """What the texts of these lanes promise; lossy lanes are named where others are exact."""
    odd = [lane.run.name for lane in lanes if lane.run.lossy]
    exact = [lane.run.exactness for lane in lanes if not lane.run.lossy]
    if not odd or not exact:
        return lanes[-1].run.exactness
    return f"{exact[-1]} (but {LOSSY}: {', '.join(odd)})"


def guesser(name: str) -> str:
    """A drafter's label in the registry; its own name where a trace has one that is not there."""
    return REGISTRY[name].label if name in REGISTRY else name


def longest(lanes: Sequence[Recording]) -> str:
    """The most guesses in a step of these logs; empty where a log does not have it."""
    if any(lane.run.untold in ("lengths", "guesses") for lane in lanes):
        return ""
    return f", K {max(lane.run.k for lane in lanes)} at most"


def lane(settings: Settings) -> str:
    """A lane's name: its drafter, its K, and how guesses are checked if that is unusual."""
    k = f"K {settings.k}" if settings.length == "constant" else "K auto"
    return ", ".join([guesser(settings.drafter), k, *checking(settings)])


def checking(run: Run | Settings, *, usual: bool = False) -> list[str]:
    """How guesses are checked: backend and numerics. The defaults only if ``usual``."""
    known = usual or run.backend != next(iter(BACKENDS))
    parts = [BACKENDS.get(run.backend, run.backend)] if known else []
    return [*parts, "strict"] if run.numerics == "strict" else parts


def place(run: Run) -> str:
    """On what a run was made, in which precision, and by whose forward pass."""
    parts = run.hardware, run.dtype, _PASSES.get(run.passes, "")
    return ", ".join(filter(None, parts))


def drafting(run: Run) -> str:
    """How many tokens a run drafts per step, in a few words. Not escaped for a terminal."""
    return _DRAFTING.get(run.length, "K {k} at most ({length})").format(k=run.k, length=run.length)


def chat(run: Run) -> str:
    """The chat template and what it was filled in with, in words; empty without one."""
    if not run.chat:
        return ""
    parts = ["a system prompt"] if run.system else []
    parts += option_words(run.template)
    return " with ".join(filter(None, ["chat template", " and ".join(parts)]))


def special(token: Token | Prediction) -> str:
    """The name of a special token in brackets; empty for a token that is text."""
    return f"⟦{token.special}⟧" if token.special else ""


def defaults(run: Run) -> str:
    """What the target's generation config did to the text, and which entries were ignored."""
    return config_entries(run.defaults, run.left_out)


def config_entries(applied: Sequence[str], left_out: Sequence[str]) -> str:
    """The same from the entries, each ``name=value``. Not escaped for a terminal."""
    parts = [f"the target's {', '.join(applied)}"] * bool(applied)
    return "; ".join(parts + [f"its {', '.join(left_out)} left out"] * bool(left_out))


def sampled(sampling: Sampling | None) -> str:
    """How tokens were sampled; empty for greedy decoding."""
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
