"""The command line in a test's hands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT
from recordings import recording

from stairs_core.cli import main
from stairs_core.models import load
from stairs_core.traces import files

PROMPT = "Once upon a time there was"


@pytest.fixture
def stairs(capsys, tiny_pair, monkeypatch):
    """Runs a command on the tiny pair: its status, stdout and stderr."""
    monkeypatch.setattr(load, "load_pair", lambda *_, **__: tiny_pair)

    def run(*args: str) -> tuple[int, str, str]:
        status = main.main(args)
        out, err = capsys.readouterr()
        return status, out, err

    return run


def decode(*more: str, command: str = "run") -> tuple[str, ...]:
    return (command, "--prompt", PROMPT, "--k", "3", "--max-new-tokens", "12", *more)


def python(*args: str, **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args], cwd=ROOT, capture_output=True, encoding="utf-8", **more
    )


def refused(status: int, out: str, err: str) -> str:
    """The one sentence on stderr."""
    assert (status, out) == (2, "")
    assert err.endswith((".\n", ").\n"))
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert "\x1b" not in err
    return err


@pytest.fixture
def trace_file(tmp_path) -> Path:
    files.write(tmp_path / "t.jsonl", [recording(), recording(" \x1b[2J")])
    return tmp_path / "t.jsonl"
