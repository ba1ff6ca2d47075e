"""No library's warning reaches a person: not on the terminal, not in the log of the page."""

from __future__ import annotations

import os

import pytest
from browsing import LIVE, RUNNING, opened, ready, run
from playwright.sync_api import expect
from shell import python
from tiny_models import make_model, perturb, save_pair

pytest_plugins = ["visits"]

LOUD = """
import logging, warnings
with warnings.catch_warnings():
    warnings.simplefilter("always")
    warnings.warn("it is old", FutureWarning)
logging.getLogger("a.library").warning("it is odd")
logging.getLogger("a.library").error("it fails")
"""
HUSHED = f"from stairs_core.quiet import hush; hush()\n{LOUD}"
IMPORTED = f"from stairs_core import Runner, custom_generate, load_pair\n{LOUD}"


def shell(**more: str) -> dict[str, str]:
    """An environment that shows the warnings that Python hides, too."""
    ours = {name: value for name, value in os.environ.items() if name != "STAIRS_DEBUG"}
    return ours | {"PYTHONWARNINGS": "default", "OMP_NUM_THREADS": "1"} | more


@pytest.mark.parametrize(
    "words",
    [
        "run --prompt Once --max-new-tokens 8 --k 3",
        "race --prompt Once --max-new-tokens 8 --numerics strict --check",
        "bench --count 1 --repeats 1 --max-new-tokens 16 --ks 3 --drafters model "
        "--against transformers",
    ],
)
def test_a_command_prints_no_warning(words, tiny_pair_dir):
    args = [*words.split(), "--pair", str(tiny_pair_dir)]
    done = python("-m", "stairs_core", *args, env=shell())
    assert done.returncode == 0, done.stderr
    assert "arning" not in done.stderr


def test_of_libraries_only_errors_are_printed():
    """However they set Python's filters."""
    assert python("-c", HUSHED, env=shell()).stderr == "it fails\n"


@pytest.mark.parametrize(
    ("code", "more"), [(IMPORTED, {}), (HUSHED, {"STAIRS_DEBUG": "1"})], ids=["library", "debug"]
)
def test_elsewhere_they_are_as_loud_as_they_are(code, more):
    """In a program that imports stairs_core, and where one looks for a fault."""
    told = python("-c", code, env=shell(**more)).stderr
    assert all(words in told for words in ("it is old", "it is odd", "it fails"))


def test_the_pages_log_holds_no_warning(visit, log, made, tmp_path):
    """Opened, run, shown a trace, given other models."""
    before = len(log.read_text())
    page = visit()
    run(page, "Once upon a time", 24)
    page.wait_for_function(f"!({RUNNING})", timeout=LIVE)
    opened(page, made["lanes"])
    target = make_model(seed=7)
    own = save_pair(tmp_path / "own", target, perturb(target))
    page.locator("#models > .label-wrap").click()
    page.locator("#model-own textarea").fill(str(own))
    page.locator("#model-load").click()
    expect(page.locator("#models > .label-wrap")).to_contain_text("own", timeout=LIVE)
    ready(page)
    told = log.read_text()[before:]
    assert "Warning" not in told
    assert "Traceback" not in told
