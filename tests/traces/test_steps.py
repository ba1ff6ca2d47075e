"""A step is read here as the page reads it: both are held to one file."""

from __future__ import annotations

import json

import steps


def test_steps_are_read_as_the_file_shared_with_the_page_says():
    assert json.loads(steps.FILE.read_text(encoding="utf-8")) == steps.fixture()
