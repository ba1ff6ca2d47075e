"""The card, and the table of other draft lengths."""

from __future__ import annotations

from dataclasses import replace

import pytest
from recordings import PRICES, steady_lane

from stairs_core.render import preflight_card
from stairs_core.render.terminal.text import Paint
from stairs_core.traces.records import Preflight
from stairs_core.traces.what_if import what_if


def test_other_lengths_are_marked():
    run = steady_lane(3, 2, 1.0, 3.0, 10.0, max_new_tokens=9, prices=(PRICES,))
    run = replace(run, stop=replace(run.stop, draft_matches="110111110"))
    told = preflight_card.other_lengths(what_if(run, None, (1, 2, 3)), 1, Paint(False))
    assert [line.split()[:2] for line in told] == [
        ["K", "steps"],
        ["1", "5"],
        ["2", "3"],
        ["3", "3"],
    ]
    assert told[1].endswith("  this run")
    assert told[2].endswith("  best")


CARD = Preflight("t", "d", "the same", (9, 3), (9, 3), "float32", "CPU", "single_kv", "tree", 4,
                 0.01, ((1, 1.0),), 0.1, (), None, ())  # fmt: skip


@pytest.mark.parametrize(
    ("drafter", "c", "headline", "guess"),
    [
        ("none", 0.0, "Nobody guesses", "–"),
        ("tree", 0.1, "on what its guesses cost", "0.10 ×"),
        ("reencode", 0.1, "on what its guesses cost", "0.10 ×"),
        ("layer-skip", 0.0, "on what its guesses cost", "not timed"),
        ("eagle", 0.0, "on what its guesses cost", "not timed"),
        ("space", 0.0, "made in the passes that check", "made in the passes that check"),
        ("lookahead", 0.0, "made in the passes that check", "made in the passes that check"),
        ("slm-alone", 0.0, "what writes here is not timed", "not timed"),
    ],
)
def test_what_guesses_cost_is_not_said_to_be_nothing(drafter, c, headline, guess):
    card = replace(CARD, drafter=drafter, c=c)
    assert headline in preflight_card.headline(card)
    assert dict(preflight_card.rows(card))["a guess"] == guess
    assert dict(preflight_card.rows(replace(card, drafter="lookup", c=0.0)))["a guess"] == (
        "free of any pass"
    )
