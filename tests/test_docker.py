"""The Dockerfile, as far as no container engine is needed: what it copies, runs and promises."""

from __future__ import annotations

import http.server
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from paths import ROOT

TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def instructions() -> list[tuple[str, str]]:
    """Every instruction with its words, comments left out and lines joined."""
    lines = [line for line in TEXT.splitlines() if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(name, words.strip()) for name, words in (line.split(None, 1) for line in joined)]


STEPS = instructions()


def every(name: str) -> list[str]:
    return [words for step, words in STEPS if step == name]


def only(name: str) -> str:
    (words,) = every(name)
    return words


def environment() -> dict[str, str]:
    return dict(word.split("=", 1) for words in every("ENV") for word in shlex.split(words))


def context(folder: Path) -> None:
    """Copies to ``folder`` what docker would send to the build: all that .dockerignore leaves."""
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    kept = [rule[1:] for rule in rules if rule.startswith("!")]
    dropped = [rule.removeprefix("**/") for rule in rules if rule.startswith("**/")]
    assert {*rules} == {"*", *(f"!{name}" for name in kept), *(f"**/{name}" for name in dropped)}
    for name in kept:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(*dropped))
        else:
            shutil.copy2(ROOT / name, folder / name)


def health() -> list[str]:
    command = json.loads(only("HEALTHCHECK").split("CMD", 1)[1])
    assert command[0] == "python"
    return [sys.executable, *command[1:]]


def test_what_it_copies_and_runs_is_there(tmp_path):
    context(tmp_path)
    for words in every("COPY"):
        *sources, _ = [word for word in words.split() if not word.startswith("--")]
        assert all((tmp_path / source).exists() for source in sources), words
    for part in (part for words in every("RUN") for part in words.split("&&")):
        assert shutil.which(shlex.split(part)[0]), part
    program, script = json.loads(only("CMD"))
    assert program == "python"
    assert (tmp_path / script).is_file()
    assert not list(tmp_path.rglob("__pycache__"))
    assert not [n for n in (".git", ".venv", "tests") if (tmp_path / n).exists()]


def test_it_installs_the_lock_and_nothing_else():
    installs = re.findall(r"pip install ([^&]*)", " && ".join(every("RUN")))
    assert len(installs) == 2
    for words in map(shlex.split, installs):
        files = [words[i + 1] for i, word in enumerate(words) if word == "-r"]
        assert files in (["/tmp/torch.txt"], ["requirements.txt"])
        assert words[-2:] == ["-r", *files], "no package by name"
    (cut,) = re.findall(r"grep '(\S+)' requirements.txt > /tmp/torch.txt", " ".join(every("RUN")))
    assert ["--no-deps" in words for words in installs] == [True, False], "of torch's index, torch"
    lock = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    first = [line.split()[0] for line in lock if re.match(cut, line)]
    assert len(first) == 1
    assert first[0].startswith("torch==")


def test_a_build_argument_chooses_between_cpu_and_cuda():
    name, usual = only("ARG").split("=")
    assert usual.endswith("/whl/cpu")
    assert any(f'--index-url "${name}"' in words for words in every("RUN"))
    commands = (ROOT / "stairs_core/web/README.md").read_text(encoding="utf-8")
    assert re.search(rf"--build-arg {name}=https://download.pytorch.org/whl/cu\d+ ", commands)


def test_it_does_not_run_as_root_and_keeps_fetched_models_in_a_volume():
    names = [name for name, _ in STEPS]
    user = only("USER")
    assert user not in ("root", "0")
    assert f"--uid 1000 {user}" in " ".join(every("RUN"))
    assert names.index("USER") < names.index("CMD")
    assert not [words for name, words in STEPS[names.index("USER") :] if name == "RUN"]
    volume, home = only("VOLUME"), f"/home/{user}"
    assert f"install -d -o {user} {volume}" in " ".join(every("RUN"))
    free = {k: v for k, v in os.environ.items() if "CACHE" not in k and not k.startswith("HF_")}
    code = (
        "from stairs_core.models import cache; from huggingface_hub import constants;"
        "print(cache.folder()); print(constants.HF_HUB_CACHE)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        env=free | {"HOME": home},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert all(place.startswith(f"{volume}/") for place in out), out


class Well(http.server.BaseHTTPRequestHandler):
    """A page that is well, or is loading its models."""

    status = 200

    def do_GET(self):
        self.send_response(self.status if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_the_health_check_tells_a_page_that_is_well_from_others(monkeypatch):
    port = environment()["PORT"]
    assert only("EXPOSE") == port
    quiet = {"stderr": subprocess.DEVNULL}
    with http.server.HTTPServer(("127.0.0.1", 0), Well) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        there = os.environ | {"PORT": str(server.server_port)}
        assert subprocess.run(health(), env=there).returncode == 0
        monkeypatch.setattr(Well, "status", 503)
        assert subprocess.run(health(), env=there, **quiet).returncode != 0
        server.shutdown()
    assert subprocess.run(health(), env=there, **quiet).returncode != 0


@pytest.mark.slow
def test_its_steps_in_a_clean_folder_make_a_page_that_is_well(tmp_path):
    """As docker would take them, but for the user: installed with its Python's pip into an
    environment of its own, started with its variables, asked by its health check."""
    folder, home = tmp_path / "app", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    context(folder)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    name, usual = only("ARG").split("=")
    places = f"{tmp_path / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    own = {name: os.environ.get(name, usual), "PATH": places, "HOME": str(home)}
    free = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "STAIRS", "HF_"))}
    (install,) = [words for words in every("RUN") if "pip install" in words]
    install = install.replace("/tmp/torch.txt", str(tmp_path / "torch.txt"))
    subprocess.run(install, shell=True, cwd=folder, env=free | own, check=True)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    there = free | own | environment() | {"PORT": str(port)}
    with subprocess.Popen(json.loads(only("CMD")), cwd=folder, env=there) as page:
        try:
            ends = time.monotonic() + 300
            while subprocess.run(health(), env=there, stderr=subprocess.DEVNULL).returncode:
                assert page.poll() is None
                assert time.monotonic() < ends
                time.sleep(1)
        finally:
            page.terminate()
