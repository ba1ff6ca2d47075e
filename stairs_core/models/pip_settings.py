"""How pip is set up: which registries it installs from, and how it reaches them.

pip is asked; where there is none, as in an environment that uv made, its files are read.
"""

from __future__ import annotations

import ast
import configparser
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import own_process

_PYPI = "https://pypi.org/simple"
_STATES = ("global", "install", "download", ":env:")
"""Sections of pip's configuration that count here, the strongest last."""


def options() -> dict[str, str]:
    """What pip's files and its environment variables say, by option's name."""
    listed = _listed()
    told = _read_files() if listed is None else _parsed(listed)
    found = {state: dict(told.get(state, {})) for state in _STATES}
    for name, value in os.environ.items():
        if name.startswith("PIP_"):
            found[":env:"][name[4:].lower().replace("_", "-")] = value
    return {option: value for state in _STATES for option, value in found[state].items() if value}


def indexes(options: Mapping[str, str]) -> list[str]:
    """Addresses of the package registries, the first one first; none where pip may use none. Where
    pip names none, the one that uv is set up for counts; else PyPI."""
    if options.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        return []
    of_uv = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL") or ""
    of_uv = re.sub(r"^[\w-]+=(?=\w+:)", "", of_uv)  # uv lets an address have a name
    first = options.get("index-url") or of_uv or _PYPI
    return [first, *options.get("extra-index-url", "").split()]


def _listed() -> str | None:
    """What pip says of its configuration; None where it cannot be asked."""
    command = own_process.command("pip", "config", "list", "--disable-pip-version-check")
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 60}
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, check=True, **options).stdout  # noqa: S603 (our own words)
    return None


def _parsed(listed: str) -> dict[str, dict[str, str]]:
    """Options by section, from lines such as ``global.index-url='https://…'``."""
    found: dict[str, dict[str, str]] = {}
    for line in listed.splitlines():
        name, equals, value = line.partition("=")
        section, _, option = name.strip().rpartition(".")
        if equals:
            with contextlib.suppress(ValueError, SyntaxError):
                found.setdefault(section, {})[option] = str(ast.literal_eval(value.strip()))
    return found


def _read_files() -> dict[str, dict[str, str]]:
    """The same from pip's files. One that cannot be read counts as empty."""
    parser = configparser.RawConfigParser()
    for path in _files():
        with contextlib.suppress(OSError, ValueError, configparser.Error):
            parser.read(path, encoding="utf-8")
    return {
        section: {name.replace("_", "-"): value for name, value in parser.items(section)}
        for section in parser.sections()
    }


def _files() -> list[Path]:
    """Where pip looks: for the machine, the user and the environment, and what PIP_CONFIG_FILE
    names, the strongest last."""
    named = os.environ.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return []  # pip's own sign for no files at all
    home, name = Path.home(), "pip.ini" if sys.platform == "win32" else "pip.conf"
    if sys.platform == "win32":
        users = [home / "pip", Path(os.environ.get("APPDATA") or home) / "pip"]
    else:
        users = [home / ".pip", Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip"]
    if sys.platform == "darwin":
        users.append(home / "Library" / "Application Support" / "pip")
    folders = [Path("/etc"), *users, Path(sys.prefix)]
    return [*(folder / name for folder in folders), *([Path(named)] if named else [])]
