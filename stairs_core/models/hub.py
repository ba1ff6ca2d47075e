"""Models on the hub: whether it answers, which files a model has, and downloading them.

A download runs in a process of its own (``hub_download.py``), since only killing a process stops
one at once: the hub's library cannot stop a single download by xet, and one that gets no data calls
nothing that could stop it.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ..errors import InputError
from ..settings.pair_spec import pinned
from . import cache, folder_check, worker
from .worker import Say

TIMEOUT = 10.0
_ANSWER, _KEEP = 2.0, 60
KINDS = (".json", ".model", ".spm", ".txt", ".codes", ".tokenizer", ".tiktoken", ".jinja")
"""Endings of the files that configs and tokenizers consist of. These and the weight files
(``folder_check.chosen``) are all that is fetched: never code, nor pickles, which can run code."""
_TEMPLATES = "additional_chat_templates"


@dataclass(frozen=True)
class Remote:
    """A model on the hub. ``sizes``: the bytes of each file that is used."""

    id: str
    commit: str
    sizes: dict[str, int]

    @property
    def weights(self) -> int:
        return sum(n for name, n in self.sizes.items() if name.endswith((".safetensors", ".gguf")))

    @property
    def config(self) -> Path:
        return Path(str(self._cached("config.json")))

    def here(self) -> Path | None:
        """The folder in the cache, if all files have been fetched; else None."""
        if self.missing():
            return None
        name = next(iter(self.sizes))
        return Path(str(self._cached(name))).parents[name.count("/")]

    def missing(self) -> int:
        """How many bytes are still to be fetched."""
        return sum(n for name, n in self.sizes.items() if not self._cached(name))

    def _cached(self, name: str) -> str | None:
        """Where a file is in the cache. One that is not as long as on the hub is deleted: it was
        cut off, and is fetched again."""
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.id, name, revision=self.commit)
        if not isinstance(found, str):
            return None
        if Path(found).stat().st_size != self.sizes[name]:
            Path(found).resolve().unlink(missing_ok=True)
            Path(found).unlink(missing_ok=True)
            return None
        return found


def reachable() -> bool:
    """Whether the hub answers within two seconds. The answer is kept for a minute."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return False
    return _answers(constants.ENDPOINT, int(time.monotonic() // _KEEP))


@functools.lru_cache(maxsize=1)
def _answers(endpoint: str, minute: int) -> bool:
    from huggingface_hub.utils import get_session

    try:
        return get_session().head(endpoint, timeout=_ANSWER).status_code < 500
    except Exception:  # of whichever HTTP library the hub's library uses
        return False


def find(name: str, say: Say) -> Remote | Path:
    """The model with that id on the hub, which may be pinned to a commit, or, if the hub does not
    answer, its folder in the cache.

    Raises InputError where there is neither, or the model cannot be used.
    """
    say(f"Asking the hub for {name} …")
    name, commit = pinned(name)
    return ask(name, commit) if reachable() else cached(name, commit)


def find_file(name: str, file: str, say: Say) -> Remote | Path:
    """The same for one file alone of the repository ``name``: the path of it in the cache, or what
    the hub says of it."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    say(f"Asking the hub for {name}/{file} …")
    name, commit = pinned(name)
    if reachable():
        return _ask_file(name, file, commit)
    try:
        found = try_to_load_from_cache(name, file, revision=commit)
    except HFValidationError as e:
        raise explained(e, name) from e
    return Path(found) if isinstance(found, str) else _unreached(f"{name}/{file}")


def cached(name: str, commit: str | None = None) -> Path:
    """The cached folder of a model. Raises InputError unless all of it was fetched before."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    # Without subfolders: a model is usable without the chat templates in one.
    kinds = {"allow_patterns": [f"*{kind}" for kind in KINDS], "ignore_patterns": "*/*"}
    try:
        folder = Path(snapshot_download(name, revision=commit, local_files_only=True, **kinds))
        if not _whole(folder):
            raise LocalEntryNotFoundError(name)
    except HFValidationError as e:
        raise explained(e, name) from e
    except LocalEntryNotFoundError as e:
        return _unreached(name, e)
    return folder


def _unreached(name: str, cause: Exception | None = None) -> NoReturn:
    """Raises InputError: neither the hub nor the cache has it."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        raise InputError(
            f"{name} was not fetched before, and HF_HUB_OFFLINE forbids it now: unset that, or "
            "use a folder."
        ) from cause
    raise InputError(
        f"{name} was not fetched before, and {constants.ENDPOINT} does not answer: check the "
        "network, or use a folder."
    ) from cause


def _whole(folder: Path) -> bool:
    """Whether all weight files are there."""
    try:
        return all(shard.is_file() for shard in folder_check.shards(folder))
    except InputError:
        return False


def ask(name: str, commit: str | None = None) -> Remote:
    """The model with this id on the hub. Raises InputError where there is none that can be used."""
    from huggingface_hub import HfApi, hf_hub_download

    try:
        info = HfApi().model_info(name, revision=commit, timeout=TIMEOUT, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}

        def small(file: str) -> Path:
            # Fetched now, so that a model is refused before its weights are downloaded.
            return Path(hf_hub_download(name, file, revision=commit))

        shards = folder_check.chosen(name, sizes, small)
    except InputError:
        raise
    except Exception as e:
        raise explained(e, name) from e
    if lacking := [shard for shard in shards if shard not in sizes]:
        raise InputError(f"{name} lacks its shard {lacking[0]} on the hub: choose another model.")
    used = [*filter(used_beside_weights, sizes), *shards]
    return Remote(name, str(info.sha), {file: sizes[file] for file in used})


def _ask_file(name: str, file: str, commit: str | None) -> Remote:
    from huggingface_hub import HfApi

    try:
        info = HfApi().model_info(name, revision=commit, timeout=TIMEOUT, files_metadata=True)
    except Exception as e:
        raise explained(e, name) from e
    sizes = {found.rfilename: found.size or 0 for found in info.siblings or []}
    if file not in sizes:
        raise InputError(f"{name} has no {file} on the hub: check the file's name.")
    return Remote(name, str(info.sha), {file: sizes[file]})


def used_beside_weights(file: str) -> bool:
    """Whether this file of a model is fetched beside its weights."""
    folder, _, name = file.rpartition("/")
    return name.endswith(KINDS if not folder else ".jinja") and folder in ("", _TEMPLATES)


def fetch(remote: Remote, role: str, say: Say) -> Path:
    """The folder of a model, fetched if it is not cached. An exception from ``say`` stops it at
    once.

    Complete files then stay in the hub's cache, and what has come of weights, which the next
    attempt goes on from.
    """
    return remote.here() or _download(remote, role, say)


def explained(error: Exception, name: str) -> InputError:
    """An error of the hub's library as one sentence that names the fix."""
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
    if cache.full(error):
        return InputError(
            f"The disk is full, so {name} cannot be fetched: make room, or set HF_HOME."
        )
    reason = " ".join(str(error).split()).split(". ")[0][:160].rstrip(".")
    return InputError(f"The hub does not give {name} ({reason}): check the network and try again.")


def _download(remote: Remote, role: str, say: Say) -> Path:
    from huggingface_hub import constants

    missing, before = remote.missing(), _incomplete(remote.id)

    def words(facts: Mapping[str, Any]) -> str:
        came = min(facts.get("bytes", 0), missing)
        left = time_left(facts, missing)
        return f"Fetching the {role}: {giga(came)} of {giga(missing)} GB{left}"

    facts = worker.run(
        "hub_download",
        [remote.id, remote.commit, *remote.sizes],
        say,
        words,
        f"Fetching {remote.id} broke off: try it again.",
        # This process's hub and cache.
        {
            "HF_ENDPOINT": constants.ENDPOINT,
            "HF_HUB_CACHE": str(constants.HF_HUB_CACHE),
            "HF_HUB_OFFLINE": "0",
        },
        lambda: _clear(remote.id, before),
    )
    return Path(facts["folder"])


def blob(name: str, etag: str) -> Path:
    """Where the hub's library keeps a file of a model."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE, f"models--{name.replace('/', '--')}", "blobs", etag)


def lock(name: str, etag: str) -> Path:
    """The file that the hub's library locks while it fetches that one."""
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE, ".locks", f"models--{name.replace('/', '--')}")
    return place / f"{etag}.lock"


def _incomplete(name: str) -> set[Path]:
    """What the hub's library has under way, or left, of a model's files. It takes a new name at
    each attempt, so it never goes on with them."""
    return set(blob(name, "").glob("*.*.incomplete"))


def _clear(name: str, before: set[Path]) -> None:
    """Removes incomplete files that were not there ``before`` and that no process is writing."""
    from filelock import FileLock, Timeout

    for path in _incomplete(name) - before:
        with (
            contextlib.suppress(OSError, NotImplementedError, Timeout),
            FileLock(lock(name, path.name.split(".")[0]), timeout=0),
        ):
            path.unlink()


def giga(count: int) -> str:
    """A number of bytes in GB, for people."""
    return f"{count / 1e9:.1f}" if count >= 1e8 else f"{count / 1e9:.3f}"


def time_left(facts: Mapping[str, Any], total: int) -> str:
    """How long a download of ``total`` bytes will last, after a comma, from what it told: ``bytes``
    are there, after ``seconds`` and from ``from`` on. Empty in the first second."""
    came, begun, seconds = (facts.get(name, 0) for name in ("bytes", "from", "seconds"))
    if seconds < 1 or came <= begun:
        return ""
    rest = max(0, total - came) / (came - begun) * seconds
    if rest < 60:
        return f", {max(1, round(rest))} s left"
    return f", {int(rest / 60)} min {int(rest % 60)} s left"
