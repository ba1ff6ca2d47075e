"""The shape of the code (design, section 2): which way imports run, and who may touch what."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from stairs_core import drafters

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "stairs_core"
FILES = {str(p.relative_to(CORE)): p for p in sorted(CORE.rglob("*.py"))}

# Who may import whom inside stairs_core. What is not listed is free to import anything above it.
STDLIB_ONLY = {
    f"{name}.py"
    for name in ("container", "copies", "counts", "errors", "folders", "logs", "ngrams", "opening")
    + ("prices", "sampling", "specs", "strict", "suffixes", "trace", "tracefile", "turns")
    + ("weights",)
}
ALLOWED = {
    "errors.py": set(),
    "strict.py": set(),
    "weights.py": {"errors"},
    "sampling.py": {"errors"},
    "specs.py": set(),
    "presets.py": {"errors", "specs"},
    "hub.py": {"errors", "weights"},
    "download.py": {"hub"},
    "room.py": {"container", "devices", "errors", "pair", "quantised"},
    "worker.py": {"container"},
    "container.py": set(),
    "quantised.py": set(),
    "shelf.py": {"errors", "hub", "models", "pair", "presets", "room", "weights", "worker"},
    "live.py": {"worker", "pair", "preflight", "presets", "race", "settings", "shelf", "trace"},
    "trace.py": {"sampling"},
    "tracefile.py": {"errors", "strict", "trace"},
    "counts.py": {"errors", "trace"},
    "logs.py": {"counts", "errors", "trace"},
    "opening.py": {"errors", "logs", "trace", "tracefile"},
    "prices.py": {"trace"},
    "turns.py": {"prices", "trace"},
    "metrics.py": {"prices", "turns", "trace"},
    "preflight.py": {"pair", "prices", "race", "settings", "translate"},
    "render/card.py": {"metrics", "preflight"},
    "render/why.py": {"metrics", "trace"},
    "settings.py": {"drafters", "errors", "sampling"},
    "protocols.py": {"pair", "trace"},
    "clock.py": set(),
    "rules.py": set(),
    "choice.py": {"errors", "protocols", "rules", "sampling"},
    "defaults.py": {"encoded", "errors", "quiet", "sampling"},
    "fitted.py": set(),
    "trees.py": set(),
    "chats.py": {"errors"},
    "text.py": {"chats", "errors", "languages", "protocols"},
    "translate.py": {"text"},
    "kv.py": set(),
    "windows.py": set(),
    "ropes.py": set(),
    "lane.py": {"kv", "protocols", "ropes", "trees", "windows"},
    "skipping.py": {"errors"},
    "encoded.py": {"errors", "kv", "ropes"},
    "hindsight.py": {"lane", "pair", "protocols", "trace"},
    "checks.py": {"encoded", "errors", "kv", "lane", "ropes", "skipping", "tryouts", "windows"},
    "languages.py": {"errors"},
    "tryouts.py": {"errors"},
    "packed.py": set(),
    "lean.py": {"packed", "windows"},
    "faster.py": {"encoded", "lane", "lean", "packed", "quantised", "tryouts"},
    "copies.py": {"protocols", "trace"},
    "ngrams.py": {"copies", "protocols"},
    "suffixes.py": {"copies", "protocols"},
    "costs.py": {"choice", "clock", "lane", "pair", "prices", "protocols", "verify"},
    "lengths.py": {"prices", "protocols", "settings"},
    "verify.py": {"lane", "protocols"},
    "odds.py": {"errors", "protocols", "trace"},
    "scribe.py": {"odds", "protocols", "text", "trace"},
    "engine.py": {"clock", "protocols", "scribe", "trace"},
    "watch.py": {"choice", "protocols"},
    "inside.py": {
        *("checks", "choice", "clock", "costs", "drafters", "encoded", "engine", "errors"),
        "lengths",
        *("models", "pair", "protocols", "scribe", "settings", "text", "trace", "verify", "watch"),
    },
}


OURS = {p.stem for p in CORE.glob("*.py")} | {p.name for p in CORE.iterdir() if p.is_dir()}


def imports(path: Path, *, at_run_time: bool = False) -> set[str]:
    """First names of all that a file imports, wherever in it; our own modules without the dots.

    ``at_run_time``: leave out what stands under ``if TYPE_CHECKING``.
    """
    found: set[str] = set()
    nodes: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if at_run_time and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").removeprefix("stairs_core.").split(".")[0]
            found |= {module} if module else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_imports_run_one_way(name):
    assert imports(FILES[name]) & OURS <= ALLOWED[name]


@pytest.mark.parametrize("name", sorted(FILES))
def test_pure_parts_stay_pure(name):
    found = imports(FILES[name], at_run_time=True)
    light = {"metrics.py", "settings.py", "presets.py", "hub.py", "download.py"}
    pure = name in STDLIB_ONLY | light or name.startswith("render/")
    if pure:
        assert not found & {"torch", "transformers", "gradio", "models", "lane", "engine"}
    if not name.startswith("training/"):
        assert "gradio" not in found


def test_drafters_do_not_know_each_other():
    for name in drafters.NAMES:
        file = f"drafters/{name.replace('-', '_')}.py"
        assert not imports(FILES[file]) & (set(drafters.NAMES) - {name})


def test_every_drafter_is_one_file_and_one_line():
    files = {p.stem for p in (CORE / "drafters").glob("*.py")} - {"__init__"}
    assert files == {name.replace("-", "_") for name in drafters.NAMES}


def test_the_loop_knows_no_method():
    source = FILES["engine.py"].read_text(encoding="utf-8")
    for word in ("isinstance", "hasattr", "getattr", *(f'"{n}"' for n in drafters.NAMES)):
        assert word not in source
    assert len(source.splitlines()) < 150


@pytest.mark.parametrize("name", sorted(FILES))
def test_only_the_lane_touches_a_cache(name):
    source = FILES[name].read_text(encoding="utf-8")
    if name in ("lane.py", "kv.py", "checks.py"):
        return
    # A model of our own is called as any other: it hands on the cache that it is given.
    ours = name in ("encoded.py", "lean.py")
    assert ours or "kv" not in imports(FILES[name])
    words = [r"DynamicCache", r"\.crop\("] + ([] if ours else [r"past_key_values", r"\bcache="])
    assert not [w for w in words if re.search(w, source)]
