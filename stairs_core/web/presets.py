"""The pairs that the page offers by name, and which others a visitor may ask for. Loads nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..settings import address
from ..settings.known import KNOWN, Known
from ..settings.pair_spec import hub_file, is_here, pinned, split
from . import zero_gpu

KINDS = ("bundled", "presets", "hub", "any")
_LONGEST = 300


@dataclass(frozen=True)
class Preset:
    """A pair by name. ``name`` may be typed in place of ``spec``, which ``load_pair`` takes."""

    name: str
    label: str
    spec: str


_COMMITS = {
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": "31b70e2e869a7173562077fd711b654946d38674",
    "HuggingFaceTB/SmolLM2-135M-Instruct": "12fd25f77366fa6b3b4b768ec3050bf629380bac",
    "Qwen/Qwen3-8B": "b968826d9c46dd6066d109eabc6255188de91218",
    "Qwen/Qwen3-0.6B": "c1899de289a04d12100db370d81485cdf75e47ca",
    "meta-llama/Llama-3.1-8B-Instruct": "0e9e39f249a16976918f6564b8830bc894c89659",
    "meta-llama/Llama-3.2-1B-Instruct": "9213176726f574b556790deb65791e0c5aa438b6",
    "google-t5/t5-3b": "bed96aab9ee46012a5046386105ee5fd0ac572f0",
    "google-t5/t5-large": "150ebc2c4b72291e770f58e6057481c8d2ed331a",
    "google-t5/t5-small": "df1b051c49625cf57a3d0d8d3863ed4d13564fe4",
}
"""What the presets are pinned to: what somebody puts on the hub later is not loaded."""


def _pair(*names: str) -> str:
    return ":".join(f"{name}@{_COMMITS[name]}" for name in names)


PRESETS = (
    Preset("bundled", "Bundled: 12 M after 2 M", "bundled"),
    *(Preset(known.name, known.label, known.name) for known in KNOWN.values()),
    Preset(
        "smollm2",
        "SmolLM2: 1.7 B after 135 M",
        _pair("HuggingFaceTB/SmolLM2-1.7B-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"),
    ),
    Preset("qwen3", "Qwen3: 8 B after 0.6 B", _pair("Qwen/Qwen3-8B", "Qwen/Qwen3-0.6B")),
    Preset(
        "llama3",
        "Llama 3: 8 B after 1 B (gated)",
        _pair("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.2-1B-Instruct"),
    ),
    Preset("t5-large", "T5: large after small", _pair("google-t5/t5-large", "google-t5/t5-small")),
    Preset("t5-3b", "T5: 3 B after small", _pair("google-t5/t5-3b", "google-t5/t5-small")),
)
_BY_NAME = {preset.name: preset.spec for preset in PRESETS}
_BY_NAME |= {":".join(pinned(n)[0] for n in spec.split(":")): spec for spec in _BY_NAME.values()}
"""Specs by what may be typed for them: a preset's name, or its ids without the commits."""


def first() -> str:
    """The spec of the pair that the page starts with, which its host has chosen."""
    named = os.environ.get("STAIRS_PAIR") or "bundled"
    return _BY_NAME.get(named, named)


def allowed() -> str:
    """What may be loaded beside the first pair: ``bundled`` (nothing), ``presets``, ``hub`` (ids
    too), or ``any`` (this machine's folders and files too).

    On ZeroGPU nothing: there a race is a process of its own, so models must be on the device before
    it, and what it loads is lost at its end. Where visitors may be strangers, the presets, unless
    the host says otherwise. Raises InputError for any other STAIRS_MODELS.
    """
    if zero_gpu.ON:
        return "bundled"
    kind = os.environ.get("STAIRS_MODELS") or (
        "presets" if address.is_public(os.environ) else "any"
    )
    if kind not in KINDS:
        raise InputError(f"STAIRS_MODELS is {kind!r:.40}: use bundled, presets, hub or any.")
    return kind


def offer(spec: str = "") -> Known | None:
    """The chat model that the page offers in one click while the pair of a spec is in use; None
    where it may not be loaded, or such a model is in use."""
    used = resolve(spec)
    return None if allowed() == "bundled" or used in KNOWN else next(iter(KNOWN.values()))


def choices(used: str = "") -> list[tuple[str, str]]:
    """What the menu offers: labels and specs, the first pair (spec "") above the others.

    ``used``: the spec of the pair in use, which is added if it is not among them.
    """
    others = PRESETS if allowed() != "bundled" else ()
    found = {"": label(""), **{p.spec: p.label for p in others if p.spec != first()}}
    return [(shown, spec) for spec, shown in (found | {used: label(used)}).items()]


def label(asked: str) -> str:
    """What the page calls a pair: its preset's label, or the last parts of folders and ids."""
    spec = _BY_NAME.get(asked.strip(), asked.strip()) or first()
    found = next((preset.label for preset in PRESETS if preset.spec == spec), None)
    if found or spec == first():
        return found or "This page's own pair"
    return " after ".join(Path(pinned(name)[0]).name for name in split(spec) or (spec,))


def resolve(asked: str) -> str:
    """The spec of a pair that a visitor asks for, by a preset's name, as ids or as a folder.

    Raises InputError, in one sentence, for what the host does not allow, and for what is neither.
    """
    spec = _BY_NAME.get(asked.strip(), asked.strip())
    if spec in ("", first()):
        return first()
    kind = allowed()
    if kind == "bundled":
        why = ", since ZeroGPU takes its models before the page starts" if zero_gpu.ON else ""
        raise InputError(f"This page keeps to one pair{why}: run Stairs yourself to use others.")
    if spec in _BY_NAME.values():
        return spec
    if kind == "presets":
        raise InputError(
            "This page loads no other pairs than those in its list: run Stairs yourself to use "
            "your own ids or folders."
        )
    if kind == "hub":
        if _are_ids(spec) and not any(map(_is_path, split(spec) or (spec,))):
            return spec
        raise InputError(
            f"There is no pair {spec!r:.80} that this page loads: name a target's id on the hub "
            "alone, as owner/name, or two ids, the target first, with a colon between."
        )
    if is_here(spec) or _are_ids(spec):
        return spec
    raise InputError(
        f"There is no pair {spec!r:.80}: name a folder (with one model, or with target/ and "
        "draft/), a GGUF file, a target's id alone, as owner/name, or two of these, the target "
        "first, with a colon between."
    )


def is_vouched_for(spec: str) -> bool:
    """Whether the host, or this program, has chosen the models: visitors choose all others."""
    return spec == first() or spec in _BY_NAME.values()


def _are_ids(spec: str) -> bool:
    """Whether a spec is a target and its draft, each an id of the hub or a folder; or a single id
    with its owner."""
    if len(spec) > _LONGEST:
        return False
    alone = ":" not in spec and (spec.count("/") == 1 or hub_file(spec))
    names = split(spec) or ((spec,) if alone else ())
    return bool(names) and all(map(_can_be_loaded, names))


def _is_path(name: str) -> bool:
    """Whether a name would be taken for something on this machine, an id though it may be too."""
    return is_here(name) or os.path.lexists(name) or name.lower().startswith(("~", ".", "/"))


def _can_be_loaded(name: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    if is_here(name) or name in KNOWN:
        return True
    place = hub_file(name)
    try:
        validate_repo_id(pinned(place[0] if place else name)[0])
    except HFValidationError:
        return False
    return True
