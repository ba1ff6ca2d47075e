"""Samplers: how draft and target choose tokens from logits, greedily or by sampling."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b

import torch
import transformers

from ..errors import NoNumbers
from ..protocols import Acceptance, LazyIds, Proposal, Sampler
from ..settings.sampling import Sampling
from . import acceptance

_TEXT_FREE = tuple(
    getattr(transformers, f"{name}LogitsWarper")
    for name in ("Temperature", "TopH", "TopK", "TopP", "MinP", "Typical", "Epsilon", "Eta")
    if hasattr(transformers, f"{name}LogitsWarper")
) + (
    transformers.SuppressTokensLogitsProcessor,
    transformers.InfNanRemoveLogitsProcessor,
    transformers.LogitNormalization,
)
"""Processors that do not read the text, and so can take rows of several texts at once."""


class Greedy:
    """Draft and target take the most likely token."""

    exactness = "token-exact"

    def __init__(self, processors: Processors) -> None:
        self._processors = processors
        # Processors name tokens by their ids, and noise belongs to a token.
        self.narrows = type(self) is Greedy and processors.none

    def probs(self, texts: list[list[int]], logits: torch.Tensor) -> torch.Tensor:
        return self._processors(texts, logits).float().softmax(-1)

    def sample(
        self, text: LazyIds, logits: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self._processors.one(text, logits).argmax(), None

    def accept(self, context: list[int], proposal: Proposal, logits: torch.Tensor) -> Acceptance:
        scores = self._processors.of_rows(context, proposal, logits)
        predicted, margins = _most_likely(scores, logits)
        path, next_token = acceptance.match(
            proposal.guesses, proposal.follows, predicted.__getitem__
        )
        return Acceptance(path, next_token, predicted, margins)


class Speculative(Greedy):
    """Speculative sampling: draft and target sample independently (``acceptance.speculative``)."""

    exactness = "distribution-exact"

    def __init__(self, processors: Processors, seed: int, device: torch.device) -> None:
        super().__init__(processors)
        self._generator = torch.Generator(device).manual_seed(seed)

    def sample(
        self, text: LazyIds, logits: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        q = self._processors.one(text, logits).float().softmax(-1).to(self._generator.device)
        return acceptance.sample(q, self._generator), q

    def accept(self, context: list[int], proposal: Proposal, logits: torch.Tensor) -> Acceptance:
        predicted = _most_likely(logits[: len(proposal.guesses) + 1], logits)
        p = self._processors.of_rows(context, proposal, logits).float().softmax(-1)
        p = p.to(self._generator.device)  # a model over several devices ends on another
        tree = proposal.guesses, proposal.follows
        path, next_token = acceptance.speculative(*tree, p, proposal.probs, self._generator)
        return Acceptance(path, next_token, *predicted)


class Coupled(Greedy):
    """Sampling; draft and target share one vector of noise a position, so they tend to agree.

    Daliri, Musco & Suresh, arXiv 2408.07978: both take the token with the largest p(x) / e(x), e
    being exponential noise (the Gumbel trick). The target's choice never depends on the draft, so
    one seed gives one text, whoever drafts. It accepts a little less than ``Speculative``.
    """

    def __init__(self, processors: Processors, sampling: Sampling) -> None:
        super().__init__(processors)
        self._seed, self._temperature = sampling.seed, sampling.temperature

    def probs(self, texts: list[list[int]], logits: torch.Tensor) -> torch.Tensor:
        """q / noise, normalised: the draft would sample the largest entry of each row."""
        rows = zip(texts, super().probs(texts, logits), strict=True)
        noisy = torch.stack([row / self._noise(len(text), row) for text, row in rows])
        return noisy / noisy.sum(-1, keepdim=True)

    def sample(
        self, text: LazyIds, logits: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        q = self._processors.one(text, logits).float().softmax(-1)
        return (q / self._noise(len(text()), q)).argmax(), None

    def accept(self, context: list[int], proposal: Proposal, logits: torch.Tensor) -> Acceptance:
        predicted, _ = _most_likely(logits[: len(proposal.guesses) + 1], logits)
        log_p = self._processors.of_rows(context, proposal, logits).float().log_softmax(-1)
        positions = [len(context) + len(proposal.branch(row)) for row in range(len(log_p))]
        rows = zip(positions, log_p, strict=True)
        noise = torch.stack([self._noise(position, row) for position, row in rows])
        # Times the temperature, so that margins are in logits as elsewhere.
        chosen, margins = acceptance.most_likely((log_p - noise.log()) * self._temperature)
        path, next_token = acceptance.match(proposal.guesses, proposal.follows, chosen.__getitem__)
        return Acceptance(path, next_token, predicted, margins)

    def _noise(self, position: int, like: torch.Tensor) -> torch.Tensor:
        """[vocabulary]: exponential noise, always the same for a position."""
        key = blake2b(f"{self._seed} {position}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(key, "little"))
        return torch.empty(len(like)).exponential_(generator=generator).to(like.device)


class Processors:
    """``transformers``' logits processors, applied to rows that belong to different texts.

    ``reads``: maps a text to the ids that processors see. For an encoder-decoder model those are
    the decoder's, as in ``generate``.
    """

    def __init__(
        self,
        processors: Iterable = (),
        reads: Callable[[list[int]], list[int]] = lambda ids: ids,
    ) -> None:
        self._all = list(processors)
        self._seen_ids = reads
        self._reads = not all(isinstance(p, _TEXT_FREE) for p in self._all)

    @property
    def none(self) -> bool:
        """Whether logits stay as they are."""
        return not self._all

    def one(self, text: LazyIds, logits: torch.Tensor) -> torch.Tensor:
        """Processed logits [vocabulary] from raw ones of that shape."""
        if not self._all:
            return logits
        return self([text()] if self._reads else [], logits[None])[0]

    def __call__(self, texts: list[list[int]], logits: torch.Tensor) -> torch.Tensor:
        """Processed logits [rows, vocabulary] from raw ones of that shape, with one text a row."""
        if not self._all:
            return logits
        # A copy: processors may write to their input, and others still read these logits.
        scores = logits.to(torch.float32, copy=True)
        if not self._reads:
            return self._process(torch.empty(len(scores), 0, dtype=torch.long), scores)
        rows = zip(texts, scores, strict=True)
        device = logits.device
        return torch.cat(
            [
                self._process(torch.tensor([self._seen_ids(t)], device=device), r[None])
                for t, r in rows
            ]
        )

    def _process(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """As a ``LogitsProcessorList``, which inspects each processor's signature at every call:
        that takes longer than most of them."""
        for processor in self._all:
            scores = processor(ids, scores)
        return scores

    def of_rows(self, context: list[int], proposal: Proposal, logits: torch.Tensor) -> torch.Tensor:
        """[N + 1, vocabulary]: the target's rows, each processed after its branch; no probes."""
        rows = logits[: len(proposal.guesses) + 1]
        if not self._all or not self._reads:
            return self([], rows)
        return self([context + proposal.branch(i) for i in range(len(rows))], rows)


def build(sampling: Sampling | None, device: torch.device, processors: Processors) -> Sampler:
    """The sampler for these settings (None: greedy). ``processors``: all of them, those that
    ``sampling`` asks for included."""
    if sampling is None or not sampling.draws:
        return Greedy(processors)
    if sampling.rule == "coupled":
        return Coupled(processors, sampling)
    return Speculative(processors, sampling.seed, device)


def _most_likely(scores: torch.Tensor, logits: torch.Tensor) -> tuple[list[int], list[float]]:
    """As ``acceptance.most_likely``; raises NoNumbers for NaN margins, at no extra transfer."""
    ids, margins = acceptance.most_likely(scores)
    if any(margin != margin for margin in margins):
        raise NoNumbers("the target", logits.dtype)
    return ids, margins
