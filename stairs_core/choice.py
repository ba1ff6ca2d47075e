"""How tokens are chosen from logits, by draft and target alike: greedily, or by sampling."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b

import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from . import rules
from .protocols import Choice, Proposal, Text, Verdict
from .sampling import Sampling


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
        said, margins = rules.most_likely(scores)
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
        return torch.multinomial(law, 1, generator=self._generator)[0], law

    def judge(self, context: list[int], proposal: Proposal, logits: torch.Tensor) -> Verdict:
        law = self._processors.of_rows(context, proposal, logits).float().softmax(-1)
        law = law.to(self._generator.device)  # a model over several devices ends on another
        tree = proposal.guesses, proposal.follows
        path, own = rules.speculative(*tree, law, proposal.probs, self._generator)
        return Verdict(path, own, *rules.most_likely(logits[: len(law)]))


class Coupled(Greedy):
    """Sampling; draft and target share one throw of dice a position, so they tend to agree.

    Daliri, Musco & Suresh, arXiv 2408.07978: both take the token with the largest p(x) / e(x), e
    being exponential noise (the Gumbel trick). What the target takes never depends on the draft, so
    a seed has one text, whoever guesses. It accepts a little less than ``Speculative``.
    """

    def __init__(self, processors: Processors, sampling: Sampling, width: int) -> None:
        super().__init__(processors)
        self._seed, self._temperature, self._width = sampling.seed, sampling.temperature, width

    def law(self, texts: list[list[int]], logits: torch.Tensor) -> torch.Tensor:
        """What the draft holds likely, its dice known."""
        rows = zip(texts, super().law(texts, logits), strict=True)
        thrown = torch.stack([row / self._dice(len(text), row) for text, row in rows])
        return thrown / thrown.sum(-1, keepdim=True)

    def draw(self, text: Text, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        law = self._processors.one(text, logits).float().softmax(-1)
        return (law / self._dice(len(text()), law)).argmax(), None

    def judge(self, context: list[int], proposal: Proposal, logits: torch.Tensor) -> Verdict:
        law = self._processors.of_rows(context, proposal, logits).float().log_softmax(-1)
        places = [len(context) + len(proposal.branch(row)) for row in range(len(law))]
        dice = torch.stack([self._dice(at, row) for at, row in zip(places, law, strict=True)])
        # By how much the dice decide, in logits; what cannot be drawn is only far behind.
        thrown, margins = rules.most_likely((law - dice.log()).clamp(min=-1e4) * self._temperature)
        path, own = rules.match(proposal.guesses, proposal.follows, thrown.__getitem__)
        return Verdict(path, own, rules.most_likely(logits[: len(law)])[0], margins)

    def _dice(self, position: int, like: torch.Tensor) -> torch.Tensor:
        """[vocabulary]: exponential noise, the same whenever a position is asked for."""
        key = blake2b(f"{self._seed} {position}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(key, "little"))
        dice = torch.empty(self._width).exponential_(generator=generator)
        return dice[: len(like)].to(like.device)


class Processors:
    """``transformers``' logits processors, for rows whose texts differ.

    ``reads``: whether they look at the text; those that do not take all rows at once.
    """

    def __init__(self, processors: Iterable = (), *, reads: bool = True) -> None:
        self._all = LogitsProcessorList(processors)
        self._process: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = self._all  # type: ignore[assignment]
        self._reads = reads

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
            [self._process(torch.tensor([t], device=device), r[None]) for t, r in rows]
        )

    def of_rows(self, context: list[int], proposal: Proposal, logits: torch.Tensor) -> torch.Tensor:
        """The target's rows but for probes, each after its own branch."""
        rows = logits[: len(proposal.guesses) + 1]
        if not self._all or not self._reads:
            return self([], rows)
        return self([context + proposal.branch(i) for i in range(len(rows))], rows)


def build(sampling: Sampling | None, device: torch.device, vocabulary: int) -> Choice:
    """``sampling``: None for greedy decoding. ``vocabulary``: the larger one of the models."""
    if sampling is None:
        return Greedy(Processors())
    processors = Processors(_processors(sampling), reads=sampling.repetition_penalty != 1)
    if not sampling.draws:
        return Greedy(processors)
    if sampling.rule == "coupled":
        return Coupled(processors, sampling, vocabulary)
    return Speculative(processors, sampling.seed, device)


def _processors(sampling: Sampling) -> list:
    """In the order of ``transformers``' own ``generate``."""
    found: list = []
    if sampling.repetition_penalty != 1:
        found.append(RepetitionPenaltyLogitsProcessor(float(sampling.repetition_penalty)))
    if not sampling.draws:
        return found
    if sampling.temperature != 1:
        found.append(TemperatureLogitsWarper(float(sampling.temperature)))
    if sampling.top_k:
        found.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        found.append(TopPLogitsWarper(float(sampling.top_p)))
    if sampling.min_p > 0:
        found.append(MinPLogitsWarper(float(sampling.min_p)))
    return found
