"""The libraries' progress bars, notices and warnings, kept off the terminal and the page's log."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LEVELS = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_VERBOSITY": "error",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}
"""Read when these libraries are imported."""


def hush() -> None:
    """Of libraries, only errors are printed from here on; ``STAIRS_DEBUG=1`` leaves them as loud
    as they are.

    For programs, first of all that they do: how loud a library is in another's program is not ours
    to say.
    """
    if os.environ.get("STAIRS_DEBUG") == "1":
        return
    for name, level in _LEVELS.items():
        os.environ.setdefault(name, level)
    logging.captureWarnings(True)  # to the logger py.warnings, whatever filters a library sets
    if logging.lastResort:  # what prints for loggers that nobody has given a handler
        logging.lastResort.setLevel(logging.ERROR)


@contextmanager
def quiet() -> Iterator[None]:
    """While a pair is loaded, or transformers decodes beside us. Errors still come through."""
    from transformers.utils import logging as notices

    level = notices.get_verbosity()
    notices.set_verbosity_error()
    notices.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # Advice, such as to install something else; what will break later is another kind.
            warnings.filterwarnings("ignore", category=UserWarning, module="transformers")
            yield
    finally:
        notices.set_verbosity(level)
        notices.enable_progress_bar()
