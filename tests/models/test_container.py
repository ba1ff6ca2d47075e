"""What a container allows, read from files of control groups, and how many threads follow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from paths import ROOT

from stairs_core.models import container, devices

TWO, PRIVATE = "0::/\n", "0::/user.slice/mine\n"
OLD = "12:memory:/docker/ab\n4:cpu,cpuacct:/docker/ab\n1:name=systemd:/docker/ab\n"


def cgroup(root: Path, of: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": of, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("of", "files", "cores"),
    [
        (TWO, {"cpu.max": "200000 100000\n"}, 2),
        (TWO, {"cpu.max": "max 100000\n"}, 64),
        (TWO, {"cpu.max": "150000 100000\n"}, 1),
        (TWO, {"cpu.max": "50000 100000\n"}, 1),
        (TWO, {"cpu.max": "9900000 100000\n"}, 64),
        (TWO, {"cpu.max": ""}, 64),
        (TWO, {}, 64),
        ("", {"cpu.max": "300000 100000\n"}, 3),
        # The group above has less.
        (
            PRIVATE,
            {"user.slice/mine/cpu.max": "max 100000", "user.slice/cpu.max": "400000 100000"},
            4,
        ),
        # In a container the path is the host's, and what is mounted is the group itself.
        ("0::/system.slice/docker-ab.scope\n", {"cpu.max": "200000 100000\n"}, 2),
        (
            OLD,
            {"cpu,cpuacct/cpu.cfs_quota_us": "200000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            2,
        ),
        (
            OLD,
            {
                "cpu/docker/ab/cpu.cfs_quota_us": "600000\n",
                "cpu/docker/ab/cpu.cfs_period_us": "100000\n",
                "cpu/cpu.cfs_quota_us": "-1\n",
                "cpu/cpu.cfs_period_us": "100000\n",
            },
            6,
        ),
        (OLD, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        (OLD, {"cpu/cpu.cfs_quota_us": "1", "cpu/cpu.cfs_period_us": "0"}, 64),
    ],
)
def test_cores(tmp_path, monkeypatch, of, files, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    placed = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    assert container.cores(cgroup(tmp_path, of, placed)) == cores


def test_a_process_kept_to_some_cores_has_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert container.cores(cgroup(tmp_path, TWO, {})) == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert container.cores(cgroup(tmp_path, TWO, {})) == 1


@pytest.mark.parametrize(
    ("of", "files", "left"),
    [
        (
            TWO,
            {"memory.max": "1000", "memory.current": "700", "memory.stat": "active_file 50\n"},
            350,
        ),
        (TWO, {"memory.max": "max", "memory.current": "700"}, None),
        (TWO, {}, None),
        (OLD, {"memory/memory.limit_in_bytes": "900", "memory/memory.usage_in_bytes": "400"}, 500),
    ],
)
def test_memory(tmp_path, of, files, left):
    placed = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    assert container.memory(cgroup(tmp_path, of, placed)) == left


@pytest.mark.parametrize(("named", "set_to"), [(None, 3), ("", 3), ("7", None)])
def test_threads_keep_to_the_quota_unless_a_person_says_otherwise(monkeypatch, named, set_to):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if named is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", named)
    said: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(torch, "set_num_threads", said.append)
    monkeypatch.setattr(container, "cores", lambda: 3)
    devices.keep_to_cores()
    assert said == ([set_to] if set_to else [])


ASK = """
import sys
import torch
torch.set_num_threads(8)
from stairs_core.cli import main
from stairs_core.models import container, load
from stairs_core.web import engine_thread
container.cores = lambda: 4
load.load_pair = lambda *_, **__: sys.exit(0)
try:
    main.main(["run", "--prompt", "Once"])
except SystemExit:
    line = torch.get_num_threads()
print(engine_thread.run(torch.get_num_threads), line)
"""


@pytest.mark.parametrize(
    ("named", "page", "line"),
    [
        ({}, 3, 4),
        pytest.param({"SPACE_ID": "a/b"}, 3, 4, marks=pytest.mark.slow),
        ({"OMP_NUM_THREADS": "8"}, 8, 8),
    ],
)
def test_the_page_and_the_command_line_keep_to_it(named, page, line):
    free = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "SPACE_ID")}
    command = [sys.executable, "-c", ASK]
    out = subprocess.run(
        command, env=free | named, capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert out.stdout.splitlines()[-1] == f"{page} {line}"
