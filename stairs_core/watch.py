"""What ``transformers``' ``generate`` learns of a run while it goes on: its rows, and its end."""

from __future__ import annotations

import torch
from transformers import GenerationConfig, StoppingCriteriaList
from transformers.generation.utils import GenerateDecoderOnlyOutput

from .choice import Processors
from .protocols import Choice, Proposal, Verdict


class Rows:
    """A choice, and the target's rows behind it: one a token of the text, [1, vocabulary], float32.

    ``logits`` as they are and ``scores`` as processed; None where ``generate`` was not asked.
    """

    def __init__(self, choice: Choice, processors: Processors, config: GenerationConfig) -> None:
        self._choice, self._processors = choice, processors
        self.exactness, self.law, self.draw = choice.exactness, choice.law, choice.draw
        asked = config.return_dict_in_generate
        self.logits: list[torch.Tensor] | None = [] if asked and config.output_logits else None
        self.scores: list[torch.Tensor] | None = [] if asked and config.output_scores else None

    def judge(self, context: list[int], proposal: Proposal, logits: torch.Tensor) -> Verdict:
        verdict = self._choice.judge(context, proposal, logits)
        path = [0, *(i + 1 for i in verdict.path)]
        if self.logits is not None:
            self.logits += logits[path].to(torch.float32, copy=True).split(1)
        if self.scores is not None:
            scores = self._processors.of_rows(context, proposal, logits)
            self.scores += scores[path].to(torch.float32, copy=True).split(1)
        return verdict

    def output(self, sequences: torch.Tensor, new: int) -> GenerateDecoderOnlyOutput:
        """``sequences`` with the rows of their ``new`` tokens."""
        scores, logits = (rows and tuple(rows[:new]) for rows in (self.scores, self.logits))
        return GenerateDecoderOnlyOutput(sequences=sequences, scores=scores, logits=logits)  # type: ignore[arg-type]


class Ends:
    """Stopping criteria, asked after every token of the text that they are told of."""

    def __init__(self, ids: torch.Tensor, criteria: list, scores: list | None) -> None:
        self._ids, self._criteria, self._scores = ids, StoppingCriteriaList(criteria), scores
        self._prompt = ids.shape[1]

    def __call__(self, token: int) -> bool:
        if not self._criteria:
            return False
        self._ids = torch.cat([self._ids, self._ids.new_tensor([[token]])], dim=-1)
        new = self._ids.shape[1] - self._prompt
        scores = None if self._scores is None else tuple(self._scores[:new])
        return bool(self._criteria(self._ids, scores).all())  # type: ignore[arg-type]
