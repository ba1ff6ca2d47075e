"""What the loop and its parts say to each other. In-process values may carry tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Proposal:
    """A guess: token ids in order, and who made it (a word for the trace)."""

    tokens: list[int]
    source: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a proposal. ``committed``: the ids added to the text, the target's own last.

    ``logits``: [N + 1, vocabulary], the target's, one row a stair.
    """

    proposal: Proposal
    accepted: int
    committed: list[int]
    logits: torch.Tensor


class Drafter(Protocol):
    """Guesses tokens. ``exactness``: what may be said of the text that is decoded with it."""

    name: str
    exactness: str
    uses_draft_model: bool

    def propose(self, context: list[int], k: int) -> Proposal:
        """At most ``k`` >= 0 tokens to follow ``context``, which holds at least one token."""
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

    def __call__(self, context: list[int], drafted: list[int]) -> torch.Tensor:
        """[N + 1, vocabulary]: logits after ``context`` followed by each prefix of the guess."""
        ...
