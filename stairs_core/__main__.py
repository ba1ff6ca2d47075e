"""The program: ``stairs``, or ``python -m stairs_core``."""

import atexit
import os
import sys
from contextlib import suppress
from typing import NoReturn

from .quiet import hush


def main() -> NoReturn:
    """Quiet first, since libraries warn while they are imported too.

    And gone at once: Python would first take apart thousands of modules and a model's weights, for
    a third of a second in which the prompt does not come back.
    """
    hush()
    from .cli.main import main

    status = main()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # whoever read it is gone, or it is closed
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
