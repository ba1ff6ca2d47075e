"""Several decodings interleaved step by step, on a clock that is fair to all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ..traces.records import Event, Stop
from .runner import Runner


def race(
    runners: Sequence[Runner],
    stop: Callable[[], bool] = lambda: False,
    *,
    match_drafts: bool = False,
) -> Iterator[tuple[int, Event]]:
    """Yields lane numbers with their events: every ``Run``, then steps, a ``Stop`` as a lane ends.

    The lane whose clock is furthest behind makes the next step, so that whatever slows the machine
    for a while slows all lanes alike. A lane's clock runs only during its own steps.
    ``match_drafts``: each ``Stop`` holds its ``draft_matches``, which cost a draft pass
    (``Runner.match_draft``).
    """
    for runner in runners:
        runner.warm_up()
    yield from ((number, runner.run) for number, runner in enumerate(runners))
    live = {number: runner.decode(stop) for number, runner in enumerate(runners)}
    while live:
        number = min(live, key=lambda i: runners[i].clock.elapsed)
        step = next(live[number])
        yield number, step
        if step.stop:
            del live[number]
            yield number, _stop(runners, number, match_drafts)
    for runner in runners:
        for alone in runners:
            if alone.settings.drafter == "none":
                runner.doubt_costs(alone)


def _stop(runners: Sequence[Runner], number: int, match_drafts: bool) -> Stop:
    """The lane's end.

    Where its text differs from the first lane's (or the first lane's from any other's), the
    rounding noise is measured there, so that the difference can be judged.
    """
    for other in runners[1:] if number == 0 else runners[:1]:
        runners[number].measure_noise_against(other)
    if match_drafts:
        runners[number].match_draft()
    return runners[number].recording().stop
