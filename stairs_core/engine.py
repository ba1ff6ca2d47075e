"""THE loop: propose, verify, judge, commit, observe, yield. There is no second one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import count

from .clock import Clock
from .protocols import Choice, Drafter, LengthPolicy, Outcome, Verdict, Verifier
from .scribe import Scribe
from .trace import Reason, Step


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a run ends. ``length``: tokens of the text when it is full, prompt included.

    ``full``: which limit that is. ``ends`` is told every token that joins the text, in order, and
    says whether the text ends with it; ``stop`` is asked after every step.
    """

    length: int
    full: Reason
    eos_ids: Collection[int] = ()
    ends: Callable[[int], bool] = lambda token: False
    stop: Callable[[], bool] = lambda: False

    @classmethod
    def of(cls, prompt_length: int, max_new_tokens: int, context_length: int, **rest) -> Limits:
        """The nearer of the token budget and what the models can hold."""
        length = prompt_length + max_new_tokens
        if length <= context_length:
            return cls(length, "length", **rest)
        return cls(context_length, "context", **rest)


def generate(
    prompt_ids: list[int],
    verify: Verifier,
    drafter: Drafter,
    choice: Choice,
    scribe: Scribe,
    clock: Clock,
    limits: Limits,
    length: LengthPolicy,
) -> Iterator[Step]:
    """Assisted decoding (Grigaliunas & Lukosevicius 2024, arXiv 2407.19947), step by step.

    The text is the one that ``verify``'s model would write alone, whoever drafts; where ``choice``
    draws, its law is. Every step adds at least one token; the last one says why the run ended.
    ``prompt_ids`` must be shorter than the context. An abandoned generator leaves its parts usable.
    """
    context = list(prompt_ids)
    for index in count():
        clock.resume()
        room = limits.length - len(context)
        proposal = drafter.propose(context, min(length.next(), room - 1))
        draft_seconds = clock.split()
        logits = verify(context, proposal)
        verdict = choice.judge(context, proposal, logits)
        verify_seconds = clock.split()
        committed, reason = commit(proposal.tokens, verdict, room, limits)
        outcome = Outcome(proposal, verdict.path, committed, logits, draft_seconds, verify_seconds)
        drafter.observe(outcome)
        length.observe(outcome)
        records = scribe.write(proposal, verdict, len(committed))
        times = (draft_seconds, verify_seconds, clock.split(), clock.elapsed)
        step = Step(index, len(context), *records, outcome.accepted, *times, reason, outcome.tree)
        yield scribe.weigh(step, outcome)
        if reason:
            return
        context += committed


def commit(
    drafted: list[int], verdict: Verdict, room: int, limits: Limits
) -> tuple[list[int], Reason | None]:
    """The ids that join the text, and why the run ends here, if it does. The one place that cuts.

    ``room``: tokens that still fit.
    """
    tokens = [*(drafted[i] for i in verdict.path), verdict.own][:room]
    for i, token in enumerate(tokens, 1):
        if token in limits.eos_ids:
            return tokens[:i], "eos"
        if limits.ends(token):
            return tokens[:i], "stopped"
    if len(tokens) == room:
        return tokens, limits.full
    return tokens, "stopped" if limits.stop() else None
