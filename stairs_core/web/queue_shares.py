"""How much of the queue one visitor may hold: else one address could fill it. Imports no gradio."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError
from ..settings.limits import Limits


def check(who: str, run: bool, waiting: Sequence[tuple[str, bool]], allowed: Limits) -> None:
    """Raises InputError where a visitor has their share of the queue: ``visitor_queue`` runs, and
    half of its places for all that they ask.

    ``run``: whether they ask for a run. ``waiting``: of each who waits, the visitor, and whether
    that is for a run.
    """
    if not allowed.visitor_queue:
        return
    own = [is_run for other, is_run in waiting if other == who]
    if run and sum(own) >= allowed.visitor_queue:
        raise InputError(
            f"{allowed.visitor_queue} runs of one address wait on this page at most, and as many "
            "of yours do: wait for one of them."
        )
    if len(own) >= max(1, allowed.queue // 2):
        raise InputError(
            "Requests from your address take half of this page's queue: wait for some of them."
        )
