"""Checks the files of a model, in a folder or on the hub, before its weights are loaded.

Standard library only.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Collection, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import InputError

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


def check_folder(name: str) -> bool:
    """Whether ``name`` is a folder. Raises InputError if it is and its safetensors are not
    complete."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if name.startswith((".", "/", "~")) or name.count("/") > 1 or {*name} & {"\\", ":"}:
            raise InputError(f"There is no folder {name}: check its path.")
        return False
    for shard in shards(folder):
        _check_shard(shard)
    return True


def shards(folder: Path) -> list[Path]:
    """The weight files of the model in a folder. Raises InputError where there are none."""
    names = chosen(str(folder), [p.name for p in folder.iterdir()], lambda name: folder / name)
    return [folder / name for name in names]


def has_weights(folder: Path) -> bool:
    """Whether a folder has weights that transformers reads as they are."""
    named = read_json(folder / "config.json").get("transformers_weights")
    return any((folder / name).is_file() for name in (_WHOLE, _INDEX, str(named)))


def chosen(model: str, names: Collection[str], find: Callable[[str], Path]) -> list[str]:
    """The names of the weight files that transformers reads; a model may have others too, such as
    the same weights in other formats.

    ``model``: its name. ``names``: of all its files. ``find``: the path of one of them. Raises
    InputError for a model without safetensors, with the reason.
    """
    if "adapter_config.json" in names:
        raise InputError(
            f"{model} holds an adapter (adapter_config.json), which changes another model: merge "
            "it into its base model (merge_and_unload in peft), and use what that saves."
        )
    ggufs = sorted(name for name in names if name.lower().endswith(".gguf"))
    if ggufs and not {*names} & {_WHOLE, _INDEX}:
        raise InputError(
            f"{model} has no weights but GGUF files: name one of them, as {model}/{ggufs[0]}."
        )
    if "config.json" not in names:
        raise InputError(f"{model} has no config.json: choose a model saved by transformers.")
    named = read_json(find("config.json")).get("transformers_weights")
    first = [str(named)] if named else [_WHOLE, _INDEX]
    found = next((name for name in first if name in names), None)
    if found is None:
        raise InputError(_without(model, names, first[0]))
    listed = _listed(find(found)) if found.endswith(".index.json") else [found]
    for name in listed:
        if not name.endswith(".safetensors") or "/" in name or "\\" in name:
            raise InputError(
                f"{model} names {name:.80} as its weights, and Stairs reads safetensors beside the "
                "config alone: save the model again as safetensors."
            )
    return listed


def check_loaded(name: str, model: Any, loaded: Mapping[str, Any]) -> None:
    """Raises InputError for a model that lacks weights, in whose place transformers puts random
    numbers. ``loaded``: what ``from_pretrained`` tells with ``output_loading_info``."""
    weights = {key for key, _ in model.named_parameters()}
    # Pegasus and others keep sines as weights, which their files may lack: they are computed.
    modules = model.named_modules()
    sines = {f"{key}.weight" for key, m in modules if "Sinusoidal" in type(m).__name__}
    lacking = sorted({*loaded["missing_keys"]} & weights - sines)
    if lacking:
        others = f" and {len(lacking) - 1:,} more" if len(lacking) > 1 else ""
        raise InputError(
            f"{name} lacks weights of its model ({lacking[0]}{others}): copy or fetch it again, or "
            "choose another."
        )


def names_code(folder: Path) -> bool:
    """Whether a model's config names Python code of its own; it may still load without it."""
    files = ("config.json", "tokenizer_config.json")
    return any("auto_map" in read_json(folder / name) for name in files)


def unread(folder: Path) -> str | None:
    """Which library a tokenizer that did not load lacks, as a clause: its file and what to install.

    transformers reads a SentencePiece file (a protobuf) or a tiktoken file (lines of text) only
    with the library of that format.
    """
    if (folder / "tokenizer.json").is_file():
        return None
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".model", ".spm")):
        pieces = not path.read_bytes()[:1].isalnum()
        needed = ("sentencepiece", "google.protobuf") if pieces else ("tiktoken",)
        if lacking := [name for name in needed if not _installed(name)]:
            names = " ".join(lacking).replace("google.", "")
            kind = "SentencePiece" if pieces else "tiktoken"
            return f"{path.name} is a {kind} file: pip install {names}, or add its tokenizer.json"
    return None


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is not installed either
        return False


def _without(model: str, names: Collection[str], wanted: str) -> str:
    """One sentence on why none of the files can be loaded."""
    others = sorted(name for name in names if name.endswith(".safetensors") and "/" not in name)
    if others:
        return (
            f"{model} has no {wanted}, and transformers does not read {others[0]}: choose a model "
            "saved by transformers."
        )
    if pickled := sorted(name for name in names if name.endswith(PICKLED) and "/" not in name):
        return (
            f"{model} has no {wanted}, and pickled weights can run code when loaded "
            f"({pickled[0]}): choose a model that was saved as safetensors, or save it again."
        )
    return f"{model} has no weights: it needs {wanted}."


def read_json(path: Path) -> dict:
    """A JSON file's object; {} for anything else, which transformers will report when it loads."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _listed(index: Path) -> list[str]:
    try:
        return sorted(set(map(str, read_json(index)["weight_map"].values())))
    except (KeyError, AttributeError) as e:
        raise InputError(f"{index} is damaged: save the model again.") from e


def _check_shard(path: Path) -> None:
    """Raises InputError unless the file ends where its header says that the last tensor ends."""
    if not path.is_file():
        raise InputError(
            f"{path.parent} lacks its shard {path.name}: copy the folder again, whole."
        )
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, size)))
        end = max(
            (t["data_offsets"][1] for k, t in header.items() if k != "__metadata__"), default=0
        )
    except OSError as e:
        raise InputError(f"{path} cannot be read ({e.strerror}): check the file.") from e
    except (struct.error, ValueError, LookupError, TypeError, AttributeError) as e:
        raise InputError(f"{path} is no whole safetensors file: copy it again.") from e
    if size != 8 + length + end:
        raise InputError(
            f"{path} is cut off or damaged ({size:,} bytes where {8 + length + end:,} belong): "
            "copy it again."
        )
