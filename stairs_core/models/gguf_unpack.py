"""GGUF files, unpacked once to float32 safetensors that are kept in the user's cache.

``python -m stairs_core.models.gguf_unpack FILE FOLDER NOTE`` unpacks, in a process that can be
killed: transformers dequantises, by the package ``gguf``. A folder is built aside and then renamed,
so one that is there is whole. It is named by the SHA-256 of the file, so a file that changes is
unpacked anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..quiet import hush, quiet
from . import cache, folder_check, gguf_config, gguf_facts, gguf_header, gguf_tokens, worker
from .worker import Say, tell

WEIGHTS = "stairs_weights"
"""In the config of an unpacked model: which weights these are, for people."""
_VERSION, _NOW = "stairs_unpacked", 3
"""In the config: what was read of a file. Since 2: scaled angles and all ends of texts. Since 3:
all widths, limits and biases, and all marks that are tokens."""
_CHUNK = 1 << 22
_MORE = 1.02  # of the tensors' bytes: tokenizer and configs
_SWITCHED = ("attn_q", "attn_output")
_COMPUTED = re.compile(r"^rope_(freqs|factors_\w+)\.|attn_rot_embd|cross_attn_rel_b")
"""Tensors that a model is whole without: angles, which are read or computed, and what T5 was saved
with and does not use."""
_UNKNOWN = "architecture|gguf model_type|model type"  # in errors of transformers


def folder(digest: str) -> Path:
    """Where the model unpacked from the file of that SHA-256 is, or will be."""
    return cache.folder() / "gguf" / digest


def is_whole(place: Path) -> bool:
    """Whether an unpacked model is there with all that it had: caches are cleared by anyone."""
    try:
        return folder_check.check_folder(str(place)) and (place / "tokenizer.json").is_file()
    except InputError:
        return False


def _is_current(place: Path) -> bool:
    """Whether a model is whole, and was unpacked as it is now. Those that are known by name need
    not be: nothing more is read of their files."""
    made = folder_check.read_json(place / "config.json").get(_VERSION)
    return made == _NOW and is_whole(place)


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
    if _is_current(place):
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
        if not _is_current(place):
            shutil.rmtree(place, ignore_errors=True)
            made.rename(place)
    return place


def digest(path: Path, say: Say) -> str:
    """The SHA-256 of a file; remembered by its path, size and times."""
    state = path.stat()
    facts = [str(path.resolve()), state.st_size, state.st_mtime_ns, state.st_ctime_ns]
    key = hashlib.sha256(json.dumps(facts).encode("utf-8", "replace")).hexdigest()
    note = cache.folder() / "gguf" / "known" / key
    try:
        if re.fullmatch("[0-9a-f]{64}", known := note.read_text(encoding="ascii")):
            return known
    except (OSError, ValueError):
        pass
    found = hash_of(path, say)
    with suppress(OSError):  # a cache that can be read alone: then it is worked out again
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
        os.symlink(path.resolve(), link)
    except OSError:  # Windows lets not everybody; a second name would change the file's times
        os.link(path.resolve(), link)
    name = link.name
    header, place = gguf_header.read(path), aside / "model"
    gguf_tokens.check(header, path)
    config = AutoConfig.from_pretrained(
        only, gguf_file=name, local_files_only=True, trust_remote_code=False
    )
    gguf_config.complete(config, header, path)
    gguf_facts.scale_angles(config, header, path)
    gguf_facts.scale_queries(config, header)
    made = AutoTokenizer.from_pretrained(
        only,
        gguf_file=name,
        local_files_only=True,
        trust_remote_code=False,
        **gguf_tokens.wishes(header),
    )
    made.save_pretrained(place)

    def load() -> Any:
        return AutoTokenizer.from_pretrained(
            place, config=config, local_files_only=True, trust_remote_code=False
        )

    tokenizer = gguf_tokens.mend(place, header, path, load)
    family: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    _check_tensors(family, config, header, path)
    model, loaded = family.from_pretrained(
        only,
        config=config,
        dtype=torch.float32,
        output_loading_info=True,
        gguf_file=name,
        local_files_only=True,
        trust_remote_code=False,
    )
    _check_placed(path, config, header, loaded["unexpected_keys"])
    if zero := _zero(header):
        loaded["missing_keys"] = _zeroed(model, loaded["missing_keys"], zero)
    folder_check.check_loaded(path.name, model, loaded)
    _place_late(model, header, path)
    # Plain numbers from here on, which transformers would still refuse to save as quantised ones.
    model.hf_quantizer = None
    model.config.__dict__.pop("quantization_config", None)
    model.config.__dict__ |= {WEIGHTS: note, _VERSION: _NOW}
    if ids := gguf_facts.ends(header, tokenizer, model.generation_config.eos_token_id):
        model.generation_config.eos_token_id = ids if len(ids) > 1 else ids[0]
    model.save_pretrained(place, max_shard_size="4GB")


def _check_tensors(family: Any, config: Any, header: gguf_header.Header, path: Path) -> None:
    """Raises InputError for a file with fewer numbers than the model that it describes has, before
    memory is taken for that: transformers would fill in random ones. And for one with tensors that
    the model has no place for: transformers would leave them out."""
    import torch

    layers = config.get_text_config(decoder=True).num_hidden_layers
    if layers <= len(header.shapes):  # each has some
        with torch.device("meta"):
            model = family.from_config(config)
        zero = _zero(header)
        counts = [
            p.numel() for n, p in model.named_parameters() if not zero or not n.endswith(zero)
        ]
        if sum(counts) <= header.numbers:
            return _check_placed(path, config, header, _without_place(model, header))
    raise InputError(
        f"{path.name} lacks tensors of the model that it describes, which has {layers:,} layers: "
        "copy or fetch it again, or choose another file."
    )


def _zero(header: gguf_header.Header) -> str | None:
    """The end of the names of biases that the file leaves out where the config has one switch for
    them and others: they are zero."""
    queries, outputs = (any(n.endswith(f"{w}.bias") for n in header.shapes) for w in _SWITCHED)
    return "self_attn.o_proj.bias" if queries and not outputs else None


def _places(model: Any, header: gguf_header.Header) -> dict[str, str] | None:
    """The names in the model of the tensors that transformers reads of the file; None where it
    tells after loading of those that it does not read."""
    from transformers import modeling_gguf_pytorch_utils as library

    try:
        from transformers.integrations.gguf.utils import is_gguf_arch_supported

        if is_gguf_arch_supported(header.architecture):
            return None
    except ImportError:  # older ones tell of none
        pass
    kind = library.TENSOR_PROCESSORS.get(header.architecture, library.TensorProcessor)
    return library.get_gguf_hf_weights_map(model, kind(config=model.config.to_dict()))


def _without_place(model: Any, header: gguf_header.Header) -> list[str]:
    """The tensors of the file that transformers would leave out without a word."""
    known = _places(model, header)
    if known is None:
        return []
    late = _late(known, header)
    left = [name for name in header.shapes if name not in known and name not in late]
    return [n for n in left if "_exps." not in n or n.rpartition(".")[0] not in known]


def _late(known: Mapping[str, str], header: gguf_header.Header) -> dict[str, str]:
    """Tensors that transformers has a place for, by another name than the file's, which ends as if
    it were a matrix (Gemma 4's scalars): their names in the model."""
    ends = {name: name.removesuffix(".weight") for name in header.plain if "_exps." not in name}
    return {n: known[end] for n, end in ends.items() if n not in known and end in known}


def _place_late(model: Any, header: gguf_header.Header, path: Path) -> None:
    import torch

    weights = model.state_dict()
    for name, place in _late(_places(model, header) or {}, header).items():
        values = torch.tensor(header.floats(path, name))
        weights[place].copy_(values.reshape(weights[place].shape))


def _zeroed(model: Any, missing: Iterable[str], end: str) -> set[str]:
    """Sets the missing weights of that name to zero. Returns the other missing ones."""
    missing = {*missing}
    found = {name for name in missing if name.endswith(end)}
    for name in found:
        model.get_parameter(name).data.zero_()
    return missing - found


def _check_placed(path: Path, config: Any, header: gguf_header.Header, left: Iterable[str]) -> None:
    lost = [name for name in left if not _COMPUTED.search(name)]
    if getattr(config, "tie_word_embeddings", False):
        lost = [name for name in lost if name != "output.weight"]
    if header.fact("nextn_predict_layers"):  # layers after the last, which guess tokens ahead
        last = config.get_text_config(decoder=True).num_hidden_layers
        layers = [re.search(r"(?:blk|layers)\.(\d+)\.", name) for name in lost]
        lost = [n for n, i in zip(lost, layers, strict=True) if not i or int(i[1]) < last]
    if lost:
        others = f" and {len(lost) - 1:,} more" if len(lost) > 1 else ""
        raise InputError(
            f"{path.name} has tensors that transformers has no place for in a {config.model_type} "
            f"model ({lost[0]}{others}): use the model's safetensors."
        )


def _why(error: Exception, path: Path, architecture: str) -> str:
    """An error of the libraries as one sentence."""
    if isinstance(error, InputError):
        return str(error)
    if cache.full(error):
        return f"The disk of {cache.folder()} is full: make room, or set STAIRS_CACHE to another."
    if isinstance(error, MemoryError):
        return f"{path.name} does not fit into memory when unpacked: use a smaller model."
    if isinstance(error, KeyError):
        return (
            f"{path.name} lacks {error.args[0]} in its header, which transformers needs: choose "
            "another file of the model."
        )
    message = " ".join(str(error).split())
    if "ignore_mismatched_sizes" in message:
        return (
            f"{path.name} has tensors of other sizes than its header says: choose another file of "
            "the model."
        )
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
