"""Load a pair of models: bundled, from folders, or from the hub; checked before it is used."""

from __future__ import annotations

import re
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

from . import checks, devices, faster, hub, quantised, weights
from .devices import Placement
from .encoded import reads_apart
from .errors import InputError
from .pair import Pair
from .quiet import quiet
from .specs import split
from .translate import clash, difference

_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")  # of the hub, with its owner
_FOREIGN = "trust_remote_code|not recognize|Unrecognized"  # how transformers says: unknown to it
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
    ``faster``. ``say`` is told how far it is; what it raises ends the loading. Models of the hub
    are fetched first, as the page and ``stairs fetch`` do it; ``folders``: where they lie, by id,
    if they have been. Raises InputError, before any decoding, for what cannot be used, with the
    reason.
    """
    where = devices.placement(device, dtype)
    target_name, draft_name = locate(spec)
    names = {target_name: "target"}
    if draft_name:
        names.setdefault(draft_name, "draft")
    places = {name: folders.get(name) or _place(name, names[name], say) for name in names}
    with quiet():
        say("Loading the target …")
        target = _load(target_name, places[target_name], where)
        if draft_name:
            say("Loading the draft …")
        draft = _load(draft_name, places[draft_name], where) if draft_name else None
        # text.encode refuses what is too long, in its own words; no notice of the library is
        # wanted.
        long = {"model_max_length": 2**31}
        tokenizer = other = _tokenizer(target_name, places[target_name], **long)
        if draft_name:
            other = _tokenizer(draft_name, places[draft_name], **long)
    odd = difference(tokenizer, other)
    if odd and draft is not None and reads_apart(draft) and clash(tokenizer, other):
        raise InputError(
            f"{_short(str(draft_name))} is an encoder-decoder model with another tokenizer than "
            f"{_short(target_name)}: choose a draft with the target's own."
        )

    def quicker(name: str, model: Any) -> Any:
        with quiet():
            return faster.build(model, compile, lambda: _load(name, places[name], where))

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
        return _load(name, _place(name, "model", str), Placement(device, dtype))


def load_tokenizer(name: str) -> Any:
    """That of one model, a folder or a hub id."""
    with quiet():
        return _tokenizer(name, _place(name, "tokenizer", str))


def locate(spec: str) -> tuple[str, str | None]:
    """The names of target and draft, each a folder or a hub id. Loads nothing."""
    folder = BUNDLED if spec == "bundled" else Path(spec).expanduser()
    if (folder / "target").is_dir():
        draft = folder / "draft"
        return str(folder / "target"), str(draft) if draft.is_dir() else None
    if any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        return str(folder), None
    if spec == "bundled":
        raise InputError(f"The bundled pair is missing: restore {folder}, or name another pair.")
    if folder.is_dir():
        raise InputError(f"{folder} holds no model: it needs target/ and draft/, or a config.json.")
    names = split(spec)
    if names is None and _ID.fullmatch(spec):
        return spec, None
    if names is None:
        raise InputError(
            f"There is no pair {spec!r:.80}: name bundled, a folder (with one model, or with "
            "target/ and draft/), a target's id alone, as owner/name, or two folders or hub ids, "
            "the target first, a colon between."
        )
    return names


def _place(name: str, role: str, say: Callable[[str], object]) -> Path:
    """The folder of a model, which is fetched from the hub if it must be."""
    if weights.check_folder(name):
        return Path(name).expanduser()
    found = hub.find(name, say)
    return hub.fetch(found, role, say) if isinstance(found, hub.Remote) else found


def _load(name: str, place: Path, where: Placement) -> Any:
    weights.check_folder(str(place))

    def load() -> Any:
        config = AutoConfig.from_pretrained(place, local_files_only=True, trust_remote_code=False)
        # A config may name code of the hub here, to be run as the attention: the library's own is
        # taken.
        config._attn_implementation = None
        family: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        options = where.options or quantised.placed(config, where.device)
        model: Any = family.from_pretrained(
            place,
            config=config,
            dtype=where.dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            **options,
        )
        model = model.eval() if options else model.eval().to(where.device)
        checks.check_model(model, _short(name))
        return model

    return _attempt(name, place, load)


def _tokenizer(name: str, place: Path, **options: Any) -> Any:
    def load() -> Any:
        return AutoTokenizer.from_pretrained(
            place, local_files_only=True, trust_remote_code=False, **options
        )

    try:
        return _attempt(name, place, load)
    except InputError as e:
        if why := weights.unread(place):
            raise InputError(f"{name} has a tokenizer that cannot be loaded: {why}.") from e
        raise


def _attempt(name: str, place: Path, load: Callable[[], Any]) -> Any:
    """``load()``, with every failure of the libraries below said in one sentence."""
    try:
        return load()
    except InputError:
        raise
    except torch.OutOfMemoryError as e:
        raise InputError(f"{name} does not fit in the device's memory: use a smaller one.") from e
    except Exception as e:  # what a library raises is anything
        if weights.names_code(place) and re.search(_FOREIGN, str(e)):
            raise InputError(
                f"{name} needs code of its own, which Stairs never runs: choose a model whose "
                "architecture and tokenizer are part of transformers."
            ) from e
        said = " ".join(str(e).split()) or type(e).__name__
        reason = said.split(". ")[0][:200].rstrip(".")
        raise InputError(f"{name} cannot be loaded: {reason}.") from e


def _eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    ids = model.generation_config.eos_token_id
    ids = tokenizer.eos_token_id if ids is None else ids
    return frozenset(ids if isinstance(ids, list) else [] if ids is None else [ids])


def count_parameters(model: Any | None) -> int:
    """As floats would be: several packed weights share a number."""
    if model is None:
        return 0
    counted = model
    if quantised.label(model.config) is not None:
        with torch.device("meta"):
            counted = type(model)(model.config)
    return sum(p.numel() for p in counted.parameters())


def count_bytes(model: Any | None) -> int:
    """Of the weights, as they were loaded."""
    if model is None:
        return 0
    packed = model.buffers() if quantised.label(model.config) is not None else ()
    return sum(p.numel() * p.element_size() for p in (*model.parameters(), *packed))


def _label(name: str, model: Any) -> str:
    widened = getattr(model.config, "stairs_widened", False)
    return _short(name) + (", widened" if widened else "")


def _short(name: str) -> str:
    """The bundled models by role, other folders by their name, hub ids as they are."""
    path = Path(name)
    if path.is_relative_to(BUNDLED):
        return f"bundled {path.name}"
    return path.resolve().name if path.is_dir() else name
