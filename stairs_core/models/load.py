"""Loads a pair of models, bundled, from folders or from the hub, and checks it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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

from ..errors import InputError
from ..forward import capabilities, faster_pass, quantised_weights, tryouts
from ..forward.encoder_decoder import reads_apart
from ..quiet import quiet
from ..settings.known import KNOWN
from ..settings.pair_spec import hub_file, is_folder, is_gguf, pinned, split, without_addresses
from ..text.cross_tokenizer import clash, difference
from . import devices, folder_check, gguf_header, gguf_unpack, small_drafts, source
from .devices import Placement
from .pair import Pair

_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+(@[0-9a-f]{40})?")  # an id on the hub, with its owner
_FOREIGN = "trust_remote_code|not recognize|Unrecognized"  # in errors of transformers
_NO_LIMIT = 2**31  # tokens: ``text.tokens`` checks the length of prompts
BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "pair"


def load_pair(
    spec: str = "bundled",
    device: str = "auto",
    dtype: str = "auto",
    compile: str = "auto",
    *,
    say: Callable[[str], object] = str,
    folders: Mapping[str, Path] = MappingProxyType({}),
    own_draft: bool = True,
) -> Pair:
    """Loads the pair ``spec``: "bundled", a model by name, a folder (with target/ and draft/, or
    one model), a GGUF file, or TARGET:DRAFT.

    ``device``: "auto", "cpu", "cuda[:n]" or "all". ``dtype``: "auto" is float32 on a CPU,
    bfloat16 on a GPU that has it, else float16; ``devices`` has the others. ``compile``: see
    ``forward.faster_pass``. ``say``: called with progress; an exception from it stops the loading.
    What is not here is fetched first, and GGUF files are unpacked, unless ``folders`` has a model's
    folder by its name. ``own_draft``: where no draft is named, the small one that was trained on
    the target is loaded, if there is one. Raises InputError, with the reason, for models that
    cannot be used.
    """
    where = devices.placement(device, dtype)
    target_name, draft_name = locate(spec)
    roles = {target_name: "target"}
    if draft_name:
        roles.setdefault(draft_name, "draft")
    places = {name: folders.get(name) or source.folder(name, roles[name], say) for name in roles}
    parts = _Parts(target_name, draft_name, places, where)
    with quiet():
        say("Loading the target …")
        target = parts.target()
        if draft_name:
            say("Loading the draft …")
        draft = parts.draft(target) if draft_name or own_draft else None
        tokenizer, other = parts.tokenizers(draft)

    def quicker(model: Any, again: Callable[[], Any]) -> Any:
        with quiet():
            return faster_pass.build(model, compile, again)

    models = [m for m in (target, draft) if m is not None]
    # Before a faster pass packs them.
    parameters = count_parameters(target), count_parameters(draft, beside=target)
    sizes = count_bytes(target), count_bytes(draft, beside=target)
    own = draft is not None and draft_name is None
    return Pair(
        name=spec,
        target=quicker(target, parts.target),
        draft=draft and quicker(draft, parts.draft),
        target_name=_label(target_name, target),
        draft_name=_label(draft_name, draft) if draft_name else _own_label(target_name, own),
        own_draft=own,
        tokenizer=tokenizer,
        draft_tokenizer=other if draft_name and difference(tokenizer, other) else tokenizer,
        eos_ids=eos_ids(target, tokenizer),
        draft_eos_ids=eos_ids(draft or target, other),
        context_length=min(capabilities.context_length(m) for m in models),
        parameters=parameters,
        bytes=sizes,
    )


@dataclass(frozen=True)
class _Parts:
    """What a pair is loaded from: the names of target and draft, and the folder of each name."""

    target_name: str
    draft_name: str | None
    places: Mapping[str, Path]
    where: Placement

    def target(self) -> Any:
        return _load(self.target_name, self.places[self.target_name], self.where)

    def draft(self, target: Any | None = None) -> Any | None:
        """The draft that was named or else, if there is one, the small draft that was trained on
        the target; of ``target``, whose weights are all there, if given."""
        if self.draft_name:
            return _load(self.draft_name, self.places[self.draft_name], self.where)
        return small_drafts.of(target or self.target(), _short(self.target_name))

    def tokenizers(self, draft: Any | None) -> tuple[Any, Any]:
        """The target's and the draft's. Raises InputError for a ``draft`` that an encoder reads
        for, with a tokenizer of its own."""
        names = [name for name in (self.target_name, self.draft_name) if name]
        found = [_tokenizer(n, self.places[n], model_max_length=_NO_LIMIT) for n in names]
        tokenizer, other = found[0], found[-1]
        if draft is not None and reads_apart(draft) and clash(tokenizer, other):
            raise InputError(
                f"{_short(names[-1])} is an encoder-decoder model with another tokenizer than "
                f"{_short(names[0])}: choose a draft with the target's own."
            )
        return tokenizer, other


def fetch(name: str, *, say: Callable[[str], object] = str) -> str:
    """The folder of one model, for transformers' ``from_pretrained``: fetched and unpacked first,
    unless it was before.

    ``name``: a model by name, a GGUF file, a hub id, or a folder. ``say``: called with progress.
    Raises InputError for what cannot be had.
    """
    return str(source.folder(name, "model", say))


def load_stock(name: str, device: torch.device, dtype: torch.dtype) -> Any:
    """One model, from a folder or the hub, as transformers loads it, without a faster pass."""
    with quiet():
        return _load(name, source.folder(name, "model", str), Placement(device, dtype))


def load_tokenizer(name: str) -> Any:
    """The tokenizer of one model, from a folder or the hub."""
    with quiet():
        return _tokenizer(name, source.folder(name, "tokenizer", str))


def locate(spec: str) -> tuple[str, str | None]:
    """The names of target and draft: folders, GGUF files, hub ids, or names. Loads nothing."""
    if spec in KNOWN or is_gguf(spec):
        return spec, None
    try:
        return _located(spec)
    except (OSError, RuntimeError) as e:  # no such user's folder, or one that may not be read
        reason = getattr(e, "strerror", None) or str(e).rstrip(".")
        raise InputError(f"{spec:.200} cannot be read ({reason}): check its path.") from e


def _located(spec: str) -> tuple[str, str | None]:
    folder = BUNDLED if spec == "bundled" else Path(spec).expanduser()
    if (folder / "target").is_dir():
        draft = folder / "draft"
        return str(folder / "target"), str(draft) if draft.is_dir() else None
    if any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        return str(folder), None
    if spec == "bundled":
        raise InputError(f"The bundled pair is missing: restore {folder}, or name another pair.")
    if folder.is_dir() and gguf_header.files_in(folder):
        return str(folder), None
    if folder.is_dir():
        raise InputError(
            f"{folder} holds no model: it needs target/ and draft/, a config.json, or a GGUF file."
        )
    if (named := without_addresses(spec)) != spec:
        raise InputError(f"{spec:.200} is an address: name the model as {named:.200}.")
    if re.search("https?://", spec):
        raise InputError(
            f"{spec:.200} is an address, and models come from folders, files and the hub: download "
            "it, and name its path."
        )
    names = split(spec)
    if names and "bundled" in names and not is_folder("bundled"):
        raise InputError(
            f"bundled is a pair, and {spec:.200} needs two models: name the folder target or draft "
            "inside of it, or another model."
        )
    if names is None and (_ID.fullmatch(spec) or hub_file(spec)):
        return spec, None
    if names is None and spec.lower().endswith(".gguf"):
        raise InputError(f"There is no file {spec:.200}: check its path.")
    if names is None:
        raise InputError(
            f"There is no pair {spec!r:.80}: name bundled, {' or '.join(KNOWN)}, a folder (with "
            "one model, or with target/ and draft/), a GGUF file, a target's id alone, as "
            "owner/name, or two of these, the target first, a colon between."
        )
    return names


def _load(name: str, place: Path, where: Placement) -> Any:
    folder_check.check_folder(str(place))

    def load() -> Any:
        config = AutoConfig.from_pretrained(place, local_files_only=True, trust_remote_code=False)
        # A config may name attention code on the hub here, which would be run: use the library's.
        config._attn_implementation = None
        # For training, and counted over masks that a tree's pass has not.
        for part in (config, config.get_text_config()):
            if getattr(part, "output_router_logits", False):
                part.output_router_logits = False
        family: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        if type(config) not in family._model_mapping:
            raise InputError(
                f"{name} is of a kind ({config.model_type}) that transformers has no text model "
                "of: choose a model that reads and writes text alone."
            )
        options = where.options or quantised_weights.placed(config, where.device)
        model, loaded = family.from_pretrained(
            place,
            config=config,
            dtype=where.dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
        folder_check.check_loaded(name, model, loaded)
        model = model.eval() if options else model.eval().to(where.device)
        # The weights of a model by name are pinned, and were tried in this dtype.
        if name not in KNOWN or model.dtype != torch.float32:
            capabilities.check_model(model, _short(name))
        if name in KNOWN:
            model.config.stairs_known = name  # its heads fit its weights from either place
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
        if why := folder_check.unread(place):
            raise InputError(f"{name} has a tokenizer that cannot be loaded: {why}.") from e
        raise


def _attempt(name: str, place: Path, load: Callable[[], Any]) -> Any:
    """Calls ``load``; turns every failure of the libraries into an InputError of one sentence."""
    try:
        return load()
    except InputError:
        raise
    except torch.OutOfMemoryError as e:
        raise InputError(f"{name} does not fit in the device's memory: use a smaller one.") from e
    except Exception as e:  # libraries may raise anything
        if folder_check.names_code(place) and re.search(_FOREIGN, str(e)):
            raise InputError(
                f"{name} needs code of its own, which Stairs never runs: choose a model whose "
                "architecture and tokenizer are part of transformers."
            ) from e
        raise InputError(f"{name} cannot be loaded: {tryouts.sentence(e)}.") from e


def eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that the model's texts end at; none where neither of them names one."""
    ids = model.generation_config.eos_token_id
    ids = tokenizer.eos_token_id if ids is None else ids
    return frozenset(ids if isinstance(ids, list) else [] if ids is None else [ids])


