"""The libraries' progress bars, notices and advice, kept off the terminal."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging


@contextmanager
def quiet() -> Iterator[None]:
    """While a pair is loaded, or transformers decodes beside us. Errors still come through."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # Advice, such as to install something else; what will break later is another kind.
            warnings.filterwarnings("ignore", category=UserWarning, module="transformers")
            yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()
