"""Small made-up recordings, and their steps: for tests of what reads them."""

from __future__ import annotations

from collections.abc import Sequence

from stairs_core.traces.records import Prediction, Prices, Recording, Run, Step, Stop, Token

PRICES = Prices("single_kv", 100, (1, 5), (1.0, 2.0), 9.0)


def head(**changes) -> Run:
    values = {
        "name": "model",
        "prompt": "a b",
        "prompt_ids": (1, 2),
        "prompt_tokens": ("a", " b"),
        "target": "t",
        "draft": None,
        "drafter": "model",
        "k": 2,
        "backend": "single_kv",
        "max_new_tokens": 9,
        "exactness": "token-exact",
        "dtype": "float32",
        "device": "cpu",
        "hardware": "CPU",
        "versions": {"torch": "2"},
        "created": "2026-01-01T00:00:00+00:00",
    }
    return Run(**values | changes)


def recording(text: str = " é") -> Recording:
    """Two steps: a correction at the second of two guesses, then a bonus that ends the text."""
    first = Step(
        0,
        2,
        (
            Token(3, text, "accepted", "model"),
            Token(4, text, "rejected", "model"),
            Token(5, text, "correction", "target"),
        ),
        (Prediction(3, text, 1.5), Prediction(5, text, 0.25), Prediction(6, text, 2.0)),
        1,
        0.1,
        0.2,
        0.05,
        0.35,
    )
    last = Step(
        1, 4, (Token(0, text, "bonus", "target"),), (Prediction(0, text, 9.0),), 0,
        0.0, 0.2, 0.05, 0.6, "eos",
    )  # fmt: skip
    return Recording(head(), (first, last), Stop("eos", text))


def add_step(
    steps: list[Step],
    tokens: Sequence[Token],
    predictions: Sequence[Prediction],
    accepted: int,
    times: tuple[float, float, float],
    prompt: int = 2,
    **more,
) -> None:
    """Adds a step to those of a lane. ``times``: drafting, checking, the rest. ``prompt``: tokens
    before the first step."""
    start = steps[-1].start + len(steps[-1].committed) if steps else prompt
    elapsed = (steps[-1].elapsed if steps else 0.0) + sum(times)
    step = Step(
        len(steps), start, tuple(tokens), tuple(predictions), accepted, *times, elapsed, **more
    )
    steps.append(step)


def add_chain(
    steps: list[Step], drafted: int, accepted: int, times: tuple[float, float, float]
) -> None:
    """Adds a step of so many guesses in a row, each the letter a."""
    statuses = ["accepted"] * accepted + ["rejected"] * (drafted > accepted)
    statuses += ["unchecked"] * (drafted - len(statuses))
    statuses.append("bonus" if accepted == drafted else "correction")
    sources = ["model"] * drafted + ["target"]
    at = steps[-1].start - 2 + len(steps[-1].committed) if steps else 0
    tokens = [
        Token(at + i, "a", status, source)  # type: ignore[arg-type]
        for i, (status, source) in enumerate(zip(statuses, sources, strict=True))
    ]
    add_step(steps, tokens, [Prediction(3, "a", 1.0)] * len(tokens), accepted, times)


def steady_lane(
    count: int, guesses: int, guessing: float, verify: float, prompt: float, **run
) -> Recording:
    """``count`` steps that take the same: all of their ``guesses`` hold, what is neither guessing
    nor checking takes 0.1 s. ``prompt``: seconds more that the first check takes."""
    steps: list[Step] = []
    for i in range(count):
        add_chain(steps, guesses, guesses, (guessing, verify + prompt * (i == 0), 0.1))
    return Recording(head(**run), tuple(steps), Stop("length", "a", draft_matches=None))
