"""How tokens are chosen from logits, by draft and target alike: greedily, or by sampling."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b

import torch
import transformers
from transformers import LogitsProcessorList

from . import rules
from .errors import NoNumbers
from .protocols import Choice, Proposal, Text, Verdict
from .sampling import Sampling

_BLIND = tuple(
    getattr(transformers, f"{name}LogitsWarper")
    for name in ("Temperature", "TopH", "TopK", "TopP", "MinP", "Typical", "Epsilon", "Eta")
    if hasattr(transformers, f"{name}LogitsWarper")
) + (
    transformers.SuppressTokensLogitsProcessor,
    transformers.InfNanRemoveLogitsProcessor,
    transformers.LogitNormalization,
)
"""Processors that look at logits alone, and so take rows of any texts at once."""


class Greedy:
    """The most likely token."""

    exactness = "token-exact"

    def __init__(self, processors: Processors) -> None:
        self._processors = processors

    def law(self, texts: list[list[int]], logits: torch.Tensor) -> torch.Tensor:
        return self._processors(texts, logits).float().softmax(-1)

    def draw(self, text: Text, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self._processors.one(text, logits).argmax(), None

    def judge(self, context: list[int], proposal: Proposal, logits: torch.Tensor) -> Verdict:
        scores = self._processors.of_rows(context, proposal, logits)
        said, margins = _most_likely(scores, logits)
        path, own = rules.match(proposal.guesses, proposal.follows, said.__getitem__)
        return Verdict(path, own, said, margins)


class Speculative(Greedy):
    """Sampling; draft and target each have dice of their own (``rules.speculative``)."""

    exactness = "distribution-exact"

    def __init__(self, processors: Processors, seed: int, device: torch.device) -> None:
        super().__init__(processors)
        self._generator = torch.Generator(device).manual_seed(seed)

    def draw(self, text: Text, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        law = self._processors.one(text, logits).float().softmax(-1).to(self._generator.device)
        return rules.draw(law, self._generator), law

    def judge(self, context: list[int], proposal: Proposal, logits: torch.Tensor) -> Verdict:
        said = _most_likely(logits[: len(proposal.guesses) + 1], logits)
        law = self._processors.of_rows(context, proposal, logits).float().softmax(-1)
        law = law.to(self._generator.device)  # a model over several devices ends on another
        tree = proposal.guesses, proposal.follows
        path, own = rules.speculative(*tree, law, proposal.probs, self._generator)
        return Verdict(path, own, *said)


class Coupled(Greedy):
    """Sampling; draft and target share one throw of dice a position, so they tend to agree.

    Daliri, Musco & Suresh, arXiv 2408.07978: both take the token with the largest p(x) / e(x), e
    being exponential noise (the Gumbel trick). What the target takes never depends on the draft, so
    a seed has one text, whoever guesses. It accepts a little less than ``Speculative``.
    """

    def __init__(self, processors: Processors, sampling: Sampling) -> None:
        super().__init__(processors)
        self._seed, self._temperature = sampling.seed, sampling.temperature

    def law(self, texts: list[list[int]], logits: torch.Tensor) -> torch.Tensor:
        """What the draft holds likely, its dice known."""
        rows = zip(texts, super().law(texts, logits), strict=True)
        thrown = torch.stack([row / self._dice(len(text), row) for text, row in rows])
        return thrown / thrown.sum(-1, keepdim=True)

    def draw(self, text: Text, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        law = self._processors.one(text, logits).float().softmax(-1)
        return (law / self._dice(len(text()), law)).argmax(), None

    def judge(self, context: list[int], proposal: Proposal, logits: torch.Tensor) -> Verdict:
        said, _ = _most_likely(logits[: len(proposal.guesses) + 1], logits)
        law = self._processors.of_rows(context, proposal, logits).float().log_softmax(-1)
        places = [len(context) + len(proposal.branch(row)) for row in range(len(law))]
        dice = torch.stack([self._dice(at, row) for at, row in zip(places, law, strict=True)])
        # By how much the dice decide, in logits.
        thrown, margins = rules.most_likely((law - dice.log()) * self._temperature)
        path, own = rules.match(proposal.guesses, proposal.follows, thrown.__getitem__)
        return Verdict(path, own, said, margins)

    def _dice(self, position: int, like: torch.Tensor) -> torch.Tensor:
        """[vocabulary]: exponential noise, the same whenever a position is asked for."""
        key = blake2b(f"{self._seed} {position}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(key, "little"))
        return torch.empty(len(like)).exponential_(generator=generator).to(like.device)


class Processors:
    """``transformers``' logits processors, for rows whose texts differ.

    ``heard``: what a model that is asked about a text reads of it; for an encoder-decoder model the
    decoder's side, and so what ``generate`` has its processors look at.
    """

    def __init__(
        self,
        processors: Iterable = (),
        heard: Callable[[list[int]], list[int]] = lambda ids: ids,
    ) -> None:
        self._all = LogitsProcessorList(processors)
        self._process: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = self._all  # type: ignore[assignment]
        self._heard = heard
        self._reads = not all(isinstance(p, _BLIND) for p in self._all)

    def one(self, text: Text, logits: torch.Tensor) -> torch.Tensor:
        """[vocabulary], from the same."""
        if not self._all:
            return logits
        return self([text()] if self._reads else [], logits[None])[0]

    def __call__(self, texts: list[list[int]], logits: torch.Tensor) -> torch.Tensor:
        """[rows, vocabulary], from the same."""
        if not self._all:
            return logits
        # Processors may write to what they are given; a lane's logits are not theirs to change.
        scores = logits.to(torch.float32, copy=True)
        if not self._reads:
            return self._process(torch.empty(len(scores), 0, dtype=torch.long), scores)
        rows = zip(texts, scores, strict=True)
        device = logits.device
        return torch.cat(
            [self._process(torch.tensor([self._heard(t)], device=device), r[None]) for t, r in rows]
        )

    def of_rows(self, context: list[int], proposal: Proposal, logits: torch.Tensor) -> torch.Tensor:
        """The target's rows but for probes, each after its own branch."""
        rows = logits[: len(proposal.guesses) + 1]
        if not self._all or not self._reads:
            return self([], rows)
        return self([context + proposal.branch(i) for i in range(len(rows))], rows)


def build(sampling: Sampling | None, device: torch.device, processors: Processors) -> Choice:
    """``sampling``: None for greedy decoding. ``processors``: all that change logits, those that
    ``sampling`` asks for included."""
    if sampling is None or not sampling.draws:
        return Greedy(processors)
    if sampling.rule == "coupled":
        return Coupled(processors, sampling)
    return Speculative(processors, sampling.seed, device)


def _most_likely(scores: torch.Tensor, logits: torch.Tensor) -> tuple[list[int], list[float]]:
    """As ``rules.most_likely``. Raises NoNumbers: the check costs no transfer of its own."""
    ids, margins = rules.most_likely(scores)
    if any(margin != margin for margin in margins):
        raise NoNumbers("the target", logits.dtype)
    return ids, margins
