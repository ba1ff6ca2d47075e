"""Reads what a GGUF file says of itself, and checks that it is whole, before its weights are read.

The format: github.com/ggml-org/ggml, docs/gguf.md. A header is a magic number, key-value pairs and
a table of tensors; the tensors' blocks follow it. Needs the package ``gguf`` for the sizes of
blocks alone.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NoReturn

from ..errors import InputError

_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_BIG_ENDIAN = (2 << 24, 3 << 24)
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"}
_FORMATS |= {12: "d"}
_STRING, _ARRAY = 8, 9
_PARTS = {
    "mmproj": "what reads images or sound for another model",
    "imatrix": "what quantisation is guided by",
}
"""Values of ``general.type``, but for ``model`` and adapters: what such files hold."""
_FLOAT = 4  # bytes of a number when a tensor is unpacked
_TOO_DEEP = (MemoryError, RecursionError)  # lengths that cannot be, arrays in arrays in arrays


@dataclass(frozen=True, slots=True)
class Header:
    """``architecture``: as the file calls it. ``kinds``: names of the types of its tensors, the one
    with most numbers first. ``numbers``: how many all tensors have. ``facts``: its key-value pairs,
    but for arrays. ``arrays``: where in the file these begin, by name. ``plain``: for tensors of
    plain float32 numbers, by name, where in the file they begin, and how many they are. ``shapes``:
    of all tensors by name, the width of a row first."""

    architecture: str
    kinds: tuple[str, ...]
    numbers: int
    facts: Mapping[str, Any]
    arrays: Mapping[str, int]
    plain: Mapping[str, tuple[int, int]]
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def unpacked(self) -> int:
        """Bytes of all tensors in float32."""
        return self.numbers * _FLOAT

    def floats(self, path: Path, name: str) -> list[float]:
        """The numbers of a tensor of plain float32; none where the file has no such tensor."""
        start, count = self.plain.get(name, (0, 0))
        with path.open("rb") as file:
            file.seek(start)
            return [*struct.unpack(f"<{count}f", file.read(count * _FLOAT))]

    def fact(self, name: str) -> Any:
        """The value of a pair of its architecture; None where there is none."""
        return self.facts.get(f"{self.architecture}.{name}")

    def array(self, path: Path, name: str) -> list[Any]:
        """The values of an array in its key-value pairs; none where the file has no such array."""
        if name not in self.arrays:
            return []
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            walk = _Walk(data, self.arrays[name])
            kind, count = walk.number("I"), walk.number("Q")
            return [walk.value(kind) for _ in range(count)]


def read(path: Path) -> Header:
    """The header of a whole GGUF file of one part. Raises InputError, in one sentence, for a file
    that is none, that is cut off, or that cannot be unpacked."""
    try:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    except ImportError as e:
        raise InputError(
            f"{path.name} is a GGUF file, which takes the package gguf: pip install gguf."
        ) from e
    try:
        with path.open("rb") as file:
            if file.read(4) != _MAGIC:
                raise InputError(f"{path} is no GGUF file: choose one, or a folder of a model.")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                facts, arrays, tensors, start = _parsed(path, data)
    except OSError as e:
        raise InputError(f"{path} cannot be read ({e.strerror}): check the file.") from e
    sizes: dict[str, int] = {}
    plain: dict[str, tuple[int, int]] = {}
    end = start
    for name, shape, kind, offset in tensors:
        try:
            known = GGMLQuantizationType(kind)
            block, width = GGML_QUANT_SIZES[known]
        except (KeyError, ValueError) as e:
            raise InputError(
                f"{path.name} has {name} in a type ({kind}) that the package gguf does not "
                "know: install a newer one, or choose another file of the model."
            ) from e
        end = max(end, start + offset + prod(shape) // block * width)
        sizes[known.name] = sizes.get(known.name, 0) + prod(shape)
        if known.name == "F32":
            plain[name] = start + offset, prod(shape)
    if (size := path.stat().st_size) < end:
        _cut(path, f"{size:,} bytes where {end:,} belong")
    parts = facts.get("split.count")
    if isinstance(parts, int) and parts > 1:
        raise InputError(
            f"{path.name} is one of {parts} parts of a model: join them (with llama-gguf-split) "
            "and name the whole file."
        )
    _check_use(path, facts, bool(sizes))
    kinds = tuple(sorted(sizes, key=lambda kind: -sizes[kind]))
    architecture = str(facts.get("general.architecture", ""))
    shapes = {name: shape for name, shape, *_ in tensors}
    return Header(architecture, kinds, sum(sizes.values()), facts, arrays, plain, shapes)


def _check_use(path: Path, facts: Mapping[str, Any], has_tensors: bool) -> None:
    """Raises InputError for a file of something else than a language model."""
    kind = facts.get("general.type")
    if kind == "adapter":
        raise InputError(
            f"{path.name} holds an adapter, which changes another model: merge it into its base "
            "model (with llama-export-lora), and use what that writes."
        )
    if kind in _PARTS:
        raise InputError(
            f"{path.name} holds {_PARTS[kind]} and no language model: choose the file of its model."
        )
    if not has_tensors:
        raise InputError(
            f"{path.name} has no weights, at most a vocabulary: choose a file of the whole model."
        )


def _parsed(
    path: Path, data: mmap.mmap
) -> tuple[dict[str, Any], dict[str, int], list[tuple[str, tuple[int, ...], int, int]], int]:
    """Key-value pairs (without arrays), where arrays begin, tensors (name, shape, type, offset),
    and where the first tensor begins."""
    try:
        version, count, pairs = struct.unpack_from("<IQQ", data, 4)
        if version in _BIG_ENDIAN:
            raise InputError(
                f"{path.name} is a GGUF file for big-endian machines: use a little-endian one."
            )
        if version not in _VERSIONS:
            raise InputError(
                f"{path.name} is a GGUF file of version {version}: use one of version "
                f"{' or '.join(map(str, _VERSIONS))}."
            )
        walk = _Walk(data, 24)
        facts, arrays = {}, {}
        for _ in range(pairs):
            name, kind = walk.string(), walk.number("I")
            if kind == _ARRAY:
                arrays[name] = walk.at
            facts[name] = walk.value(kind)
        tensors = [walk.tensor() for _ in range(count)]
    except InputError:
        raise
    except (struct.error, ValueError, LookupError, ArithmeticError, *_TOO_DEEP) as e:
        _cut(path, "its header does not end in it", e)
    alignment = facts.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        _cut(path, "general.alignment is no size")
    return facts, arrays, tensors, -(-walk.at // alignment) * alignment


class _Walk:
    """Reads values one after the other. Raises struct.error at the end of the data."""

    def __init__(self, data: mmap.mmap, at: int) -> None:
        self._data, self.at = data, at

    def number(self, form: str) -> Any:
        (value,) = struct.unpack_from(f"<{form}", self._data, self.at)
        self.at += struct.calcsize(form)
        return value

    def string(self) -> str:
        return self._bytes(self.number("Q")).decode("utf-8")

    def value(self, kind: int) -> Any:
        """A value; None for an array, over which it goes."""
        if kind == _STRING:
            return self._bytes(self.number("Q")).decode("utf-8", "replace")
        if kind != _ARRAY:
            return self.number(_FORMATS[kind])
        inner, count = self.number("I"), self.number("Q")
        if inner in (_STRING, _ARRAY):
            for _ in range(count):
                self.value(inner)
        else:
            self._bytes(count * struct.calcsize(_FORMATS[inner]))
        return None

    def tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self.string()
        shape = tuple(self.number("Q") for _ in range(self.number("I")))
        return name, shape, self.number("I"), self.number("Q")

    def _bytes(self, count: int) -> bytes:
        if self.at + count > len(self._data):
            raise struct.error("the data ends")
        self.at += count
        return self._data[self.at - count : self.at]


def files_in(folder: Path) -> list[Path]:
    """The GGUF files in a folder, by name."""
    return sorted(_gguf(folder))


def _gguf(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.suffix.lower() == ".gguf" and path.is_file():
            yield path


def _cut(path: Path, why: str, cause: Exception | None = None) -> NoReturn:
    raise InputError(f"{path} is cut off or damaged ({why}): copy or fetch it again.") from cause
