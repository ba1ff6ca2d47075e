"""What the loop and its parts say to each other. In-process values may carry tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from .trace import Origin

if TYPE_CHECKING:
    import torch

    from .pair import Pair


@dataclass(frozen=True, slots=True)
class Proposal:
    """A guess: token ids, and who made it (a word for the trace).

    ``parents``: for a tree, the index of the token that each one follows, -1 for the text; a token
    comes after its parent. None for a chain. ``probs``: [N, vocabulary], the law that each token
    was drawn from; None where nothing was drawn. ``origins``: where copied tokens stood.
    ``probe``: how many of the last tokens are no guesses, but there for the target to read, so that
    the drafter learns what it says of them. ``rows``: [vocabulary] each, the draft's logits behind
    every guess, for the record; None where no model made them in the target's tokens.
    """

    tokens: list[int]
    source: str = ""
    parents: list[int] | None = None
    probs: torch.Tensor | None = None
    origins: list[Origin] | None = None
    probe: int = 0
    rows: list[torch.Tensor] | None = None

    @property
    def guesses(self) -> list[int]:
        return self.tokens[: len(self.tokens) - self.probe]

    @property
    def follows(self) -> Sequence[int]:
        """The parents, of a chain too."""
        return range(-1, len(self.tokens) - 1) if self.parents is None else self.parents

    def branch(self, row: int) -> list[int]:
        """The drafted tokens that lead to ``row``: none to row 0, the text itself."""
        found, at = [], row - 1
        while at >= 0:
            found.append(self.tokens[at])
            at = self.follows[at]
        return found[::-1]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the target makes of a proposal of N guesses.

    ``path``: the indices of the guesses that hold, each following the one before. ``own``: the
    target's own token after them. ``predictions``: what it finds most likely, one a row (N + 1);
    ``margins``: the best logit minus the second best there.
    """

    path: list[int]
    own: int
    predictions: list[int]
    margins: list[float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a proposal.

    ``path``: the indices of the accepted tokens. ``committed``: the ids added to the text, the
    target's own last. ``logits``: [N + 1, vocabulary], the target's, one a row, probes included.
    The seconds are the engine clock's.
    """

    proposal: Proposal
    path: list[int]
    committed: list[int]
    logits: torch.Tensor
    draft_seconds: float = 0.0
    verify_seconds: float = 0.0

    @property
    def accepted(self) -> int:
        return len(self.path)

    @property
    def tree(self) -> tuple[int, ...] | None:
        """The parents of the guesses, for the trace; None for a chain."""
        parents = self.proposal.parents
        return None if parents is None else tuple(parents[: len(self.proposal.guesses)])


Text = Callable[[], list[int]]
"""A text that is only read where it is asked for: reading it may mean to wait for a device."""


class Choice(Protocol):
    """How tokens are chosen from logits, by the draft and by the target."""

    exactness: str

    def law(self, texts: list[list[int]], logits: torch.Tensor) -> torch.Tensor:
        """[n, vocabulary]: the probabilities of what may follow each of n texts."""
        ...

    def draw(self, text: Text, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """A draft's token (no dimensions) to follow the text, and the law [vocabulary] that it was
        drawn from: None where its dice, if there are any, are the target's too.

        ``logits``: [vocabulary].
        """
        ...

    def judge(self, context: list[int], proposal: Proposal, logits: torch.Tensor) -> Verdict:
        """``logits``: [N + 1, vocabulary], the target's."""
        ...


class Drafter(Protocol):
    """Guesses tokens. ``doubts``: it asks ``length.go_on`` after each token that it drafts."""

    name: str
    uses_draft_model: bool
    doubts: bool

    def propose(self, context: list[int], k: int) -> Proposal:
        """At most ``k`` >= 0 guesses to follow ``context``, which holds at least one token."""
        ...

    def observe(self, outcome: Outcome) -> None:
        """Told after every step."""
        ...


class LengthPolicy(Protocol):
    """How many tokens to draft. ``go_on``: None, or asked after each drafted token.

    It is given the probability that the drafter gave to the token, and answers whether to draft
    another. Drafters without probabilities do not ask.
    """

    @property
    def go_on(self) -> Callable[[float], bool] | None: ...

    def next(self) -> int:
        """Tokens to draft in the step that begins, at most."""
        ...

    def observe(self, outcome: Outcome) -> None:
        """Told after every step."""
        ...


class Verifier(Protocol):
    """The target's side of the stairs."""

    def __call__(self, context: list[int], proposal: Proposal) -> torch.Tensor:
        """[N + 1, vocabulary]: logits after ``context``, then after each token of the guess."""
        ...


@dataclass(frozen=True, slots=True)
class Document:
    """A text that may be copied from."""

    name: str
    ids: list[int]


@dataclass(frozen=True, slots=True)
class Kit:
    """What a drafter is built from, for one run."""

    pair: Pair
    length: LengthPolicy
    choice: Choice
    references: Sequence[Document] = ()
