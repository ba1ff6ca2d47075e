"""Fixtures that many tests share, tiny pairs of models above all, and the option ``--slow``."""

from __future__ import annotations

import contextlib
import gc
import os
import re
from pathlib import Path

import elsewhere
import pytest
from tiny_models import make_model, perturb, save_pair

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")


LONG = ("contract", "page", "training", "measuring", "decoding", "drafters", "cli", "models")
"""Folders of the files that take longest, which come first: two workers then end together. The
browser's come after the lint, which ``make test`` runs beside the first tests."""

LIVE = ("page", "web")
"""Folders of the tests that wait for a browser or a server, which a busy machine makes late: such a
test that fails is run once more, and the summary counts it."""

OPTIONAL = "gradio|plotly|gguf|playwright|mcp|spaces|axe_playwright_python"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run what takes minutes")
    parser.addoption("--device", default="cpu", help="where tests run: cpu or cuda")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes minutes; run with --slow")
    config.addinivalue_line("markers", "cpu: about what only a CPU does; not with --device cuda")
    # Here for where the plugin that acts on it is not installed.
    config.addinivalue_line("markers", "flaky(reruns): run again so often where it fails")
    if (device := config.getoption("--device")) != "cpu":
        elsewhere.install(device)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    places = {folder: place for place, folder in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.parent.name, len(LONG)))
    for item in items:
        if item.path.parent.name in LIVE:
            item.add_marker(pytest.mark.flaky(reruns=1))
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="needs --slow"))
    if elsewhere.DEVICE != "cpu":
        for item in items:
            if item.get_closest_marker("cpu"):
                item.add_marker(pytest.mark.skip(reason="about what only a CPU does"))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):
    """Where a GPU is, the page's libraries need not be: files that need one are skipped there."""
    report = yield
    missing = re.search(rf"No module named '({OPTIONAL})[.']", str(report.longrepr))
    if report.failed and missing and elsewhere.DEVICE != "cpu":
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), None, f"Skipped: {missing[1]} is not installed")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item):
    with _optional():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    with _optional():
        return (yield)


@contextlib.contextmanager
def _optional():
    try:
        yield
    except ModuleNotFoundError as e:
        if elsewhere.DEVICE == "cpu" or not re.fullmatch(OPTIONAL, str(e.name)):
            raise
        pytest.skip(f"{e.name} is not installed")


def pytest_collection_finish() -> None:
    gc.freeze()  # the libraries stay: garbage is not looked for among their objects again and again


@pytest.fixture(scope="session", autouse=True)
def brief_timing():
    """Passes are timed for a moment only. The seconds that they are timed for otherwise."""
    from stairs_core.measuring import pass_timing

    seconds = pass_timing._SECONDS
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pass_timing, "_SECONDS", 0.05)
        patch.setattr(pass_timing, "_LEAST", 1)
        yield seconds


@pytest.fixture
def usual_timing(brief_timing, monkeypatch):
    """Passes are timed for as long as a person's are."""
    from stairs_core.measuring import pass_timing

    monkeypatch.setattr(pass_timing, "_SECONDS", brief_timing)
    monkeypatch.setattr(pass_timing, "_LEAST", 4)


@pytest.fixture(scope="session")
def tiny_pair_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with target/ and draft/: random, tiny, float32; the draft often agrees."""
    target = make_model(layers=4)
    return save_pair(tmp_path_factory.mktemp("pair"), target, perturb(target))


@pytest.fixture(scope="session")
def tiny_pair(tiny_pair_dir: Path):
    from stairs_core.models.load import load_pair

    return load_pair(str(tiny_pair_dir), device="cpu", dtype="float32", compile="off")


@pytest.fixture
def unmeasured(tiny_pair, monkeypatch):
    """The same pair, of whose passes none has been timed; what the test times is forgotten."""
    from dataclasses import replace
    from weakref import WeakKeyDictionary

    from stairs_core.measuring import pass_timing

    monkeypatch.setattr(pass_timing, "_KNOWN", WeakKeyDictionary())
    return replace(tiny_pair)


@pytest.fixture(scope="session")
def lean_pair(tiny_pair):
    """The same pair in our own forward pass (see ``stairs_core.forward.lean_llama``)."""
    from dataclasses import replace

    from stairs_core.forward.lean_llama import LeanLlama

    return replace(
        tiny_pair,
        target=LeanLlama(tiny_pair.target),
        draft=LeanLlama(tiny_pair.draft),
    )


@pytest.fixture(scope="session")
def looping(tiny_pair, tmp_path_factory):
    """A target without attention: what it says depends on the last token, so its text goes round.

    Random models never do, and drafters that copy would have nothing accepted.
    """
    import torch

    from stairs_core.models.load import load_pair

    models = [make_model(seed=2), make_model(layers=1, seed=3)]
    for layer in models[0].model.layers:
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
    return load_pair(
        str(save_pair(tmp_path_factory.mktemp("loop"), *models)), "cpu", "float32", "off"
    )
