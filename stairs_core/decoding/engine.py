"""The loop: propose, verify, accept, commit, observe, yield. There is no second one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import count

from ..protocols import Acceptance, Drafter, LengthPolicy, Outcome, Sampler, Verifier
from ..traces.records import Reason, Step
from .clock import Clock
from .recorder import Recorder


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a run ends. ``length``: the most tokens of the text, prompt included.

    ``full``: the reason to record when that is reached. ``ends``: called with every token that is
    added to the text, in order; returns whether the text ends with it. ``stop``: called after every
    step; returns whether to stop there.
    """

    length: int
    full: Reason
    eos_ids: Collection[int] = ()
    ends: Callable[[int], bool] = lambda token: False
    stop: Callable[[], bool] = lambda: False

    @classmethod
    def of(cls, prompt_length: int, max_new_tokens: int, context_length: int, **rest) -> Limits:
        """The smaller of the token budget and the models' context length."""
        length = prompt_length + max_new_tokens
        if length <= context_length:
            return cls(length, "length", **rest)
        return cls(context_length, "context", **rest)


def generate(
    prompt_ids: list[int],
    verify: Verifier,
    drafter: Drafter,
    sampler: Sampler,
    recorder: Recorder,
    clock: Clock,
    limits: Limits,
    length: LengthPolicy,
) -> Iterator[Step]:
    """Assisted decoding (Grigaliunas & Lukosevicius 2024, arXiv 2407.19947), step by step.

    The output equals target-only decoding; when ``sampler`` samples, its distribution does. Every
    step adds at least one token; the last step holds the reason why the run ended. ``prompt_ids``
    must be shorter than ``limits.length``. All parts can be used again if the generator is left
    before its end.
    """
    context = list(prompt_ids)
    verify.read_layers(drafter.reads_layers)
    other_s = 0.0
    for index in count():
        clock.resume()
        # Propose: one token of the room is the target's own.
        room = limits.length - len(context)
        proposal = drafter.propose(context, min(length.next(), room - 1))
        draft_s = clock.split()
        # Verify: one pass of the target over the text and the whole guess.
        logits = verify(context, proposal)
        acceptance = sampler.accept(context, proposal, logits)
        verify_s = clock.split()
        # Commit: what joins the text, and whether it ends here.
        committed, reason = commit(proposal.tokens, acceptance, room, limits)
        # Observe: drafter and length policy learn what became of it.
        hidden = verify.hidden(context, committed, len(context) - 1 if index else 0)
        result = (acceptance.path, committed, logits, draft_s, verify_s, hidden)
        outcome = Outcome(proposal, *result, other_s)
        drafter.observe(outcome)
        length.observe(outcome)
        # Record: the clock stops before probabilities are worked out.
        records = recorder.write(proposal, acceptance, len(committed))
        other_s = clock.split()
        times = (draft_s, verify_s, other_s, clock.elapsed)
        shape = (outcome.tree, proposal.probe or None)
        step = Step(index, len(context), *records, outcome.accepted, *times, reason, *shape)
        yield recorder.with_probabilities(step, outcome)
        if reason:
            return
        context += committed


def commit(
    drafted: list[int], acceptance: Acceptance, room: int, limits: Limits
) -> tuple[list[int], Reason | None]:
    """The ids that are added to the text, and why the run ends here, if it does. Only this function
    cuts a text off.

    ``drafted``: the proposal's ids. ``room``: tokens that still fit.

    >>> two_hold = Acceptance(path=[0, 1], next_token=9, predictions=[5, 6, 9], margins=[1.0] * 3)
    >>> commit([5, 6, 7], two_hold, room=8, limits=Limits(32, "length"))
    ([5, 6, 9], None)
    >>> commit([5, 6, 7], two_hold, room=2, limits=Limits(32, "length"))
    ([5, 6], 'length')
    >>> commit([5, 6, 7], two_hold, room=8, limits=Limits(32, "length", eos_ids={5}))
    ([5], 'eos')
    """
    tokens = [*(drafted[i] for i in acceptance.path), acceptance.next_token][:room]
    for i, token in enumerate(tokens, 1):
        if token in limits.eos_ids:
            return tokens[:i], "eos"
        if limits.ends(token):
            return tokens[:i], "stopped"
    if len(tokens) == room:
        return tokens, limits.full
    return tokens, "stopped" if limits.stop() else None
