"""GGUF files, unpacked once to float32 safetensors that are kept in the user's cache.

``python -m stairs_core.models.gguf_unpack FILE FOLDER NOTE`` unpacks, in a process that can be
killed: transformers dequantises, by the package ``gguf``. A folder is built aside and then renamed,
so one that is there is whole. It is named by the SHA-256 of the file, so a file that changes is
unpacked anew.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..quiet import hush, quiet
from . import cache, gguf_header, worker
from .worker import Say, tell

WEIGHTS = "stairs_weights"
"""In the config of an unpacked model: which weights these are, for people."""
_CHUNK = 1 << 22
_MORE = 1.02  # of the tensors' bytes: tokenizer and configs
_UNKNOWN = "architecture|gguf model_type|model type"  # in errors of transformers


def folder(digest: str) -> Path:
    """Where the model unpacked from the file of that SHA-256 is, or will be."""
    return cache.folder() / "gguf" / digest


def is_whole(place: Path) -> bool:
    return (place / "config.json").is_file()


def unpacked(
    path: Path, say: Say, note: str = "", called: str = "", sha256: str | None = None
) -> Path:
    """The folder of the model in a GGUF file, unpacked unless it was before.

    ``note``: where the file is from, kept beside its name for people, which is ``called`` where it
    has a passing one. ``sha256``: of the file, where that is known. Raises InputError for a file
    that cannot be used; an exception from ``say`` stops the work at once.
    """
    header, name = gguf_header.read(path), called or path.name
    place = folder(sha256 or digest(path, say))
    if is_whole(place):
        return place
    cache.clear_old(cache.made("gguf"), "part-*")
    cache.check_room(place.parent, header.unpacked * _MORE, f"{name} takes, unpacked,")
    words = f"Unpacking {name} ({header.unpacked / 1e9:.1f} GB), which is done once …"
    what = f"{name}, {header.kinds[0]}"
    with tempfile.TemporaryDirectory(prefix="part-", dir=place.parent) as aside:
        worker.run(
            "gguf_unpack",
            [str(path), aside, f"{what}, {note}" if note else what, header.architecture],
            say,
            lambda _: words,
            f"Unpacking {name} broke off, perhaps for lack of memory: close other programs "
            "and try again.",
        )
        return settle(Path(aside) / "model", place)


def settle(made: Path, place: Path) -> Path:
    """Moves a folder that is whole to its place, where another process may have been faster."""
    try:
        made.rename(place)
    except OSError:
        if not is_whole(place):
            shutil.rmtree(place, ignore_errors=True)
            made.rename(place)
    return place


def digest(path: Path, say: Say) -> str:
    """The SHA-256 of a file; remembered by its path, size and times."""
    state = path.stat()
    facts = [str(path.resolve()), state.st_size, state.st_mtime_ns, state.st_ctime_ns]
    key = hashlib.sha256(json.dumps(facts).encode("utf-8", "replace")).hexdigest()
    note = cache.made("gguf") / "known" / key
    try:
        if re.fullmatch("[0-9a-f]{64}", known := note.read_text(encoding="ascii")):
            return known
    except (OSError, ValueError):
        pass
    found = hash_of(path, say)
    cache.made("gguf", "known")
    note.write_text(found, encoding="ascii")
    return found


def hash_of(path: Path, say: Say) -> str:
    """The SHA-256 of a file."""
    total, done, made = path.stat().st_size, 0, hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            made.update(chunk)
            done += len(chunk)
            say(f"Reading {path.name}: {done / 1e9:.1f} of {total / 1e9:.1f} GB")
    return made.hexdigest()


def main(file: str, aside: str, note: str, architecture: str) -> None:
    """In the process: unpacks ``file`` to the folder ``aside``/model."""
    hush()
    path = Path(file)
    try:
        with quiet():
            _unpack(path, Path(aside), note)
    except Exception as e:  # libraries may raise anything
        tell(refused=_why(e, path, architecture))


def _unpack(path: Path, aside: Path, note: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    # A folder with this file alone: names in a cache of the hub may be links without its ending.
    only = aside / "file"
    only.mkdir()
    link = only / "model.gguf"
    try:
        os.link(path.resolve(), link)
    except OSError:  # another disk
        os.symlink(path.resolve(), link)
    name = link.name
    config = AutoConfig.from_pretrained(
        only, gguf_file=name, local_files_only=True, trust_remote_code=False
    )
    family = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    model: Any = family.from_pretrained(
        only,
        config=config,
        dtype=torch.float32,
        gguf_file=name,
        local_files_only=True,
        trust_remote_code=False,
    )
    place = aside / "model"
    # Plain numbers from here on, which transformers would still refuse to save as quantised ones.
    model.hf_quantizer = None
    model.config.__dict__.pop("quantization_config", None)
    setattr(model.config, WEIGHTS, note)
    model.save_pretrained(place, max_shard_size="4GB")
    del model
    gc.collect()
    tokenizer = AutoTokenizer.from_pretrained(
        only, gguf_file=name, local_files_only=True, trust_remote_code=False
    )
    tokenizer.save_pretrained(place)


def _why(error: Exception, path: Path, architecture: str) -> str:
    """An error of the libraries as one sentence."""
    if isinstance(error, InputError):
        return str(error)
    if cache.full(error):
        return f"The disk of {cache.folder()} is full: make room, or set STAIRS_CACHE to another."
    if isinstance(error, MemoryError):
        return f"{path.name} does not fit into memory when unpacked: use a smaller model."
    message = " ".join(str(error).split())
    if isinstance(error, ValueError | NotImplementedError) and re.search(_UNKNOWN, message, re.I):
        import transformers

        return (
            f"{path.name} holds a {architecture or 'nameless'} model, an architecture that "
            f"transformers {transformers.__version__} does not read from GGUF: use its safetensors."
        )
    reason = message.split(". ")[0][:200].rstrip(".") or type(error).__name__
    return f"{path.name} cannot be unpacked: {reason}."


if __name__ == "__main__":
    main(*sys.argv[1:])
