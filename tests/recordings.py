"""Small made-up recordings for tests of what reads them."""

from __future__ import annotations

from stairs_core.trace import Prediction, Recording, Run, Step, Stop, Token


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
