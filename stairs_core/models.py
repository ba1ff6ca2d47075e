"""Load a pair of models: bundled, from folders, or from the hub; checked before it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
)

from . import checks, devices, faster, weights
from .devices import Placement
from .encoded import reads_apart
from .errors import InputError
from .pair import Pair
from .quiet import quiet
from .specs import split
from .translate import clash, difference

BUNDLED = Path(__file__).resolve().parent.parent / "assets" / "pair"


def load_pair(
    spec: str = "bundled",
    device: str = "auto",
    dtype: str = "auto",
    compile: str = "auto",
    *,
    say: Callable[[str], object] = str,
    folders: Mapping[str, Path] = MappingProxyType({}),
) -> Pair:
    """``spec``: "bundled", a folder (with target/ and draft/, or one model), or TARGET:DRAFT.

    ``device``: "auto", "cpu", "cuda[:n]" or "all". ``dtype``: "auto" is float32 on a CPU and, on a
    GPU, bfloat16 where it has that, else float16; see ``devices`` for all. ``compile``: see
    ``faster``. ``say`` is told of every model before it is loaded; what it raises ends the loading.
    ``folders``: where models of the hub lie, by id, if they have been fetched. Raises InputError,
    before any decoding, for what cannot be used, with the reason.
    """
    where = devices.placement(device, dtype)
    target_name, draft_name = locate(spec)
    with quiet():
        say("Loading the target …")
        target = _load(target_name, where, folders)
        if draft_name:
            say("Loading the draft …")
        draft = _load(draft_name, where, folders) if draft_name else None
        tokenizer = _tokenizer(target_name, folders)
        other = _tokenizer(draft_name, folders) if draft_name else tokenizer
    odd = difference(tokenizer, other)
    if odd and draft is not None and reads_apart(draft) and clash(tokenizer, other):
        raise InputError(
            f"{_short(str(draft_name))} is an encoder-decoder model with another tokenizer than "
            f"{_short(target_name)}: choose a draft with the target's own."
        )

    def quicker(name: str, model: Any) -> Any:
        with quiet():
            return faster.build(model, compile, lambda: _load(name, where, folders))

    models = [m for m in (target, draft) if m is not None]
    parameters = count_parameters(target), count_parameters(draft)
    sizes = count_bytes(target), count_bytes(draft)
    return Pair(
        name=spec,
        target=quicker(target_name, target),
        draft=quicker(str(draft_name), draft) if draft is not None else None,
        target_name=_label(target_name, target),
        draft_name=_label(draft_name, draft) if draft_name else None,
        tokenizer=tokenizer,
        draft_tokenizer=other if odd else tokenizer,
        eos_ids=_eos_ids(target, tokenizer),
        draft_eos_ids=_eos_ids(draft or target, other),
        context_length=min(checks.context_length(m) for m in models),
        parameters=parameters,
        bytes=sizes,
    )


def load_stock(name: str, device: torch.device, dtype: torch.dtype) -> Any:
    """One model, a folder or a hub id, as transformers makes it."""
    with quiet():
        return _load(name, Placement(device, dtype), {})


def locate(spec: str) -> tuple[str, str | None]:
    """The names of target and draft, each a folder or a hub id. Loads nothing."""
    folder = BUNDLED if spec == "bundled" else Path(spec).expanduser()
    if (folder / "target").is_dir():
        draft = folder / "draft"
        return str(folder / "target"), str(draft) if draft.is_dir() else None
    if (folder / "config.json").is_file():
        return str(folder), None
    if spec == "bundled":
        raise InputError(f"The bundled pair is missing: restore {folder}, or name another pair.")
    if folder.is_dir():
        raise InputError(f"{folder} holds no model: it needs target/ and draft/, or a config.json.")
    names = split(spec)
    if names is None:
        raise InputError(
            f"There is no pair {spec!r:.80}: name bundled, a folder (with one model, or with "
            "target/ and draft/), or two folders or hub ids, the target first, a colon between."
        )
    return names


def _load(name: str, where: Placement, folders: Mapping[str, Path]) -> Any:
    place = str(folders.get(name, name))
    local = weights.check_folder(place)

    def load() -> Any:
        two = AutoConfig.from_pretrained(place, local_files_only=local).is_encoder_decoder
        family: Any = AutoModelForSeq2SeqLM if two else AutoModelForCausalLM
        model: Any = family.from_pretrained(
            place, dtype=where.dtype, use_safetensors=True, local_files_only=local, **where.options
        )
        model = model.eval() if where.options else model.eval().to(where.device)
        checks.check_model(model, _short(name))
        return model

    return _attempt(name, load)


def _tokenizer(name: str, folders: Mapping[str, Path]) -> Any:
    place = str(folders.get(name, name))
    local = Path(place).is_dir()
    # text.encode refuses what is too long, in its own words; the library's notice is not wanted.
    options = {"local_files_only": local, "model_max_length": 2**31}
    return _attempt(name, lambda: AutoTokenizer.from_pretrained(place, **options))


def _attempt(name: str, load: Callable[[], Any]) -> Any:
    """``load()``, with every failure of the libraries below said in one sentence."""
    try:
        return load()
    except InputError:
        raise
    except torch.OutOfMemoryError as e:
        raise InputError(f"{name} does not fit in the device's memory: use a smaller one.") from e
    except (
        AttributeError,
        ImportError,
        LookupError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as e:
        reason = " ".join(str(e).split()).split(". ")[0][:200].rstrip(".")
        raise InputError(f"{name} cannot be loaded: {reason}.") from e


def _eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    ids = model.generation_config.eos_token_id
    ids = tokenizer.eos_token_id if ids is None else ids
    return frozenset(ids if isinstance(ids, list) else [] if ids is None else [ids])


def count_parameters(model: Any | None) -> int:
    return sum(p.numel() for p in model.parameters()) if model else 0


def count_bytes(model: Any | None) -> int:
    """Of the weights, as they were loaded."""
    return sum(p.numel() * p.element_size() for p in model.parameters()) if model else 0


def _label(name: str, model: Any) -> str:
    widened = getattr(model.config, "stairs_widened", False)
    return _short(name) + (", widened" if widened else "")


def _short(name: str) -> str:
    """The bundled models by role, other folders by their name, hub ids as they are."""
    path = Path(name)
    if path.is_relative_to(BUNDLED):
        return f"bundled {path.name}"
    return path.resolve().name if path.is_dir() else name
