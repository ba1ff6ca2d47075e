"""The shape of the code: floors that imports only go down, and who may touch what."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from stairs_core.settings import methods

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "stairs_core"
FILES = {str(p.relative_to(CORE)): p for p in sorted(CORE.rglob("*.py"))}
FLOORS = [
    "errors",
    "quiet",
    "importing",
    "own_process",
    "settings",
    "traces",
    "render",
    "text",
    "protocols",
    "forward",
    "decoding",
    "models",
    "drafters",
    "measuring",
    "integration",
    "web",
    "cli",
]
"""Lowest first. A file imports only from its own floor and below, for type checks too."""
ASIDE = {"training": {"errors", "quiet", "models", "forward", "text"}}
"""Rooms beside the floors, and all that they import; only the command line opens them.

Training imports the forward rooms because a head is trained as the very module that later runs, on
hidden states that are read in the same way; so are the texts, where two tokenizers are aligned.
"""
DOORS = {"__init__.py", "__main__.py", "sampling.py"}
"""Files that stand before the house: public names, and where they were before."""
STANDARD_LIBRARY_ONLY = ("errors.py", "settings/", "traces/", "drafters/search/")
NO_MODEL = (*STANDARD_LIBRARY_ONLY, "render/")
OTHERS_FREE_OF_TORCH = {
    f"{name}.py" for name in ("models/container", "models/folder_check", "models/hub")
} | {f"{name}.py" for name in ("models/hub_download", "web/presets", "web/temp_folders")}
OTHERS_FREE_OF_TORCH |= {f"models/{name}.py" for name in ("cache", "pip_settings", "worker")}
OTHERS_FREE_OF_TORCH |= {f"models/gguf_{name}.py" for name in ("config", "facts", "header")}
OTHERS_FREE_OF_TORCH |= {f"models/{name}.py" for name in ("registry", "source")}
OTHERS_FREE_OF_TORCH |= {"web/visitors.py", "web/zero_gpu.py"}
FUNCTION = 60
"""Lines of a function that still fit on a screen."""
LONG = {"training/trainer.py:train"}


def imported(name: str, *, at_run_time: bool = False) -> Iterator[str]:
    """Modules that a file imports, wherever in it: ours from ``stairs_core`` on.

    ``at_run_time``: leave out what stands under ``if TYPE_CHECKING``.
    """
    package = ["stairs_core", *Path(name).parent.parts]
    nodes: list[ast.AST] = [ast.parse(FILES[name].read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if at_run_time and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*start, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def rooms(name: str) -> set[str]:
    """Rooms, or files at the top, that a file imports from."""
    ours = [m.split(".")[1] for m in imported(name) if m.startswith("stairs_core.")]
    return {*ours} - {Path(name).parts[0].removesuffix(".py")}


def libraries(name: str, *, at_run_time: bool = False) -> set[str]:
    return {m.split(".")[0] for m in imported(name, at_run_time=at_run_time)} - {"stairs_core"}


@pytest.mark.parametrize("name", sorted(FILES.keys() - DOORS))
def test_imports_go_down(name):
    room = Path(name).parts[0].removesuffix(".py")
    if room in ASIDE:
        assert rooms(name) <= ASIDE[room]
    else:
        doors = {*ASIDE} if room == "cli" else set()
        assert rooms(name) <= {*FLOORS[: FLOORS.index(room)]} | doors


def test_no_files_import_each_other_in_a_circle():
    modules = {".".join(["stairs_core", *Path(n).with_suffix("").parts]): n for n in FILES}
    modules |= {m.removesuffix(".__init__"): n for m, n in modules.items()}

    def needs(name: str) -> set[str]:
        found = {modules.get(m) or modules.get(m.rpartition(".")[0]) for m in imported(name)}
        return {f for f in found if f and not f.endswith("__init__.py")} - {name}

    left = {name: needs(name) for name in FILES}
    while free := [name for name, needed in left.items() if not needed & left.keys()]:
        for name in free:
            del left[name]
    assert left == {}


def test_every_room_says_what_belongs_in_it():
    for name in (n for n in FILES if n.endswith("/__init__.py") and n != "drafters/__init__.py"):
        (words,) = ast.parse(FILES[name].read_text(encoding="utf-8")).body
        assert isinstance(words, ast.Expr), name
        assert len(ast.unparse(words)) > 100, name


@pytest.mark.parametrize("name", sorted(FILES))
def test_pure_parts_stay_pure(name):
    found = libraries(name, at_run_time=True)
    if name.startswith(NO_MODEL) or name in OTHERS_FREE_OF_TORCH:
        assert not found & {"torch", "transformers", "numpy"}
    if not name.startswith("training/"):
        assert "gradio" not in found


@pytest.mark.parametrize("name", sorted(FILES))
def test_functions_fit_on_a_screen(name):
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and f"{name}:{node.name}" not in LONG:
            assert (node.end_lineno or 0) - node.lineno < FUNCTION, node.name


def test_drafters_do_not_know_each_other():
    for name in methods.NAMES:
        found = imported(f"drafters/{name.replace('-', '_')}.py")
        others = {f"stairs_core.drafters.{n.replace('-', '_')}" for n in methods.NAMES}
        assert not {m.rpartition(".")[0] for m in found} & others
        assert not {*found} & others


def test_every_drafter_is_one_file_and_one_line():
    files = {p.stem for p in (CORE / "drafters").glob("*.py")} - {"__init__"}
    assert files == {name.replace("-", "_") for name in methods.NAMES}


def test_the_loop_knows_no_method():
    source = FILES["decoding/engine.py"].read_text(encoding="utf-8")
    for word in ("isinstance", "hasattr", "getattr", *(f'"{n}"' for n in methods.NAMES)):
        assert word not in source
    assert len(source.splitlines()) < 150


@pytest.mark.parametrize("name", sorted(FILES))
def test_only_the_cached_model_touches_a_cache(name):
    source = FILES[name].read_text(encoding="utf-8")
    if name in ("forward/cached_model.py", "forward/kv_cache.py", "forward/capabilities.py"):
        return
    if name == "forward/cached_eagle.py":  # the same for a head that has a cache of its own
        return
    # A model of our own is called as any other: it hands on the cache that it is given.
    ours = name in {f"forward/{n}.py" for n in ("encoder_decoder", "lean_llama", "llm_to_slm")}
    # The buffers that the cached model's cache lies in where passes are replayed.
    ours |= name in ("forward/cuda_graphs.py", "forward/static_eagle.py")
    # What was trained on a target keeps keys and values of its own, beside the target's.
    ours |= name in {f"forward/{n}.py" for n in ("chimera_heads", "pseudo_states", "upper_layers")}
    assert ours or not [m for m in imported(name) if ".forward.kv_cache" in m]
    words = [r"DynamicCache", r"\.crop\("] + ([] if ours else [r"past_key_values", r"\bcache="])
    assert not [w for w in words if re.search(w, source)]


@pytest.mark.parametrize("name", [n for n in FILES if ">>>" in FILES[n].read_text("utf-8")])
def test_examples_in_docstrings_hold(name):
    module = importlib.import_module(f"stairs_core.{name.removesuffix('.py').replace('/', '.')}")
    tried = doctest.testmod(module)
    assert tried.attempted
    assert not tried.failed


def test_tests_import_helpers_alone():
    """No test imports another test, nor a script; ``conftest.py`` holds what only pytest calls."""
    files = {p: p.parent.name for p in sorted((ROOT / "tests").rglob("*.py"))}
    private = {path.stem for path, room in files.items() if room != "helpers"}
    for path in (path for path, room in files.items() if room != "scripts"):
        nodes = [*ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
        names = [n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)]
        names += [a.name for n in nodes if isinstance(n, ast.Import) for a in n.names]
        wrong = {m.split(".")[-1] for m in names if not m.startswith("stairs_core")} & private
        assert wrong == set(), path
