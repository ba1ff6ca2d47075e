"""Where the page listens, by the environment, and whether others than its owner can reach it."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping

from ..errors import InputError

_OWN = ("localhost", "::1")


def host(environment: Mapping[str, str]) -> str:
    """The name or number that the server listens on: on a Space all, elsewhere this machine."""
    usual = "0.0.0.0" if "SPACE_ID" in environment else "127.0.0.1"  # noqa: S104 (a Space asks it)
    return environment.get("GRADIO_SERVER_NAME") or environment.get("HOST") or usual


def port(environment: Mapping[str, str]) -> int:
    """The port that the server listens on. Raises InputError for what is no port."""
    gradios, told = environment.get("GRADIO_SERVER_PORT"), environment.get("PORT")
    name, told = ("GRADIO_SERVER_PORT", gradios) if gradios else ("PORT", told or "7860")
    if not re.fullmatch(r"\s*\d{1,5}\s*", told) or not 0 < int(told) < 2**16:
        raise InputError(f"{name} is {told!r:.40}: it must be a number from 1 to 65535.")
    return int(told)


def listen(host: str, port: int) -> None:
    """Listens there for a moment. Raises OSError, with a reason, where the page could not."""
    places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, place = places[0]
    with socket.socket(family, kind, protocol) as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(place)


def is_public(environment: Mapping[str, str]) -> bool:
    """Whether strangers may come: on a Space, through a share link, or from another machine."""
    shared = environment.get("GRADIO_SHARE", "").lower() == "true"
    return "SPACE_ID" in environment or shared or not _only_here(host(environment))


def _only_here(name: str) -> bool:
    return name in _OWN or name.startswith("127.")
