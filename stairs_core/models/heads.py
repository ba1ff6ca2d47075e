"""Heads that were trained on a target: finds and loads those of a given target.

A head is a folder with ``config.json`` and ``model.safetensors``, in ``heads/`` beside the target
or in its folder; those that come along are in ``assets/heads``. It belongs to one target,
which its config knows by width, layers and a fingerprint of the weights. One that was trained on a
model known by name fits its weights from wherever they come, since they differ by rounding alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ..errors import InputError, Use, Value
from ..forward import hidden_states
from ..settings.methods import FREE
from ..settings.settings import K_RANGE
from . import folder_check, hub

BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "heads"
FINGERPRINT = "stairs_target_fingerprint"
KIND = "stairs_head"
_KNOWN = "stairs_known"


@dataclass(frozen=True)
class Head:
    """A head's folder and its config. Its file is read when its weights are first asked for."""

    folder: Path
    config: dict[str, Any]

    @cached_property
    def tensors(self) -> dict[str, torch.Tensor]:
        """By name, float32, on the CPU. Raises InputError as ``tensors`` below."""
        return tensors(self.folder)

    @property
    def stamp(self) -> tuple[object, ...]:
        """Tells its files apart from others, and from what they were before."""
        about = [file.stat() for file in folder_check.shards(self.folder)]
        return (self.folder, *((stat.st_mtime_ns, stat.st_size) for stat in about))

    def number(self, name: str) -> int:
        """A size that the config gives. Raises InputError where it gives none."""
        value = self.config.get(name)
        if type(value) is not int or value < 1:
            raise InputError(f"{self.folder} is damaged: its config.json says {name} = {value!r}.")
        return value

    def check_ids(self, ids: torch.Tensor, tokens: int, words: str) -> None:
        """Raises InputError unless ``ids`` are different ids under ``tokens``. ``words``: "its ids
        name"."""
        if int(ids.min()) < 0 or int(ids.max()) >= tokens or len(ids.unique()) != len(ids):
            raise InputError(f"{self.folder} is damaged: {words} tokens that there are not.")

    def fill(
        self, module: torch.nn.Module, like: Any, weights: dict[str, torch.Tensor] | None = None
    ) -> Any:
        """The module with the head's weights, where and in what dtype the model ``like`` is; a
        module on the device "meta" will do. ``weights``: other ones than ``tensors``."""
        given = self.tensors if weights is None else weights
        blank = any(weight.is_meta for weight in module.parameters())
        try:
            module.load_state_dict(given, strict=True, assign=blank)
        except RuntimeError as e:
            raise InputError(
                f"{self.folder} is damaged: its tensors are not those that its config.json "
                "describes."
            ) from e
        return module.to(like.device, like.dtype).eval().requires_grad_(False)


def kind_of(config: dict[str, Any]) -> str | None:
    """Which drafter a head's config is for."""
    return "eagle" if config.get("speculators_model_type") == "eagle3" else config.get(KIND)


def give(target: Any, spec: str, say: Callable[[str], object] = str) -> None:
    """From now on, ``load`` takes the head ``spec``, a folder or the id of one on the hub, for this
    target. Raises InputError, with the reason, for one that does not fit.

    A published head has no fingerprint; it is known by the target's width, vocabulary and layers.
    """
    if folder_check.check_folder(spec):
        folder = Path(spec).expanduser()
    else:
        found = hub.find(spec, say)
        folder = hub.fetch(found, "head", say) if isinstance(found, hub.Remote) else found
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = kind_of(config)
    except (OSError, ValueError, AttributeError):
        config, kind = {}, None
    if kind is None:
        raise InputError(f"{spec} holds no head: name a folder that stairs train head wrote.")
    if kind == "draft":
        raise InputError(
            f"{spec} is a small draft, which is part of a pair: put it into a folder called heads "
            "beside its target's, where it is found."
        )
    if (
        why := _unlike(config, target)
        if FINGERPRINT in config
        else _unlike_published(config, target)
    ):
        raise InputError(
            f"The head {spec} belongs to another target ({why}): name its own target with it."
        )
    target.given_head = (kind, folder, config)


def _given(kind: str, target: Any) -> tuple[Path, dict[str, Any]] | None:
    """The folder and the config of the head that ``give`` was called with, if of that kind."""
    given = getattr(target, "given_head", None)
    return given[1:] if given and given[0] == kind else None


def _own(kind: str, target: Any) -> tuple[Path, dict[str, Any]] | None:
    """The folder and the config of the target's head of that kind: the given one, or one that was
    trained on it."""
    there = ((f, config) for f, config in _of(kind, target) if _unlike(config, target) is None)
    return _given(kind, target) or next(there, None)