def count_parameters(model: Any | None, beside: Any | None = None) -> int:
    """How many weights a model has that the model ``beside`` does not share. Quantised ones are
    counted from the config, since several of them are packed into one number."""
    if model is None:
        return 0
    counted = model
    if quantised_weights.label(model.config) is not None:
        with torch.device("meta"):
            counted = type(model)(model.config)
    return sum(p.numel() for p in _unshared(counted, beside))


def _unshared(model: Any, beside: Any | None) -> list[torch.nn.Parameter]:
    shared = {id(p) for p in beside.parameters()} if beside is not None else set()
    return [p for p in model.parameters() if id(p) not in shared]


def count_bytes(model: Any | None, beside: Any | None = None) -> int:
    """How many bytes a model's weights take as loaded, those that it shares with ``beside`` left
    out."""
    if model is None:
        return 0
    packed = model.buffers() if quantised_weights.label(model.config) is not None else ()
    return sum(p.numel() * p.element_size() for p in (*_unshared(model, beside), *packed))


def _label(name: str, model: Any) -> str:
    widened = getattr(model.config, "stairs_widened", False)
    weights = source.label(name, getattr(model.config, gguf_unpack.WEIGHTS, None))
    short = _short(name)
    if weights and weights.partition(",")[0] == short:  # a file's name says it
        short, weights = weights, None
    return short + (f" ({weights})" if weights else "") + (", widened" if widened else "")


def _own_label(target_name: str, own: bool) -> str | None:
    """What the draft is called that was trained on this target and came along with it."""
    return f"{_short(target_name)}-draft" if own else None


def _short(name: str) -> str:
    """A model's short name: the role of a bundled model, a folder's last part, or the hub id."""
    path = Path(name)
    if path.is_relative_to(BUNDLED):
        return f"bundled {path.name}"
    return path.resolve().name if path.is_dir() or is_gguf(name) else pinned(name)[0]
