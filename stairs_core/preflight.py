"""What can be said before a run: what the models are, what passes cost here, and what that allows.

Uses torch through the pair alone, so that a card can be drawn without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .prices import BUSY, UNPRICED, Costs
from .settings import Settings

if TYPE_CHECKING:
    from .pair import Pair

ALPHAS = (0.6, 0.7, 0.8)
"""The share of checked guesses that usually hold."""
_WIDTHS = (1, 2, 3, 5, 7, 9, 13, 17)
_KS = range(1, 17)
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


@dataclass(frozen=True, slots=True)
class Promise:
    """``speedup``: what passes alone allow with ``k`` guesses a step of which ``alpha`` hold;
    ``low`` and ``high``: the quartiles of what single rounds of the measuring allow."""

    alpha: float
    k: int
    speedup: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Preflight:
    """The card. ``parameters`` and ``bytes``: of target and draft (0: none).

    ``v``: tokens of a pass, and what it costs; ``c``: what a guess costs; both in one-token passes
    of plain decoding, which takes ``seconds``. ``k``: None where it is chosen step by step.
    ``promises``: one for each of ``ALPHAS``, at ``k`` or at its best K; none where the drafter's
    passes are not those that were measured. ``best_k``: at 0.7; 0 where no K pays. ``defaults`` and
    ``left_out``: as in a ``trace.Run``. ``busy``: by what factor the measured costs differ, where
    that is too much to say anything of a speedup: there are no promises then, and no best K.
    """

    target: str
    draft: str | None
    tokenizers: str
    parameters: tuple[int, int]
    bytes: tuple[int, int]
    dtype: str
    device: str
    backend: str
    drafter: str
    k: int | None
    seconds: float
    v: tuple[tuple[int, float], ...]
    c: float
    promises: tuple[Promise, ...]
    best_k: int | None
    warnings: tuple[str, ...]
    defaults: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    busy: float | None = None


def preflight(pair: Pair, settings: Settings) -> Preflight:
    """Measures what was not measured yet, for a second or two. Raises InputError where the pair
    cannot do what is asked."""
    from .race import Runner

    runner = Runner(pair, "a", settings)
    drafts = runner.uses_draft_model
    own = pair.costs(settings.backend, settings.numerics, drafts=drafts)
    k = None if settings.length == "cost" else settings.k
    promises: tuple[Promise, ...] = ()
    best = None
    priced = settings.drafter not in (*UNPRICED, "none")
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


def _busy(own: Costs, k: int | None) -> float | None:
    """By what factor what was measured differs, if by too much."""
    promise = _promise(own, 0.7, k)
    differ = max(promise.high / promise.low, own.unsure or 1.0)
    return differ if differ > BUSY else None


def _promise(own: Costs, alpha: float, k: int | None) -> Promise:
    ks = _KS if k is None else (k,)
    best = max(ks, key=lambda n: own.expected_speedup(n, alpha))
    return Promise(alpha, best, own.expected_speedup(best, alpha), *own.expected_range(best, alpha))


def _tokenizers(pair: Pair) -> str:
    if pair.draft is None:
        return "one: there is no draft model"
    if pair.same_tokenizer:
        return "the same"
    from .translate import difference, unlike

    word, entry = difference(pair.tokenizer, pair.draft_tokenizer) or ("", 0)
    if pair.same_ids:
        odd = len(unlike(pair.tokenizer, pair.draft_tokenizer))
        these = "1 id" if odd == 1 else f"{odd} ids"
        return f"the same but for {these}, never guessed: first {entry}, {word!r:.40}"
    return f"differ: first in entry {entry}, {word!r:.40}"


def _warnings(pair: Pair, settings: Settings, own: Costs, drafts: bool, busy: bool) -> list[str]:
    """``busy``: what was measured is too uncertain for a warning to rest on."""
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
    if pair.device.type == "cpu":
        found.append("The models run on the CPU: on a GPU the costs, and the gain, are others.")
    if settings.drafter != "none" and not busy:
        width = (max(_KS) if settings.length == "cost" else settings.k) + 1
        cost = own.target(width) / own.target(1)
        if cost > 1.5:
            found.append(f"A pass over {width} tokens costs {cost:.1f} times a pass over one.")
        if settings.drafter not in UNPRICED and _promise(own, 0.8, None).speedup < 1:
            found.append("No K pays here, even if 80 % of the checked guesses hold.")
    return found


def _experts(config: Any) -> bool:
    return any((getattr(config, name, None) or 0) > 1 for name in _EXPERTS)
