"""What a run leaves behind: frozen records and their JSON form. ``files`` reads and writes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Container
from dataclasses import dataclass, field
from itertools import chain, count, pairwise
from typing import Any, Literal, get_args

from ..settings.methods import LOSSY
from ..settings.sampling import Sampling

SCHEMA = 1
MAX_LANES, MAX_DRAFTED = 64, 1024
"""What can be drawn of a trace that is opened: lanes, and drafted tokens in a step."""
_MAX_WIDTHS = 32
"""Widths of passes that can have been measured before a run: three times as many as ever were."""
_LOWEST, _HIGHEST = 1e-9, 1e6
"""What a pass can cost, in seconds."""

Status = Literal["accepted", "rejected", "unchecked", "correction", "bonus", "dropped"]
"""What became of a token of a step. Drafted tokens: ``accepted`` equals the target's choice (or,
when sampling, was kept by the acceptance rule); ``rejected`` was compared and did not;
``unchecked`` was never compared, because a token before it was rejected. The target's own token: a
``correction`` replaces a rejected draft token, a ``bonus`` follows drafts that were all accepted.
``dropped``: accepted, or the target's own, but cut off where the text ended."""
STATUSES: tuple[Status, ...] = get_args(Status)
COMMITTED: tuple[Status, ...] = ("accepted", "correction", "bonus")
"""Of the tokens that a step adds to the text."""
Reason = Literal["eos", "length", "context", "stopped"]
"""Why a run ended: at the EOS token, at ``max_new_tokens``, where the models can hold no more
tokens, or because it was told to stop."""
Untold = Literal["order", "lengths", "guesses"]
"""What a log of another engine leaves out: see ``Run.untold``."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a copied token was copied from: the ``document`` (a reference's name, or "text" for
    prompt and output), and the position in it, counted in tokens from 0."""

    document: str
    at: int


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a step and what became of it. ``source``: the drafter's name, or "target".

    ``text``: what the token adds to the text before it. Empty for the first bytes of a character
    that a later token completes, and for a special token, whose name is in ``special``.
    ``origin``: where it was copied from, if it was. ``probability`` and ``rank``: the target's
    probability for it at its position, and its rank there, 1 being the most likely token.
    ``draft_probability``: the draft model's, where a model guessed it.
    """

    id: int
    text: str
    status: Status
    source: str
    origin: Origin | None = None
    probability: float | None = None
    rank: int | None = None
    draft_probability: float | None = None
    special: str | None = None

    @property
    def shown(self) -> str:
        """What is shown for it in a list of tokens: its text, or its name if it is special."""
        return self.text + (self.special or "")


@dataclass(frozen=True, slots=True)
class Prediction:
    """The target's most likely next token after one row of the staircase.

    ``margin``: the best logit minus the second best. ``special``: as in ``Token``.
    """

    id: int
    text: str
    margin: float
    special: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One turn of the loop.

    ``start``: how many tokens the text held before the step, prompt included. ``tokens``: the
    drafted tokens in order, then the target's own. ``predictions``: one per row, N + 1 for N
    drafted tokens; row 0 is the text so far, row ``i`` ends with drafted token ``i - 1``.
    ``accepted``: how many drafted tokens were accepted. Times in seconds of the engine clock;
    ``elapsed`` is its reading after the step. ``parents``: None for a chain; for a tree, the index
    of the drafted token that each one follows, -1 for the text. ``probe``: how many
    more tokens the pass read, which are no guesses but teach the drafter (masks, a window); None
    for none.
    """

    index: int
    start: int
    tokens: tuple[Token, ...]
    predictions: tuple[Prediction, ...]
    accepted: int
    draft_seconds: float
    verify_seconds: float
    other_seconds: float
    elapsed: float
    stop: Reason | None = None
    parents: tuple[int, ...] | None = None
    probe: int | None = None

    @property
    def width(self) -> int:
        """How many tokens the target's pass read after those that it knew: the text's last one, the
        drafted ones, and those that are no guesses."""
        return len(self.tokens) + (self.probe or 0)

    @property
    def kept(self) -> int:
        """The row that ends with the last accepted token: the target's own token follows it."""
        if self.parents is None:
            return self.accepted
        on_path = ("accepted", "dropped")
        return max((i for i, t in enumerate(self.drafted, 1) if t.status in on_path), default=0)

    @property
    def rows(self) -> tuple[int, ...]:
        """For every token, the row that it follows."""
        if self.parents is None:
            return (*range(len(self.drafted)), self.accepted)
        return (*(parent + 1 for parent in self.parents), self.kept)

    @property
    def drafted(self) -> tuple[Token, ...]:
        return self.tokens[:-1]

    @property
    def committed(self) -> tuple[Token, ...]:
        """The tokens that this step added to the text."""
        return tuple(t for t in self.tokens if t.status in COMMITTED)


