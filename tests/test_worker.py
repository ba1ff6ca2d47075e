"""Where models compute while a page is watched: in one thread, which leaves the browser a core."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ASK = """
import torch
default = torch.get_num_threads()
from stairs_core import devices, worker
print(default, worker.run(torch.get_num_threads), worker.run(devices.hardware, torch.device("cpu")))
"""


@pytest.mark.parametrize("named", [{}, {"OMP_NUM_THREADS": "2"}, {"SPACE_ID": "some/space"}])
def test_a_core_is_left_to_the_browser_where_nobody_says_otherwise(named):
    free = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "SPACE_ID")}
    command = [sys.executable, "-c", ASK]
    out = subprocess.run(command, env=free | named, capture_output=True, text=True, check=True)
    before, after, words = out.stdout.strip().split(maxsplit=2)
    assert int(after) == (int(before) if named else max(1, int(before) - 1))
    assert words == f"CPU, {after} thread{'s' * (int(after) > 1)}"
