"""The package ``spaces`` itself, which a Space's builder installs: off ZeroGPU its decorator
changes nothing; on ZeroGPU models are loaded where it stands in for CUDA, and its errors are read.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from paths import ROOT

pytestmark = pytest.mark.slow
PACKAGE = "spaces==0.51.3"

OFF = """
import spaces
from stairs_core.web import zero_gpu
assert not zero_gpu.ON, "installed, but this is not ZeroGPU"
zero_gpu.ON = True  # while functions are decorated
from stairs_core.web import live_race
zero_gpu.ON = False
import app
app.build()
from stairs_core.settings.settings import Settings
assert live_race._race_on_gpu.__module__ == live_race.__name__
settings = {"stairs": Settings(k=4, max_new_tokens=16)}
events = live_race._race_on_gpu("Once upon a time", settings, live_race.Flag(), 20)
print(len({event.text for _, event in events if type(event).__name__ == "Stop"}))
"""

ON = """
import torch
# A torch for CPUs lacks these, which the package looks for.
torch.version.cuda, torch._C._cuda_init, torch.cuda._is_in_bad_fork = "13.0", print, bool
import app, spaces  # as on a Space: gradio before models
from spaces.zero import torch as standing_in
from stairs_core.errors import InputError
from stairs_core.settings.settings import Settings
from stairs_core.web import live_race, zero_gpu
assert zero_gpu.ON
settings = {"stairs": Settings(k=4, max_new_tokens=16)}
def play(prompt):
    flag = live_race.Flag()
    race = live_race.race(prompt, settings, flag)
    return [e for batch in live_race.batches(race, flag) for _, e in batch]
"""

REFUSED = """
pair = live_race.models().result()
assert standing_in.pack() > 20e6, "the weights, put aside for the processes that have a GPU"
try:
    play("Once upon a time")
except InputError as e:
    print(pair.device, e)
"""

RUN = """
torch.cuda.is_available = lambda: False  # the models stay on the CPU, in its process too
standing_in.init = standing_in.move = lambda *uuid, **callback: None  # they need a GPU
live_race.models().result()
stops = [e for e in play("Once upon a time") if type(e).__name__ == "Stop"]
try:
    play("a " * 5000)
except InputError as e:
    print(len(stops), len({e.text for e in stops}), stops[0].reason, e)
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spaces")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--target", folder, PACKAGE], check=True)
    return folder


def run(code: str, package, **variables: str) -> str:
    free = {k: v for k, v in os.environ.items() if not k.startswith(("SPACE", "STAIRS_"))}
    path = os.pathsep.join([str(ROOT), str(package)])
    there = free | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"} | variables
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=there, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.strip().splitlines()
    return [line for line in lines if not line.startswith("SPACES_ZERO_GPU_DEBUG")][-1]


def test_off_zero_gpu_its_decorator_changes_nothing(package):
    assert run(OFF, package, SPACE_ID="some/space") == "1"


@contextlib.contextmanager
def service(status: int, answer: dict[str, object]) -> Iterator[tuple[str, list[str]]]:
    """ZeroGPU's service, which answers a call for a GPU so. Its address, and what it is asked."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            schedules = self.path.startswith("/schedule")
            body = json.dumps(answer).encode() if schedules else b""
            self.send_response(status if schedules else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def on_zero_gpu(code: str, package, address: str, folder) -> str:
    return run(
        ON + code,
        package,
        SPACE_ID="some/space",
        SPACES_ZERO_GPU="true",
        SPACES_ZERO_DEVICE_API_URL=address,
        ZEROGPU_OFFLOAD_DIR=str(folder / "tensors"),
    )


def test_on_zero_gpu_models_are_put_aside_and_a_refusal_is_a_sentence(package, tmp_path):
    with service(429, {"left": 3, "wait": 1200}) as (address, asked):
        said = on_zero_gpu(REFUSED, package, address, tmp_path)
    assert said.startswith("cuda:0 ZeroGPU gave no GPU for the run: ")
    assert "durationSeconds=17" in asked[0]  # 15, and 2 lanes x 16 tokens x 0.06 s


def test_on_zero_gpu_a_race_goes_through_its_process(package, tmp_path):
    gpu = {"idle": False, "nvidiaIndex": 0, "nvidiaUUID": "a GPU", "allowToken": "a token"}
    with service(200, gpu) as (address, asked):
        said = on_zero_gpu(RUN, package, address, tmp_path)
    assert said.startswith("2 1 length The prompt"), said
    calls = [path.split("?")[0] for path in asked]
    assert calls.count("/schedule") == calls.count("/release") == 2
    assert not [path for path in asked if "fail=true" in path.lower()]
