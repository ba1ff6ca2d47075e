"""Pairs that the page offers by name, and what a visitor may ask for. Loads nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from .errors import InputError
from .specs import is_folder, split

ZERO_GPU = find_spec("spaces") is not None
KINDS = ("bundled", "presets", "any")
_LONGEST = 300


@dataclass(frozen=True)
class Preset:
    """``name``: may be typed in place of ``spec``, which is as ``models.load_pair`` takes it."""

    name: str
    label: str
    spec: str


PRESETS = (
    Preset("bundled", "Bundled: 12 M after 2 M", "bundled"),
    Preset(
        "smollm2",
        "SmolLM2: 1.7 B after 135 M",
        "HuggingFaceTB/SmolLM2-1.7B-Instruct:HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
    Preset("qwen3", "Qwen3: 8 B after 0.6 B", "Qwen/Qwen3-8B:Qwen/Qwen3-0.6B"),
    Preset(
        "llama3",
        "Llama 3: 8 B after 1 B (gated)",
        "meta-llama/Llama-3.1-8B-Instruct:meta-llama/Llama-3.2-1B-Instruct",
    ),
    Preset(
        "t5-large",
        "T5: large after small",
        "google-t5/t5-large:google-t5/t5-small",
    ),
    Preset("t5-3b", "T5: 3 B after small", "google-t5/t5-3b:google-t5/t5-small"),
)
_BY_NAME = {preset.name: preset.spec for preset in PRESETS}


def first() -> str:
    """The spec of the pair that the page starts with, which the host has chosen."""
    named = os.environ.get("STAIRS_PAIR") or "bundled"
    return _BY_NAME.get(named, named)


def allowed() -> str:
    """What may be loaded beside the first pair: ``bundled`` (nothing), ``presets``, or ``any``.

    On ZeroGPU nothing: models must be on the device before a race, which is a process of its own
    there, and what that process loads is lost with it. On another Space, visitors are strangers:
    presets, and no folders of the host. Raises InputError for a STAIRS_MODELS that is none of them.
    """
    if ZERO_GPU:
        return "bundled"
    kind = os.environ.get("STAIRS_MODELS") or ("presets" if "SPACE_ID" in os.environ else "any")
    if kind not in KINDS:
        raise InputError(f"STAIRS_MODELS is {kind!r:.40}: use bundled, presets or any.")
    return kind


def choices(used: str = "") -> list[tuple[str, str]]:
    """What is offered by name: labels and specs, the first pair (spec "") above the others.

    ``used``: the spec of the pair in use, which is among them, whoever named it.
    """
    others = PRESETS if allowed() != "bundled" else ()
    found = {"": label(""), **{p.spec: p.label for p in others if p.spec != first()}}
    return [(shown, spec) for spec, shown in (found | {used: label(used)}).items()]


def label(asked: str) -> str:
    """What a pair is called on the page: of folders the last name, of ids that of the model."""
    spec = _BY_NAME.get(asked.strip(), asked.strip()) or first()
    found = next((preset.label for preset in PRESETS if preset.spec == spec), None)
    if found or spec == first():
        return found or "This page's own pair"
    return " after ".join(Path(name).name for name in split(spec) or (spec,))


def resolve(asked: str) -> str:
    """The spec of a pair that somebody asks for, by a preset's name, as ids or as a folder.

    Raises InputError, in one sentence, for what the host does not allow, and for what is neither.
    """
    spec = _BY_NAME.get(asked.strip(), asked.strip())
    if spec in ("", first()):
        return first()
    kind = allowed()
    if kind == "bundled":
        why = ", since ZeroGPU takes its models before the page starts" if ZERO_GPU else ""
        raise InputError(f"This page keeps to one pair{why}: run Stairs yourself to use others.")
    if spec in _BY_NAME.values():
        return spec
    if kind == "presets":
        raise InputError(
            "This page loads no other pairs than those in its list: run Stairs yourself to use "
            "your own ids or folders."
        )
    if is_folder(spec) or _are_ids(spec):
        return spec
    raise InputError(
        f"There is no pair {spec!r:.80}: name a folder (with one model, or with target/ and "
        "draft/), a target's id alone, as owner/name, or two folders or hub ids, the target first, "
        "with a colon between."
    )


def _are_ids(spec: str) -> bool:
    """A target and its draft, each an id of the hub or a folder, or an id with its owner alone."""
    if len(spec) > _LONGEST:
        return False
    names = split(spec) or ((spec,) if spec.count("/") == 1 and ":" not in spec else ())
    return bool(names) and all(map(_can_be_loaded, names))


def _can_be_loaded(name: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    if is_folder(name):
        return True
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True
