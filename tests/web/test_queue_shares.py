"""One address does not fill the queue. That gradio's own keeps to it: ``test_programs``."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stairs_core.errors import InputError
from stairs_core.settings.limits import Limits
from stairs_core.web import queue_shares

ME, OTHER = "9.9.9.9", "8.8.8.8"


def held(run, waiting, **changes):
    queue_shares.check(ME, run, waiting, replace(Limits(), **changes))


def test_runs_of_one_address_wait_up_to_the_limit():
    held(True, [(ME, True)] * 7 + [(OTHER, True)] * 40)
    held(False, [(ME, True)] * 8)
    with pytest.raises(InputError, match="8 runs of one address wait on this page at most"):
        held(True, [(ME, True)] * 8)
    held(True, [(ME, True)] * 60, visitor_queue=0)


def test_half_of_the_queue_is_left_to_others_whatever_is_asked():
    held(False, [(ME, False)] * 31)
    with pytest.raises(InputError, match="half of this page's queue"):
        held(False, [(ME, False)] * 32)
    with pytest.raises(InputError, match="half of this page's queue"):
        held(True, [(ME, False)], queue=1)
