"""After the prompt, which the target reads for it, a small model writes alone: another text.

LLM-to-SLM as its paper uses it (Bergner et al. 2024, arXiv 2402.16844). Nobody guesses and nobody
checks: in the loop, the small model is the target. So the text is not the target's, and everything
that shows it must say so (``Method.lossy``).
"""

from __future__ import annotations

from ..models import slm
from ..models.pair import Pair
from ..protocols import Outcome, Proposal
from . import DrafterInputs


class SlmAloneDrafter:
    name = "slm-alone"
    reads_layers = ()

    def propose(self, context: list[int], k: int) -> Proposal:
        """No guesses."""
        return Proposal([], self.name)

    def observe(self, outcome: Outcome) -> None:
        """Nothing to learn."""


def writes(pair: Pair) -> Pair:
    """The pair whose target is the small model. Raises InputError where there is none."""
    return slm.alone(pair)


def build(inputs: DrafterInputs) -> SlmAloneDrafter:
    return SlmAloneDrafter()
