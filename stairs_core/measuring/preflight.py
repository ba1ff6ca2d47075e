"""What to expect of a run before it starts: the models, what their passes cost here, the speedup.

Imports no torch itself: only the pair that it is given does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..settings import methods
from ..settings.methods import REGISTRY
from ..settings.settings import Settings
from ..traces.pass_costs import BUSY, PassCosts
from ..traces.records import Preflight, Promise
from . import pass_timing

if TYPE_CHECKING:
    from ..models.pair import Pair

ALPHAS = (0.6, 0.7, 0.8)
"""Usual shares of checked guesses that are accepted."""
_WIDTHS = (1, 2, 3, 5, 7, 9, 13, 17)
_KS = range(1, 17)
"""Ks among which the best is looked for."""
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


def preflight(pair: Pair, settings: Settings) -> Preflight:
    """The card for such a run. Measures pass costs, for a second or two, if they are not known yet.

    Raises InputError where the pair cannot do what is asked.
    """
    from .runner import Runner

    runner = Runner(pair, "a", settings)
    drafts = runner.uses_draft_model
    own = pass_timing.costs(pair, settings.backend, settings.numerics, drafts=drafts)
    k = None if settings.length == "cost" else settings.k
    promises: tuple[Promise, ...] = ()
    best = None
    priced = methods.priced(settings.drafter) and settings.drafter != "none"
    busy = _busy(own, k) if priced else None
    if priced and not busy:
        promises = tuple(_promise(own, alpha, k) for alpha in ALPHAS)
        likely = _promise(own, 0.7, None)
        best = likely.k if likely.speedup > 1 else 0
    unit, most = own.unit, own.passes[-1][0]
    return Preflight(
        target=pair.target_name,
        draft=pair.draft_name,
        tokenizers=_tokenizers(pair),
        parameters=pair.parameters,
        bytes=pair.bytes,
        dtype=pair.dtype,
        device=pair.describe()["device"],
        backend=settings.backend,
        drafter=settings.drafter,
        k=k,
        seconds=unit,
        v=tuple((n, own.target(n) / unit) for n in _WIDTHS if n <= most),
        c=own.draft / unit,
        promises=promises,
        best_k=best,
        warnings=tuple(_warnings(pair, settings, own, drafts, bool(busy))),
        defaults=runner.run.defaults,
        left_out=runner.run.left_out,
        busy=busy,
    )


def _busy(own: PassCosts, k: int | None) -> float | None:
    """The factor by which the measurements differ, where it is too large (``BUSY``)."""
    promise = _promise(own, 0.7, k)
    differ = max(promise.high / promise.low, own.unsure or 1.0)
    return differ if differ > BUSY else None


def _promise(own: PassCosts, alpha: float, k: int | None) -> Promise:
    ks = _KS if k is None else (k,)
    best = max(ks, key=lambda n: own.expected_speedup(n, alpha))
    return Promise(alpha, best, own.expected_speedup(best, alpha), *own.expected_range(best, alpha))


def _tokenizers(pair: Pair) -> str:
    if pair.draft is None:
        return "one: there is no draft model"
    if pair.same_tokenizer:
        return "the same"
    from ..text.cross_tokenizer import difference, unlike

    word, entry = difference(pair.tokenizer, pair.draft_tokenizer) or ("", 0)
    if pair.same_ids:
        odd = len(unlike(pair.tokenizer, pair.draft_tokenizer))
        these = "1 id" if odd == 1 else f"{odd} ids"
        return f"the same but for {these}, never guessed: first {entry}, {word!r:.40}"
    return f"differ: first in entry {entry}, {word!r:.40}"


def _warnings(
    pair: Pair, settings: Settings, own: PassCosts, drafts: bool, busy: bool
) -> list[str]:
    """Sentences for the card. ``busy``: the measurements differ too much to warn of costs."""
    unit, found = own.unit, []
    if _experts(pair.target.config.get_text_config()):
        found.append(
            "The target is a mixture of experts: a pass over more tokens reads more of them, so "
            "checking guesses costs more than in a dense model."
        )
    if drafts:
        target, draft = pair.parameters
        if own.draft > 0.35 * unit and not busy:
            found.append(
                f"A guess costs {own.draft / unit:.2f} of a pass of the target, which is much: a "
                "smaller draft would gain more."
            )
        if target < 4 * draft:
            found.append(
                f"The target has {target / draft:.1f} times the parameters of the draft: four "
                "times or more is usual."
            )
    if methods.REGISTRY[settings.drafter].lossy:
        found.append(
            "Another text than the target's comes of this, by design (lossy): nobody checks what "
            "the small model writes."
        )
    if pair.device.type == "cpu":
        found.append("The models run on the CPU: on a GPU the costs, and the gain, are others.")
    guesses = settings.drafter != "none" and not methods.REGISTRY[settings.drafter].lossy
    if guesses and not busy:
        width = _width(pair, settings)
        cost = own.target(width) / own.target(1)
        if cost > 1.5:
            found.append(f"A pass over {width} tokens costs {cost:.1f} times a pass over one.")
        if methods.priced(settings.drafter) and _promise(own, 0.8, None).speedup < 1:
            found.append("No K pays here, even if 80 % of the checked guesses hold.")
    return found


def _width(pair: Pair, settings: Settings) -> int:
    """The tokens that a pass reads, at most: those after the ones in the cache."""
    k, method = max(_KS) if settings.length == "cost" else settings.k, REGISTRY[settings.drafter]
    trained = getattr(pair.target.config, "stairs_space", None)
    k = min(k, int(trained["k"])) if method.masks and trained else k
    return k + 1 + method.more(k)


def _experts(config: Any) -> bool:
    return any((getattr(config, name, None) or 0) > 1 for name in _EXPERTS)
