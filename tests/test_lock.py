"""The lock: what pyproject's ranges let in, exactly, for every Python that README names."""

from __future__ import annotations

import platform
import re
from importlib import metadata

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
CUDA = ("cuda", "nvidia", "triton")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def listed(name: str) -> list[Requirement]:
    """The strings of a list in pyproject. (Python 3.10 has no tomllib.)"""
    (inside,) = re.findall(rf"^{name} = \[\n(.*?)^\]", PYPROJECT, re.MULTILINE | re.DOTALL)
    return [Requirement(words) for words in re.findall(r'^ *"(.*)",$', inside, re.MULTILINE)]


def locked(file: str, python: str) -> dict[str, str]:
    """Versions by name of what is installed with a Python on Linux."""
    here = {"python_version": python, "python_full_version": f"{python}.1"}
    linux = {"sys_platform": "linux", "platform_machine": "x86_64", "os_name": "posix"}
    found: dict[str, str] = {}
    for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
        if words := line.split("#")[0].strip():
            one = Requirement(words)
            if one.marker and not one.marker.evaluate({**default_environment(), **here, **linux}):
                continue
            (exact,) = one.specifier
            assert (exact.operator, one.name in found) == ("==", False), line
            found[canonicalize_name(one.name)] = exact.version
    return found


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    ("file", "ranges"), [("requirements.txt", "dependencies"), ("requirements-dev.txt", "dev")]
)
def test_the_lock_holds_all_that_is_asked_for_within_its_range(file, ranges, python):
    found = locked(file, python)
    for one in listed(ranges):
        assert one.specifier.contains(found[one.name]), one
        assert {part.operator for part in one.specifier} == {">=", "<"}, one


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_fits_what_is_installed_beside_it(python):
    """Test tools that need the same package take the same version of it. torch's wheels, of a CPU
    or of any CUDA, ask for their own CUDA packages."""
    run, tools = (locked(file, python) for file in ("requirements.txt", "requirements-dev.txt"))
    for name in run.keys() & tools:
        assert run[name] == tools[name], name
    assert not [name for name in run if name.startswith(CUDA)]
    assert "+" not in run["torch"]


def test_the_lock_names_all_that_its_packages_need():
    """Asked of what is installed here: what a package of the lock needs is in the lock."""
    found = locked("requirements.txt", ".".join(platform.python_version_tuple()[:2]))
    for name in found:
        for one in map(Requirement, metadata.requires(name) or []):
            if one.marker is None or one.marker.evaluate({"extra": ""}):
                needed = canonicalize_name(one.name)
                assert needed in found or needed.startswith(CUDA), f"{name} needs {needed}"


def test_a_space_takes_the_versions_of_the_lock():
    head = README.split("---")[1]
    (python,) = re.findall(r'^python_version: "(.*)"$', head, re.MULTILINE)
    (gradio,) = re.findall(r"^sdk_version: (.*)$", head, re.MULTILINE)
    assert python in PYTHONS
    assert gradio == locked("requirements.txt", python)["gradio"]


def test_the_pythons_of_the_lock_are_the_ones_that_are_named():
    assert f'requires-python = ">={PYTHONS[0]}"' in PYPROJECT
    named = f"Python {PYTHONS[0]} to {PYTHONS[-1]}"
    assert named in README
    assert named in (ROOT / "requirements.txt").read_text(encoding="utf-8")
