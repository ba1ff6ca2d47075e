"""Keeps the libraries' progress bars, notices and warnings off the terminal and the page's log."""

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
"""Environment variables that these libraries read when they are imported."""


def hush() -> None:
    """From here on, libraries print errors only. ``STAIRS_DEBUG=1`` changes nothing.

    Our programs call this first of all, before they import these libraries. Importing
    ``stairs_core`` does not call it: another program decides for itself what it prints.
    """
    if os.environ.get("STAIRS_DEBUG") == "1":
        return
    for name, level in _LEVELS.items():
        os.environ.setdefault(name, level)
    logging.captureWarnings(True)  # to the logger py.warnings, whatever filters libraries set
    if logging.lastResort:  # prints for loggers without a handler
        logging.lastResort.setLevel(logging.ERROR)


@contextmanager
def quiet() -> Iterator[None]:
    """Silences transformers while it loads or decodes. Errors are still printed."""
    from transformers.utils import logging as notices

    level = notices.get_verbosity()
    if level != logging.ERROR:  # setting it takes long: every logger forgets what it knew
        notices.set_verbosity_error()
    notices.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # UserWarnings are advice, such as to install something; deprecations are still shown.
            warnings.filterwarnings("ignore", category=UserWarning, module="transformers")
            yield
    finally:
        if level != logging.ERROR:
            notices.set_verbosity(level)
        notices.enable_progress_bar()
