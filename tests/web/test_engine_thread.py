"""Where models compute while a page is watched: in one thread, which leaves others a core."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from stairs_core.web import engine_thread

ASK = """
import torch
default = torch.get_num_threads()
from stairs_core.models import devices
from stairs_core.web import engine_thread
threads, cpu = engine_thread.run(torch.get_num_threads), torch.device("cpu")
print(default, threads, engine_thread.run(devices.hardware, cpu))
"""


@pytest.mark.parametrize("named", [{}, {"OMP_NUM_THREADS": "2"}, {"SPACE_ID": "some/space"}])
def test_a_core_is_left_to_others_where_nobody_says_otherwise(named):
    free = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "SPACE_ID")}
    command = [sys.executable, "-c", ASK]
    out = subprocess.run(command, env=free | named, capture_output=True, text=True, check=True)
    before, after, words = out.stdout.strip().split(maxsplit=2)
    assert int(after) == (int(before) if "OMP_NUM_THREADS" in named else max(1, int(before) - 1))
    assert words == f"CPU, {after} thread{'s' * (int(after) > 1)}"


def test_one_job_at_a_time_and_a_failed_one_harms_no_other():
    inside: list[int] = []

    def job(number: int) -> int:
        inside.append(number)
        time.sleep(0.01)
        assert inside.pop() == number
        assert not inside
        if number == 1:
            raise MemoryError
        return number

    futures = [engine_thread.submit(job, number) for number in range(4)]
    assert isinstance(futures[1].exception(), MemoryError)
    assert [futures[i].result() for i in (0, 2, 3)] == [0, 2, 3]
