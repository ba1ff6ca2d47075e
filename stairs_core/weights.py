"""What a model folder must hold before a byte of it is loaded. Standard library only."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from .errors import InputError

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def check_folder(name: str) -> bool:
    """Whether ``name`` is a folder; if so, its weights are whole safetensors, else InputError."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        if name.startswith((".", "/", "~")) or name.count("/") > 1 or {*name} & {"\\", ":"}:
            raise InputError(f"There is no folder {name}: check its path.")
        return False
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} has no config.json: choose the folder of a saved model.")
    shards = _listed(folder) or sorted(folder.glob("*.safetensors"))
    if not shards:
        pickled = [p.name for p in sorted(folder.iterdir()) if p.suffix in PICKLED]
        if pickled:
            raise InputError(
                f"{folder} has pickled weights ({pickled[0]}), which can run code when loaded: "
                "save the model again as safetensors."
            )
        raise InputError(f"{folder} has no weights: it needs model.safetensors.")
    for shard in shards:
        _check_shard(shard)
    return True


def _listed(folder: Path) -> list[Path]:
    """The shards that the index names, if there is one."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return []
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return sorted(folder / Path(name).name for name in names)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise InputError(f"{index} is damaged: save the model again.") from e


def _check_shard(path: Path) -> None:
    """The header says where the last tensor ends; a shorter file was cut off."""
    if not path.is_file():
        raise InputError(
            f"{path.parent} lacks its shard {path.name}: copy the folder again, whole."
        )
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, size)))
        end = max(
            (t["data_offsets"][1] for k, t in header.items() if k != "__metadata__"), default=0
        )
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as e:
        raise InputError(f"{path} is no whole safetensors file: copy it again.") from e
    if size != 8 + length + end:
        raise InputError(
            f"{path} is cut off or damaged ({size:,} bytes where {8 + length + end:,} belong): "
            "copy it again."
        )
