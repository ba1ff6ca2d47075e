"""Values as they can be sent: half a character, which UTF-8 cannot hold, becomes its escape.

A visitor, a model or a trace may bring one, and gradio's answer would break off there.
"""

from __future__ import annotations

from typing import Any


def sendable(value: Any) -> Any:
    """``value``, with every text in it, however deep, as UTF-8 can hold it."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {sendable(key): sendable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(sendable, value))
    return value
