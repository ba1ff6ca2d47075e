"""One of our own modules, or pip, run in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

_RUN = """
import sys
sys.path[:] = [sys.argv.pop(1), *filter(None, sys.path)]
import runpy
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def command(module: str, *arguments: str) -> list[str]:
    """The command line of ``python -m MODULE ARGUMENTS``, but for one thing: Python looks for no
    module in the current folder, unless PYTHONPATH names it: it may be a model's, whose code must
    not run.

    Modules of ours are found wherever they were imported from.
    """
    root = str(Path(__file__).resolve().parents[1])
    return [sys.executable, "-c", _RUN, root, module, *arguments]
