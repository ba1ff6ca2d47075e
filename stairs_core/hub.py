"""Models on the hub: whether it answers, what a model there consists of, and its files.

A download is a process of its own (``download.py``), since nothing else ends one at once: in the
hub's library a download by xet ends with all others of its process, or not at all, and one that
stands still asks nobody whether to go on.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import weights
from .errors import InputError

Say = Callable[[str], object]
"""Takes a sentence on how far things are, and raises what ends them."""

TIMEOUT = 10.0
_ANSWER, _KEEP = 2.0, 60
_LOOK = 0.1
KINDS = (".json", ".model", ".spm", ".txt", ".codes", ".tokenizer", ".tiktoken", ".jinja")
"""Of files that a config and the tokenizers of transformers are read from: beside the weights that
are ``weights.chosen``, all that is fetched. Never code, nor pickles, which can run some."""
_TEMPLATES = "additional_chat_templates"


@dataclass(frozen=True)
class Remote:
    """A model on the hub. ``sizes``: in bytes, of those of its files that are used, by name."""

    id: str
    commit: str
    sizes: dict[str, int]

    @property
    def weights(self) -> int:
        return sum(n for name, n in self.sizes.items() if name.endswith(".safetensors"))

    @property
    def config(self) -> Path:
        return Path(str(self._cached("config.json")))

    def here(self) -> Path | None:
        """The folder that holds all of it, if it has been fetched."""
        return None if self.missing() else self.config.parent

    def missing(self) -> int:
        """Bytes that are still to be fetched."""
        return sum(n for name, n in self.sizes.items() if not self._cached(name))

    def _cached(self, name: str) -> str | None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.id, name, revision=self.commit)
        return found if isinstance(found, str) else None


def reachable() -> bool:
    """Whether the hub answers, within two seconds; asked again after a minute."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return False
    return _answers(constants.ENDPOINT, int(time.monotonic() // _KEEP))


@functools.lru_cache(maxsize=1)
def _answers(endpoint: str, minute: int) -> bool:
    from huggingface_hub.utils import get_session

    try:
        return get_session().head(endpoint, timeout=_ANSWER).status_code < 500
    except Exception:  # of whichever HTTP library the hub's uses today
        return False


def find(name: str, say: Say) -> Remote | Path:
    """What the hub has under an id, or, where it does not answer, the folder of what was fetched.

    Raises InputError where it cannot be used, or is not to be had.
    """
    say(f"Asking the hub for {name} …")
    return ask(name) if reachable() else cached(name)


def cached(name: str) -> Path:
    """The folder of a model that was fetched before. Raises InputError where it was not, whole."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    # Templates in the subfolder are not worth refusing the others.
    kinds = {"allow_patterns": [f"*{kind}" for kind in KINDS], "ignore_patterns": "*/*"}
    try:
        folder = Path(snapshot_download(name, local_files_only=True, **kinds))
        if not _whole(folder):
            raise LocalEntryNotFoundError(name)
    except HFValidationError as e:
        raise explained(e, name) from e
    except LocalEntryNotFoundError as e:
        if constants.is_offline_mode():
            raise InputError(
                f"{name} was not fetched before, and HF_HUB_OFFLINE forbids it now: unset that, or "
                "use a folder."
            ) from e
        raise InputError(
            f"{name} was not fetched before, and {constants.ENDPOINT} does not answer: check the "
            "network, or use a folder."
        ) from e
    return folder


def _whole(folder: Path) -> bool:
    """Whether all files of the weights have come."""
    try:
        return all(shard.is_file() for shard in weights.shards(folder))
    except InputError:
        return False


def ask(name: str) -> Remote:
    """What the hub has under this id. Raises InputError where it cannot be used, or not by us."""
    from huggingface_hub import HfApi, hf_hub_download

    try:
        info = HfApi().model_info(name, timeout=TIMEOUT, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}

        def small(file: str) -> Path:
            # Refused where the weights would be, at the end of a long download.
            return Path(hf_hub_download(name, file))

        shards = weights.chosen(name, sizes, small)
    except InputError:
        raise
    except Exception as e:
        raise explained(e, name) from e
    if lacking := [shard for shard in shards if shard not in sizes]:
        raise InputError(f"{name} lacks its shard {lacking[0]} on the hub: choose another model.")
    used = [*filter(used_beside_weights, sizes), *shards]
    return Remote(name, str(info.sha), {file: sizes[file] for file in used})


def used_beside_weights(file: str) -> bool:
    """Whether a file of a model, by its name, is fetched with its weights."""
    folder, _, name = file.rpartition("/")
    return name.endswith(KINDS if not folder else ".jinja") and folder in ("", _TEMPLATES)


def fetch(remote: Remote, role: str, say: Say) -> Path:
    """The folder of a model, fetched if it is not here. Ends at once with what ``say`` raises.

    Then, files that came whole stay in the hub's cache, and parts of files do not.
    """
    return remote.here() or _download(remote, role, say)


def explained(error: Exception, name: str) -> InputError:
    """What went wrong with a model of the hub, and what to do, in one sentence."""
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", 0)
    if isinstance(error, errors.HFValidationError):
        return InputError(f"{name:.80} is no id of the hub: use one as owner/name, or a folder.")
    if status == 429:
        return InputError(
            f"The hub does not give {name} now, since too much was asked for from here: wait some "
            "minutes, or set HF_TOKEN to a token of an account."
        )
    if isinstance(error, errors.GatedRepoError):
        return InputError(
            f"{name} is gated: accept its licence at https://huggingface.co/{name} and set "
            "HF_TOKEN to a token of that account."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return InputError(
            f"There is no {name} on the hub that may be read: check the id, and set HF_TOKEN if it "
            "is private."
        )
    if isinstance(error, errors.EntryNotFoundError) and status == 404:
        return InputError(f"{name} has no config.json: choose a model for transformers.")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return InputError(
            f"The disk is full, so {name} cannot be fetched: make room, or set HF_HOME."
        )
    reason = " ".join(str(error).split()).split(". ")[0][:160].rstrip(".")
    return InputError(f"The hub does not give {name} ({reason}): check the network and try again.")


def _download(remote: Remote, role: str, say: Say) -> Path:
    from huggingface_hub import constants

    missing = remote.missing()
    partly = Path(constants.HF_HUB_CACHE, f"models--{remote.id.replace('/', '--')}", "blobs")
    before = set(partly.glob("*.incomplete"))
    heard: dict[str, Any] = {"bytes": 0}
    process = _start(remote)
    listening = threading.Thread(target=_listen, args=(process, heard), daemon=True)
    listening.start()
    try:
        while process.poll() is None:
            of = f"{_giga(min(heard['bytes'], missing))} of {_giga(missing)} GB"
            say(f"Fetching the {role}: {of}")
            time.sleep(_LOOK)
    finally:
        ended = process.poll() is not None
        process.kill()
        process.wait()
        listening.join()
        if not ended:
            for path in set(partly.glob("*.incomplete")) - before:
                path.unlink(missing_ok=True)
    if "folder" in heard:
        return Path(heard["folder"])
    raise InputError(heard.get("refused", f"Fetching {remote.id} broke off: try it again."))


def _start(remote: Remote) -> subprocess.Popen[str]:
    """The process that downloads, with the hub and the cache of this one."""
    from huggingface_hub import constants

    root = str(Path(__file__).resolve().parent.parent)
    environment = os.environ | {
        "HF_ENDPOINT": constants.ENDPOINT,
        "HF_HUB_CACHE": str(constants.HF_HUB_CACHE),
        "HF_HUB_OFFLINE": "0",
        "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "stairs_core.download", remote.id, remote.commit, *remote.sizes],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=None if os.environ.get("STAIRS_DEBUG") == "1" else subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for us, who then end it
        text=True,
        encoding="utf-8",
    )


def _listen(process: subprocess.Popen[str], heard: dict[str, Any]) -> None:
    with process.stdout or open(os.devnull) as lines:
        for line in lines:
            heard.update(json.loads(line))


def _giga(count: int) -> str:
    return f"{count / 1e9:.1f}" if count >= 1e8 else f"{count / 1e9:.3f}"
