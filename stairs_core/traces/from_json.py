"""Dataclasses from JSON that anybody may have written. Types are checked; nothing is coerced."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Any, Literal, TypeVar

from .records import JSON_KEYS

T = TypeVar("T")
LARGEST = 2**53
"""The largest whole number that a browser holds exactly."""
_HIGHEST = 1e100
"""Of what a trace holds, sums, products and four digits of it can be worked out."""
_DEEPEST = 50
"""Lists and objects within each other, where a value may be anything."""


def build(cls: type[T], raw: dict[str, Any]) -> T:
    """A dataclass from a dict, or a TypeError that names the key which is wrong or missing.

    Unknown keys are ignored, so that this version can read traces that a later one wrote.
    """
    values = {}
    for name, key, hint, needed in _fields(cls):
        if key in raw:
            try:
                values[name] = convert(raw[key], hint)
            except TypeError as e:
                raise TypeError(f"`{key}`") from e
        elif needed:
            raise TypeError(f"`{key}`")
    return cls(**values)


@functools.cache
def _fields(cls: type) -> tuple[tuple[str, str, Any, bool], ...]:
    """Of each field of a dataclass: its name, its key in JSON, its type, whether it has no default.

    Kept, because there is a token on every few bytes of a trace.
    """
    hints = typing.get_type_hints(cls)
    return tuple(
        (
            field.name,
            JSON_KEYS.get(field.name, field.name),
            hints[field.name],
            field.default is field.default_factory is dataclasses.MISSING,
        )
        for field in dataclasses.fields(cls)
    )


def convert(value: Any, hint: Any) -> Any:
    """``value`` as the annotated type ``hint``, or a TypeError."""
    if hint is Any:
        return _plain(value)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else convert(value, args[0])
    if origin is Literal and isinstance(value, str) and value in args:
        return value
    if origin is tuple and isinstance(value, list):
        return tuple(convert(v, args[0]) for v in value)
    if origin is dict and isinstance(value, dict):
        return {convert(k, args[0]): convert(v, args[1]) for k, v in value.items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return build(hint, value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if abs(value) <= _HIGHEST:  # nor is a NaN
            return float(value)
    elif hint is int and type(value) is int:
        if abs(value) <= LARGEST:
            return value
    elif hint in (str, bool) and type(value) is hint:
        return value
    raise TypeError(f"`{value!r:.40}`")


def _plain(value: Any, depth: int = 1) -> Any:
    """Any JSON value that is no deeper than ``_DEEPEST``, its numbers checked as in ``convert``."""
    if depth > _DEEPEST:
        raise TypeError("too deep")
    if isinstance(value, list):
        return [_plain(v, depth + 1) for v in value]
    if isinstance(value, dict):
        return {convert(k, str): _plain(v, depth + 1) for k, v in value.items()}
    return value if value is None else convert(value, type(value))