@dataclass(frozen=True, slots=True)
class Prices:
    """What passes cost on the machine of a run, measured before the run; in seconds.

    ``seconds[i]``: a pass of the target in this ``backend`` over ``widths[i]`` tokens, narrowest
    first, after a text of ``context`` tokens. ``draft``: one drafted token (0: no model drafts).
    ``spread``: the third quartile of the measurements over the first (None: not recorded).
    Raises TypeError for values that no measurement can give: a trace may come from anybody.
    """

    backend: str
    context: int
    widths: tuple[int, ...]
    seconds: tuple[float, ...]
    draft: float
    spread: float | None = None

    def __post_init__(self) -> None:
        ordered = all(a < b for a, b in pairwise((0, *self.widths)))
        measured = len(self.seconds) == len(self.widths) and 0 < len(self.widths) <= _MAX_WIDTHS
        costs = (*self.seconds, *([self.draft] if self.draft else []))
        paid = all(_LOWEST <= seconds <= _HIGHEST for seconds in costs)
        spread = self.spread is None or self.spread >= 1
        if not ordered or not measured or not paid or not spread:
            raise TypeError("`prices`")


@dataclass(frozen=True, slots=True)
class Run:
    """The head of a lane: what was asked, of which models, on what machine.

    ``k``: tokens drafted per step, at most. ``length``: the policy that chose how many.
    ``sampling``: None for greedy decoding. ``references``: the names of the documents that could be
    copied from. ``parameters`` and ``bytes``: of target and draft; shorter without a draft.
    ``prices``: of the lane's own backend first, where they were measured. ``pair``: what
    ``load_pair`` was asked for; of a folder, its name alone. ``encoded``: tokens of the prompt that
    an encoder reads, before the decoder's own text begins. ``prompt_special``: names of the special
    tokens in the prompt, by their ids; their entry in ``prompt_tokens`` is empty. ``system`` and
    ``template``: what else the chat template was filled in with. ``eos_ids``: the tokens that the
    text ends at. ``defaults``: entries of the target's generation config that shaped the text, and
    ``left_out``, those that were ignored; each as ``name=value``. The languages: codes, where one
    was asked for. ``passes``: what computed the target's passes (``forward.faster_pass.kind``);
    empty where an older trace does not tell.

    ``engine``: set for a log of another engine: such a lane has no texts, no ids, no margins and no
    times. ``untold``: what the log leaves out about its steps. "order": only how many steps
    accepted how many guesses, so they are sorted by that. "lengths": also how many guesses each
    step made, only their sum. "guesses": even the sum, so that only accepted guesses are recorded.
    """

    name: str
    prompt: str
    prompt_ids: tuple[int, ...]
    prompt_tokens: tuple[str, ...]
    target: str
    draft: str | None
    drafter: str
    k: int
    backend: str
    max_new_tokens: int
    exactness: str
    dtype: str
    device: str
    hardware: str
    versions: dict[str, str]
    created: str
    chat: bool = False
    length: str = "constant"
    numerics: str = "fast"
    sampling: Sampling | None = None
    references: tuple[str, ...] = ()
    parameters: tuple[int, ...] = ()
    bytes: tuple[int, ...] = ()
    prices: tuple[Prices, ...] = ()
    engine: str | None = None
    untold: Untold | None = None
    pair: str | None = None
    encoded: int = 0
    prompt_special: dict[str, str] = field(default_factory=dict)
    system: str = ""
    template: dict[str, Any] = field(default_factory=dict)
    eos_ids: tuple[int, ...] = ()
    defaults: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    source_language: str | None = None
    target_language: str | None = None
    passes: str = ""
    schema: int = SCHEMA

    @property
    def comparable(self) -> bool:
        """Whether another lane of the race must have written the same text. Not where each draws
        its own random numbers, nor where the lane has no text, nor where it is lossy."""
        if self.lossy or self.engine is not None:
            return False
        return self.sampling is None or self.sampling.comparable

    @property
    def lossy(self) -> bool:
        """Whether the text is another one than the target's, by design."""
        return self.exactness == LOSSY


