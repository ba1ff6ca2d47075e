"""What a run leaves behind: frozen records. Standard library only; ``tracefile`` has the files."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from .sampling import Sampling

SCHEMA = 1

Status = Literal["accepted", "rejected", "unchecked", "correction", "bonus", "dropped"]
Reason = Literal["eos", "length", "context", "stopped"]
Untold = Literal["order", "lengths", "guesses"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a copied token stood: its ``document`` (a reference's name, or "text" for prompt and
    output), and its place there, counted in tokens from 0."""

    document: str
    at: int


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a step and what became of it. ``source``: the drafter's name, or "target".

    ``text`` is what the token adds to the text before it; empty for the first bytes of a character
    that a later token completes, and for a special token, which is no text and has a name,
    ``special``, instead. ``origin``: where it was copied from, if it was.
    ``probability`` and ``rank``: what the target gives it where it stands, 1 being its favourite;
    ``draft_probability``: what the draft gave it, where a model guessed.
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
        """What stands for it where tokens are looked at, not read."""
        return self.text + (self.special or "")


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the target finds most likely after one row of the stairs, and by how much.

    ``margin``: the best logit minus the second best, in logits. ``special``: as a token's.
    """

    id: int
    text: str
    margin: float
    special: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One turn of the loop.

    ``start``: how many tokens the text held before the step, prompt included. ``tokens``: the
    drafted tokens in order, then the target's own. ``predictions``: one a row, N + 1 for N drafted
    tokens; row 0 is the text so far, row ``i`` ends with drafted token ``i - 1``. ``accepted``: how
    many drafted tokens held. Times in seconds of the engine clock; ``elapsed`` is its reading after
    the step. ``parents``: None for a chain; for a tree, which drafted token each one follows, -1
    for the text.
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

    @property
    def kept(self) -> int:
        """The row where the accepted tokens end, after which the target's own token comes."""
        if self.parents is None:
            return self.accepted
        on_path = ("accepted", "dropped")
        return max((i for i, t in enumerate(self.drafted, 1) if t.status in on_path), default=0)

    @property
    def rows(self) -> tuple[int, ...]:
        """For every token the row after which it stands."""
        if self.parents is None:
            return (*range(len(self.drafted)), self.accepted)
        return (*(parent + 1 for parent in self.parents), self.kept)

    @property
    def drafted(self) -> tuple[Token, ...]:
        return self.tokens[:-1]

    @property
    def committed(self) -> tuple[Token, ...]:
        """The tokens that this step added to the text."""
        return tuple(t for t in self.tokens if t.status in ("accepted", "correction", "bonus"))


@dataclass(frozen=True, slots=True)
class Prices:
    """What passes cost on the machine of a run, measured before it; in seconds.

    ``seconds[i]``: a pass of the target in this ``backend`` over ``widths[i]`` tokens, narrowest
    first, after a text of ``context`` tokens. ``draft``: one drafted token (0: no model drafts).
    ``spread``: by what factor the middle half of what was measured differed (None: not recorded).
    Raises TypeError for what cannot have been measured: a trace may come from anybody.
    """

    backend: str
    context: int
    widths: tuple[int, ...]
    seconds: tuple[float, ...]
    draft: float
    spread: float | None = None

    def __post_init__(self) -> None:
        ordered = all(a < b for a, b in pairwise((0, *self.widths)))
        paid = len(self.seconds) == len(self.widths) > 0 < min(self.seconds, default=0)
        spread = self.spread is None or self.spread >= 1
        if not ordered or not paid or not spread or self.draft < 0:
            raise TypeError("`prices`")


@dataclass(frozen=True, slots=True)
class Run:
    """The head of a lane: what was asked, of which models, on what machine.

    ``k``: tokens drafted a step, at most. ``length``: the policy that said how many. ``sampling``:
    None for greedy decoding. ``references``: the names of the documents that could be copied from.
    ``parameters`` and ``bytes``: of target and draft (0: none). ``prices``: of the lane's own
    backend first, where they were measured. ``engine``: whose log this is, if not ours: such a
    trace has no texts, no ids, no margins and no times. ``untold``: what such a log does not say
    of its steps: their ``order``, so that they stand sorted by how many guesses held; also their
    ``lengths``, how many guesses each one made, but for the sum; or even the sum, and then the
    ``guesses`` that did not hold are left out. ``pair``: what ``load_pair`` was asked for, of a
    folder its name alone. ``encoded``: tokens of the prompt that an encoder
    reads, and the stairs do not stand on. ``prompt_special``: the names of special tokens in the
    prompt, whose pieces are empty, by their ids. ``system`` and ``template``: what else the chat
    template was filled in with. ``eos_ids``: what the text ended at, if it came. ``defaults``: of
    the target's generation config, those that shaped the text, and ``left_out``, those that were
    not kept to; each as ``name=value``. The languages: codes, where one was asked for.
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
    schema: int = SCHEMA

    @property
    def comparable(self) -> bool:
        """Whether another lane must have written the same text; chance may have parted them.
        What has no text is never compared."""
        return self.engine is None and (self.sampling is None or self.sampling.comparable)


@dataclass(frozen=True, slots=True)
class Stop:
    """The end of a lane. ``text``: the new text, which goes on from the prompt: what its tokens
    add, and a last character of which there is only a part, as broken.

    ``noise``: where the text was seen to part from another lane's, how far rounding was measured
    to move a logit, and ``rounding``: how far it can (see ``noise``). ``agrees``: a 1 or 0 for
    every new token: whether the draft, reading the text before it, would have guessed it; what a
    run at any other K depends on.
    """

    reason: Reason
    text: str
    noise: float | None = None
    agrees: str | None = None
    rounding: float | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """One lane, whole."""

    run: Run
    steps: tuple[Step, ...]
    stop: Stop


Event = Run | Step | Stop
TYPES: dict[str, type[Event]] = {"run": Run, "step": Step, "stop": Stop}


def event(lane: int, record: Event) -> dict[str, Any]:
    """The JSON form of one record: what a line of the file holds, and what the page is sent."""
    name = next(k for k, v in TYPES.items() if isinstance(record, v))
    return {"type": name, "lane": lane, **dataclasses.asdict(record, dict_factory=_plain)}


_RARE = {"origin", "parents", "probability", "rank", "draft_probability"} | {
    *("agrees", "engine", "pair", "rounding", "special", "source_language", "target_language")
    + ("spread", "untold")
}


def _plain(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """What most tokens and steps do not have is left out: a trace is mostly tokens."""
    return {k: v for k, v in items if v is not None or k not in _RARE}
