"""Where the page listens, by the environment, and whether others than its owner can reach it."""

from __future__ import annotations

from collections.abc import Mapping

_OWN = ("localhost", "::1")


def host(environment: Mapping[str, str]) -> str:
    """The name or number that the server listens on: on a Space all, elsewhere this machine."""
    usual = "0.0.0.0" if "SPACE_ID" in environment else "127.0.0.1"  # noqa: S104 (a Space asks it)
    return environment.get("GRADIO_SERVER_NAME") or environment.get("HOST") or usual


def port(environment: Mapping[str, str]) -> int:
    return int(environment.get("GRADIO_SERVER_PORT") or environment.get("PORT") or 7860)


def is_public(environment: Mapping[str, str]) -> bool:
    """Whether strangers may come: on a Space, through a share link, or from another machine."""
    shared = environment.get("GRADIO_SHARE", "").lower() == "true"
    return "SPACE_ID" in environment or shared or not _only_here(host(environment))


def _only_here(name: str) -> bool:
    return name in _OWN or name.startswith("127.")