@dataclass(frozen=True, slots=True)
class Stop:
    """The end of a lane. ``text``: the new text; a last character that is incomplete is in it as
    a replacement character.

    ``noise``: where the text differs from another lane's, how far rounding was measured to move a
    logit there, and ``rounding``, how far it can (``measuring.same_text``). ``draft_matches``: a 1
    or 0 for every new token: whether the draft, reading the text before it, would have guessed it;
    what ``what_if`` works with. None where nobody asked, or it cannot be known.
    """

    reason: Reason
    text: str
    noise: float | None = None
    draft_matches: str | None = None
    rounding: float | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """One whole lane."""

    run: Run
    steps: tuple[Step, ...]
    stop: Stop

    @property
    def new_ids(self) -> list[int]:
        """The ids of the new tokens, in order."""
        return [token.id for step in self.steps for token in step.committed]


@dataclass(frozen=True, slots=True)
class Promise:
    """``speedup``: what the cost of passes allows with ``k`` guesses per step, each accepted with
    the chance ``alpha``. ``low`` and ``high``: the quartiles of the same over single rounds of
    measuring."""

    alpha: float
    k: int
    speedup: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Preflight:
    """What is known before a run. ``parameters`` and ``bytes``: of target and draft (0: none).

    ``seconds``: a one-token pass of plain decoding, the unit of ``v`` and ``c``. ``v``: pairs of
    tokens in a pass and what the pass costs. ``c``: what one guess costs. ``k``: None where it is
    chosen step by step. ``promises``: the expected speedup at some usual acceptance rates, at
    ``k`` or else at the best K for each; none where other passes than the measured ones draft.
    ``best_k``: the best K if 70 % of guesses are accepted; 0 where no K pays. ``defaults`` and
    ``left_out``: as in ``Run``. ``busy``: the factor by which measured costs differ, where it is
    too large to expect anything: then there are no promises and no best K.
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


def unused(name: str, taken: Container[str]) -> str:
    """``name`` for a lane, numbered where another lane has it: "x", "x (2)", "x (3)" ..."""
    names = chain([name], (f"{name} ({i})" for i in count(2)))
    return next(n for n in names if n not in taken)


Event = Run | Step | Stop


class Lanes:
    """The lanes of a race, put together from its events in the order in which they came."""

    def __init__(self) -> None:
        self._heads: list[tuple[Run, list[Step]]] = []
        self._stops: dict[int, Stop] = {}

    def add(self, lane: int, record: Event) -> None:
        """Lanes are numbered from 0 and open in that order, each with its ``Run``.

        Raises LookupError where there is no such lane (or already is one, for a ``Run``), and
        ValueError where the lane has ended.
        """
        if isinstance(record, Run):
            if lane != len(self._heads):
                raise LookupError(lane)
            self._heads.append((record, []))
        elif not 0 <= lane < len(self._heads):
            raise LookupError(lane)
        elif lane in self._stops:
            raise ValueError(lane)
        elif isinstance(record, Step):
            self._heads[lane][1].append(record)
        else:
            self._stops[lane] = record

    @property
    def opened(self) -> int:
        """How many lanes there are."""
        return len(self._heads)

    @property
    def started(self) -> bool:
        """Whether any lane has made a step."""
        return any(steps for _, steps in self._heads)

    def ended(self, lane: int) -> bool:
        return lane in self._stops

    def recordings(self) -> list[Recording]:
        """Every lane so far. One that has not ended counts as stopped, its text unknown."""
        return [
            Recording(run, tuple(steps), self._stops.get(lane, Stop("stopped", "")))
            for lane, (run, steps) in enumerate(self._heads)
        ]


TYPES: dict[str, type[Event]] = {"run": Run, "step": Step, "stop": Stop}

JSON_KEYS = {"draft_matches": "agrees"}
"""Fields that have another key in JSON: the one that traces have always had. Used for writing
(``event``) and for reading (``from_json``)."""
_LEFT_OUT_WHERE_NONE = {
    *("origin", "parents", "probe", "probability", "rank", "draft_probability", "special"),
    *("engine", "untold", "pair", "source_language", "target_language"),
    *("draft_matches", "rounding", "spread"),
}
"""Fields that most records do not have: a trace is mostly tokens, and stays short without them."""


def event(lane: int, record: Event) -> dict[str, Any]:
    """The JSON form of one record: what a line of the file holds, and what the page is sent."""
    name = next(k for k, v in TYPES.items() if isinstance(record, v))
    return {"type": name, "lane": lane, **dataclasses.asdict(record, dict_factory=_json)}


def _json(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    return {
        JSON_KEYS.get(name, name): value
        for name, value in fields
        if value is not None or name not in _LEFT_OUT_WHERE_NONE
    }
