"""Mends the tokenizer that transformers makes of a GGUF file, once it is saved: marks that are no
tokens in it, how text is split before it is merged, and what stands before a text.

The names: llama.cpp's ``llama-vocab.cpp``. The splits: the tokenizer.json of the models that the
names are of.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import InputError
from .gguf_header import Header

_BYTES, _PIECES = "gpt2", ("llama", "t5")
"""Values of ``tokenizer.ggml.model``."""
_CONTROL, _USER_DEFINED = 3, 4
"""Values of ``tokenizer.ggml.token_type``: of tokens that are found whole in a text."""
_SAVED = "tokenizer.json"
_IDS = ("bos", "eos", "unknown", "padding")
_WHOLE_WORDS = {"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0"}
_WHOLE_WORDS |= {"lfm2", "jina-v5-nano", "tekken"}
"""Values of ``tokenizer.ggml.pre``: words that are tokens are not merged of parts, and texts begin
with a token of their own unless the file says otherwise."""
_BEGUN = _WHOLE_WORDS | {"chameleon"}

_DIGIT, _CHINESE = r"\p{N}", "[一-龥ࠀ-一가-\ud7ff]+"
_LINES = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_QWEN = _SHORT + r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*" + _LINES
_THREES = _SHORT + r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + _LINES
_SEED = _SHORT + r"\p{N}| ?[^\s\p{L}\p{N}\r\n]+" + _LINES
_DEEPSEEK = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*" + _LINES
)
_BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"
_SPLITS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("stablelm2", "hunyuan", "grok-2", "qwen2"), (_QWEN,)),
    **dict.fromkeys(("chatglm-bpe", "glm4"), (_THREES,)),
    **dict.fromkeys(("bloom", "poro-chat", "gpt3-finnish"), (_BLOOM,)),
    "viking": (_BLOOM, _DIGIT),
    "seed-coder": (_SEED,),
    "deepseek-coder": (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CHINESE, _DIGIT),
    **dict.fromkeys(
        ("deepseek-v3", "hunyuan-dense"), (r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+", _DEEPSEEK)
    ),
}
"""Values of ``tokenizer.ggml.pre`` that not every transformers knows, and their splits."""
_DIGITS_FIRST = {"starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b"}
"""Those that split as GPT-2 does once single digits are."""
_UNSAID = {None, "", "default"}
_AS_GPT2 = {*_UNSAID, "gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "exaone4"}
_AS_GPT2 |= {"granite-docling", "gigachat", "a.x-4.0", "mellum", "modern-bert", "roberta-bpe"}
_AS_GPT2 |= {f"jina-{name}" for name in ("es", "de", "v1-en", "v2-es", "v2-de", "v2-code")}


def check(header: Header, path: Path) -> None:
    """Raises InputError, in one sentence, for a file whose vocabulary is not whole."""
    count = len(header.array(path, "tokenizer.ggml.tokens"))
    if not count:
        raise InputError(f"{path.name} has no list of tokens: choose a file with a vocabulary.")
    kind = header.facts.get("tokenizer.ggml.model")
    has = {name: f"tokenizer.ggml.{name}" in header.arrays for name in ("merges", "scores")}
    lacking = not has["scores"] if kind == "t5" else not any(has.values())
    if lacking and kind in (_BYTES, *_PIECES):
        needed = "merges" if kind == _BYTES else "scores"
        raise InputError(
            f"{path.name} has tokens without their {needed}, by which text is cut into them: "
            "choose another file of the model."
        )
    for name in _IDS:
        value = header.facts.get(f"tokenizer.ggml.{name}_token_id")
        if isinstance(value, int) and value >= count:
            raise InputError(
                f"{path.name} says {name}_token_id {value:,} and has {count:,} tokens: choose "
                "another file of the model."
            )


def wishes(header: Header) -> dict[str, Any]:
    """What transformers is to be told as it makes the tokenizer."""
    facts = header.facts
    said = "tokenizer.ggml.add_bos_token" in facts or facts.get("tokenizer.ggml.model") != _BYTES
    begun = not said and facts.get("tokenizer.ggml.pre") in _BEGUN
    return {"add_bos_token": True} if begun else {}


def mend(place: Path, header: Header, path: Path, load: Callable[[], Any]) -> Any:
    """Mends the tokenizer saved in the folder ``place``, and returns it as ``load`` reads it there.
    Raises InputError, in one sentence, for one that cannot be as the file says."""
    made = json.loads((place / _SAVED).read_text(encoding="utf-8"))
    kind, facts = header.facts.get("tokenizer.ggml.model"), header.facts
    if kind == _BYTES:
        _put_marks_back(made, header, path)
        _split(made, header, path)
        if facts.get("tokenizer.ggml.pre") in _WHOLE_WORDS:
            made["model"]["ignore_merges"] = True
    elif kind == "llama" and facts.get("tokenizer.ggml.add_space_prefix") is False:
        _begin_without_space(made)
    else:
        return load()
    _write(place / _SAVED, made)
    tokenizer = load()
    if found := _differing(tokenizer, made, header):
        made["normalizer"] = made["normalizer"] or found["normalizer"]
        _write(place / _SAVED, made)
        settings = place / "tokenizer_config.json"
        said = json.loads(settings.read_text(encoding="utf-8"))
        _write(settings, said | {"tokenizer_class": "TokenizersBackend"})
        tokenizer = load()
        if _differing(tokenizer, made, header):  # transformers takes the model's class even so
            raise _no_split(path, header)
    if kind == _BYTES:
        _check_marks(tokenizer, header, path)
    return tokenizer


def _differing(tokenizer: Any, made: dict[str, Any], header: Header) -> dict[str, Any] | None:
    """What is loaded, where its class splits text in its own way, whatever is saved and the file
    says; None where not."""
    found = json.loads(tokenizer.backend_tokenizer.to_str())
    unsaid = header.facts.get("tokenizer.ggml.pre") in _UNSAID
    in_bytes = header.facts.get("tokenizer.ggml.model") == _BYTES
    parts = ("decoder",) if unsaid and in_bytes else ("pre_tokenizer", "decoder")
    return found if any(found[part] != made[part] for part in parts) else None


def _no_split(path: Path, header: Header) -> InputError:
    name = header.facts.get("tokenizer.ggml.pre")
    return InputError(
        f"{path.name} splits text in a way ({name!s:.40}) that is not read from GGUF in a "
        f"{header.architecture} model: use the model's safetensors."
    )


def _write(path: Path, found: dict[str, Any]) -> None:
    path.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")


def _marks(header: Header, path: Path) -> dict[str, tuple[int, int]]:
    """Ids and types of the tokens that are found whole in a text."""
    tokens = header.array(path, "tokenizer.ggml.tokens")
    types = header.array(path, "tokenizer.ggml.token_type")
    pairs = enumerate(zip(tokens, types, strict=False))
    whole = (_CONTROL, _USER_DEFINED)
    return {token: (i, kind) for i, (token, kind) in pairs if kind in whole and token}


def _check_marks(tokenizer: Any, header: Header, path: Path) -> None:
    for token, (i, _) in _marks(header, path).items():
        if token.strip() and tokenizer.encode(token, add_special_tokens=False) != [i]:
            raise InputError(
                f"{path.name} has the mark {token:.40}, which its tokenizer does not find whole in "
                "transformers: use the model's safetensors."
            )


def _put_marks_back(made: dict[str, Any], header: Header, path: Path) -> None:
    """transformers respells tokens in bytes, the marks too that have other letters (DeepSeek's),
    and adds those that texts begin and end with again, beyond the last token."""
    marks, vocabulary = _marks(header, path), made["model"]["vocab"]
    spelled = {i: token for token, i in vocabulary.items()}
    merged = {"".join(pair) for pair in made["model"]["merges"]}
    added = [a for a in made["added_tokens"] if marks.get(a["content"], (a["id"],))[0] == a["id"]]
    there = {a["id"] for a in added}
    for token, (i, kind) in marks.items():
        if token not in vocabulary and spelled.get(i) not in merged:  # else merges find it
            vocabulary.pop(spelled.get(i), None)
            vocabulary[token] = i
        if i not in there and vocabulary.get(token) == i:
            flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            added.append({"id": i, "content": token, **flags, "special": kind == _CONTROL})
    made["added_tokens"] = sorted(added, key=lambda a: a["id"])
    for name, entry in ((made["post_processor"] or {}).get("special_tokens") or {}).items():
        if name in marks:
            entry["ids"] = [marks[name][0]]


def _split(made: dict[str, Any], header: Header, path: Path) -> None:
    """Sets how text is split before it is merged, where transformers does not know it."""
    name = header.facts.get("tokenizer.ggml.pre")
    if name in _AS_GPT2 or name in _known():
        return
    if name == "falcon":
        first: list[dict] = [{"type": "Punctuation", "behavior": "Contiguous"}, _in_bytes(True)]
        numbers = [{"type": "Digits", "individual_digits": False}, _at("[0-9][0-9][0-9]")]
        parts = [*first, *numbers]
    elif name in _DIGITS_FIRST:
        parts = [_at(_DIGIT), _in_bytes(True)]
    elif name in _SPLITS:
        parts = [*map(_at, _SPLITS[name]), _in_bytes(False)]
    else:
        raise _no_split(path, header)
    made["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": parts}


def _known() -> dict[str, str]:
    """The splits that the installed transformers sets."""
    try:
        from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
    except ImportError:
        return {}
    return GGUF_PRE_TOKENIZER_SPLITS


def _at(pattern: str) -> dict[str, Any]:
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }


def _in_bytes(split: bool) -> dict[str, Any]:
    """``split``: as GPT-2 does, too."""
    flags = {"add_prefix_space": False, "trim_offsets": True, "use_regex": split}
    return {"type": "ByteLevel", **flags}


def _begin_without_space(made: dict[str, Any]) -> None:
    if (made["pre_tokenizer"] or {}).get("type") == "Metaspace":
        made["pre_tokenizer"]["prepend_scheme"] = "never"
    for kind, parts, dropped in (
        ("normalizer", "normalizers", "Prepend"),
        ("decoder", "decoders", "Strip"),
    ):
        steps = (made[kind] or {}).get(parts)
        if steps:
            made[kind][parts] = [step for step in steps if step["type"] != dropped]
