"""The card, and the table of other draft lengths."""

from __future__ import annotations

from dataclasses import replace

from recordings import PRICES, steady_lane

from stairs_core.render import preflight_card
from stairs_core.render.terminal.text import Paint
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
