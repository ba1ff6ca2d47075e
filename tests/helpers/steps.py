"""What Python and the page must both read off the same steps: ``steps.json`` beside this file.

A test of each reads that file. ``python tests/helpers/steps.py`` makes it anew.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import page_runs

from stairs_core.forward import token_trees
from stairs_core.traces import files
from stairs_core.traces.records import Recording, Step
from stairs_core.web import packed_trace

FILE = Path(__file__).with_name("steps.json")


def lanes() -> list[Recording]:
    """A few steps each: the target alone, chains, a tree, and a chain and a tree cut off by EOS."""
    texts = page_runs.words(page_runs.STORY)[:24]
    alone, chain = page_runs.pair(texts)
    tree = page_runs.tree(texts, width=2, depth=3)
    found = [alone, chain, page_runs.lane(texts, k=3), tree, _cut(chain), _cut(tree)]
    return [replace(lane, steps=lane.steps[:3]) for lane in found]


def _cut(lane: Recording) -> Recording:
    """``lane``, ended in its third step by its last accepted token: what followed was dropped."""
    step = lane.steps[2]
    gone = [t for t in step.committed if t.status != "accepted"]
    tokens = tuple(replace(t, status="dropped") if t in gone else t for t in step.tokens)
    return replace(lane, steps=(*lane.steps[:2], replace(step, tokens=tokens)))


def read(step: Step) -> dict[str, Any]:
    """``path``: the rows from the text to the kept one; ``depths``: the drafted tokens of a row."""
    held = [i for i, t in enumerate(step.drafted, 1) if t.status in ("accepted", "dropped")]
    parents = range(-1, len(step.drafted) - 1) if step.parents is None else step.parents
    return {
        "kept": step.kept,
        "rows": [*step.rows],
        "depths": [0, *(depth + 1 for depth in token_trees.depths(parents))],
        "path": [0, *held],
        "committed": [t.id for t in step.committed],
    }


def fixture() -> dict[str, Any]:
    """``trace``: the lines of the file; ``sent``: as the page is sent them; ``steps``: by lane."""
    return {
        "trace": files.dumps(lanes()).splitlines(),
        "sent": packed_trace.lines(lanes()).splitlines(),
        "steps": [[read(step) for step in lane.steps] for lane in lanes()],
    }


if __name__ == "__main__":
    parts = (
        f"{json.dumps(name)}: [\n" + ",\n".join(map(json.dumps, lines)) + "\n]"
        for name, lines in fixture().items()
    )
    FILE.write_text("{" + ",\n".join(parts) + "}\n", encoding="utf-8")
