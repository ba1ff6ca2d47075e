"""The values that the loop and its parts exchange, and what each part must be able to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from .traces.records import Origin

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Proposal:
    """Drafted token ids, N of them, and their ``source``: a word for the trace.

    ``parents``: for a tree, the index of the token that each one follows, -1 for the text; a token
    comes after its parent. None for a chain. ``probs``: [N, vocabulary], q: the distribution that
    each token was sampled from; None where they were not sampled. ``origins``: where copied tokens
    were copied from. ``probe``: how many of the last tokens are not guesses; the target reads them
    only so that the drafter gets its logits there. ``rows``: [vocabulary] for each guess, the
    draft's logits that it was chosen from, for the trace; None where no model gave logits of the
    target's tokens. ``columns``: the target's ids of their entries, where these are not all.

    >>> tree = Proposal([5, 8, 6], parents=[-1, -1, 0])  # 5 or 8 follows the text; 6 follows 5
    >>> [tree.branch(row) for row in range(4)]
    [[], [5], [8], [5, 6]]
    """

    tokens: list[int]
    source: str = ""
    parents: list[int] | None = None
    probs: torch.Tensor | None = None
    origins: list[Origin] | None = None
    probe: int = 0
    rows: list[torch.Tensor] | None = None
    columns: torch.Tensor | None = None

    @property
    def guesses(self) -> list[int]:
        return self.tokens[: len(self.tokens) - self.probe]

    @property
    def follows(self) -> Sequence[int]:
        """The parents; for a chain, each token follows the one before."""
        return range(-1, len(self.tokens) - 1) if self.parents is None else self.parents

    def branch(self, row: int) -> list[int]:
        """The drafted tokens that ``row`` comes after: none for row 0, else up to token row - 1."""
        found, at = [], row - 1
        while at >= 0:
            found.append(self.tokens[at])
            at = self.follows[at]
        return found[::-1]


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Which of N guesses the target accepts.

    ``path``: the indices of the accepted guesses, each following the one before. ``next_token``:
    the token that the target puts after them. ``predictions``: the target's most likely token after
    each of the N + 1 rows; ``margins``: its logit minus the second best.
    """

    path: list[int]
    next_token: int
    predictions: list[int]
    margins: list[float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one step, for the drafter and the length policy to learn from.

    ``path``: the indices of the accepted guesses. ``committed``: the ids added to the text: those
    guesses, then the target's next token, cut where the text ends. ``logits``: [N + 1, vocabulary],
    the target's, after the text and after each proposed token, probes included. Seconds are the
    engine clock's; ``other_seconds``: what the step before took outside of drafting and checking.

    ``hidden``: [tokens, layers, width], the target's hidden states of the layers that the drafter
    reads, at the positions that this step added to the certain text, in order (in the first step
    also those of the prompt). So every position is given once, except the last, which the target
    has not read yet. None for a drafter that reads no layers.
    """

    proposal: Proposal
    path: list[int]
    committed: list[int]
    logits: torch.Tensor
    draft_seconds: float = 0.0
    verify_seconds: float = 0.0
    hidden: torch.Tensor | None = None
    other_seconds: float = 0.0

    @property
    def accepted(self) -> int:
        return len(self.path)

    @property
    def tree(self) -> tuple[int, ...] | None:
        """The parents of the guesses, for the trace; None for a chain, also for one to which
        nothing but probes is attached."""
        proposal = self.proposal
        parents = proposal.follows[: len(proposal.guesses)]
        chain = proposal.probe > 0 and [*parents] == [*range(-1, len(parents) - 1)]
        return None if proposal.parents is None or chain else tuple(parents)


LazyIds = Callable[[], list[int]]
"""Makes a text's ids when called. Calling it may wait for the device to compute the last ones."""


class Sampler(Protocol):
    """Chooses tokens from logits, for the draft and for the target.

    ``narrows``: given the logits of some tokens alone, it says of them what it would say were all
    others -inf.
    """

    exactness: str
    narrows: bool

    def probs(self, texts: list[list[int]], logits: torch.Tensor) -> torch.Tensor:
        """[n, vocabulary]: the distribution of the next token of each of n texts."""
        ...

    def sample(
        self, text: LazyIds, logits: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """A draft token to follow the text (a tensor without dimensions), and q [vocabulary], the
        distribution that it was sampled from. q is None where acceptance does not need it: greedy
        decoding, or draft and target sharing their random numbers.

        ``logits``: [vocabulary].
        """
        ...

    def accept(self, context: list[int], proposal: Proposal, logits: torch.Tensor) -> Acceptance:
        """Which guesses the target accepts. ``logits``: [N + 1, vocabulary], the target's."""
        ...


class Drafter(Protocol):
    """Guesses the next tokens. Facts about it stand in ``settings/methods.py``.

    ``reads_layers``: the layers of the target whose hidden states ``observe`` gets, each named by
    how many layers have run. () for most drafters; then no hidden states are kept.
    """

    name: str
    reads_layers: tuple[int, ...]

    def propose(self, context: list[int], k: int) -> Proposal:
        """At most ``k`` >= 0 guesses to follow ``context``, which holds at least one token."""
        ...

    def observe(self, outcome: Outcome) -> None:
        """Called after every step."""
        ...


class LengthPolicy(Protocol):
    """Decides how many tokens to draft.

    ``keep_drafting``: called after each drafted token with the draft's probability of it; returns
    whether to draft another. None for a policy that does not depend on it. Only drafters that
    report their confidence (``settings.methods``) call it.
    """

    @property
    def keep_drafting(self) -> Callable[[float], bool] | None: ...

    def next(self) -> int:
        """The most tokens to draft in the step that begins. Called once a step."""
        ...

    def observe(self, outcome: Outcome) -> None:
        """Called after every step."""
        ...


class Verifier(Protocol):
    """Runs the target over the text and a proposal."""

    def __call__(self, context: list[int], proposal: Proposal) -> torch.Tensor:
        """[N + 1, vocabulary]: logits after ``context``, then after each proposed token."""
        ...

    def read_layers(self, layers: Sequence[int]) -> None:
        """From now on, keep the hidden states of these layers of the target."""
        ...

    def hidden(self, context: list[int], committed: list[int], first: int) -> torch.Tensor | None:
        """[tokens, layers, width]: the hidden states of these layers over ``context`` and
        ``committed``, from position ``first`` on, without the last token, which the target has not
        read yet. None where no layers are read."""
        ...