def find(kind: str, target: Any) -> Path | None:
    """The folder of the target's head of that kind; None where there is none. Reads configs."""
    found = _own(kind, target)
    return found[0] if found else None


def guesses(kind: str, target: Any) -> int | None:
    """How many guesses a step suit the target's head, where its config says that, as those of
    EAGLE's heads do: ``speculative_tokens``, the K that a server takes too."""
    _, config = _own(kind, target) or (None, {})
    try:
        said = config["speculators_config"]["proposal_methods"][0]["speculative_tokens"]
    except (LookupError, TypeError):
        return None
    return said if type(said) is int and said in range(K_RANGE[0], K_RANGE[1] + 1) else None


def load(kind: str, target: Any, name: str) -> Head:
    """The target's head. Raises InputError where there is none; ``name``: the target's."""
    if found := _own(kind, target):
        return Head(*found)
    there = _of(kind, target)
    beside = next((f for f, _ in there if not f.is_relative_to(BUNDLED)), None)
    if beside is not None:
        why = _unlike(dict(there)[beside], target)
        raise InputError(
            f"The head {beside} belongs to another target than {name} ({why}): ",
            Use(drafter=FREE),
            f", or train one with stairs train {_trainer(kind)}.",
        )
    raise InputError(
        f"No head was trained on {name}, as ",
        Value("drafter", kind),
        " needs: ",
        Use(drafter=FREE),
        f", or train one with stairs train {_trainer(kind)}.",
    )


def _trainer(kind: str) -> str:
    """The word after ``stairs train`` that makes such a head."""
    return "slm" if kind == "slm" else "head"


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Of a head's file. Raises InputError for pickles, and for a file that was cut off."""
    folder_check.check_folder(str(folder))
    found: dict[str, torch.Tensor] = {}
    for file in folder_check.shards(folder):
        found |= load_file(file)
    return {name: t.float() if t.is_floating_point() else t for name, t in found.items()}


def described(target: Any) -> dict[str, Any]:
    """The part of a head's config that identifies its target."""
    text = target.config.get_text_config()
    known = getattr(target.config, _KNOWN, None)
    return {
        "target_hidden_size": text.hidden_size,
        "target_layers": text.num_hidden_layers,
        "target_vocab_size": text.vocab_size,
        FINGERPRINT: hidden_states.fingerprint(target),
        **({_KNOWN: known} if known else {}),
    }


def _unlike(config: dict[str, Any], target: Any) -> str | None:
    """How the target that a head was trained on differs from this one; None if it is this one."""
    own = described(target)
    # In an EAGLE head's config the library has another place for it, and none for this name.
    rows = config.get("target_vocab_size", _layer(config).get("vocab_size"))
    config = {**config, "target_vocab_size": rows}
    names = {"target_hidden_size": "width", "target_layers": "layers", "target_vocab_size": "rows"}
    for key, word in names.items():
        if config.get(key) != own[key]:
            return f"{word} {config.get(key)}, not {own[key]}"
    same = own.get(_KNOWN) and config.get(_KNOWN) == own[_KNOWN]
    return None if same or config.get(FINGERPRINT) == own[FINGERPRINT] else "other weights"


def _layer(config: dict[str, Any]) -> dict[str, Any]:
    """The config of an EAGLE head's layer."""
    found = config.get("transformer_layer_config")
    return found if isinstance(found, dict) else {}


def _unlike_published(config: dict[str, Any], target: Any) -> str | None:
    """The same for a head without the keys that are written here."""
    layer = _layer(config)
    text = target.config.get_text_config()
    width = config.get("target_hidden_size") or layer.get("hidden_size")
    if width != text.hidden_size:
        return f"width {width}, not {text.hidden_size}"
    if layer.get("vocab_size") != text.vocab_size:
        return f"rows {layer.get('vocab_size')}, not {text.vocab_size}"
    return None


def _of(kind: str, target: Any) -> list[tuple[Path, dict[str, Any]]]:
    """The heads of that kind that lie where this target's would, and their configs."""
    places = [BUNDLED]
    own = getattr(target.config, "name_or_path", "")
    if target.config.is_encoder_decoder and kind != "slm":
        return []  # its hidden states cannot be read: see ``hidden_states.decoder_layers``
    if own and Path(own).is_dir():
        places += [Path(own) / "heads", Path(own).resolve().parent / "heads"]
    found = []
    for file in (
        file
        for place in places
        for file in sorted((*place.glob("*/config.json"), *place.glob("*/*/config.json")))
    ):
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(config, dict) and kind_of(config) == kind:
            found.append((file.parent, config))
    return found
