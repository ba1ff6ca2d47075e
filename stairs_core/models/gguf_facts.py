"""What transformers does not read from a GGUF file, without which it would be another model: how
rotary angles are scaled for long texts, how queries are, and which tokens end a turn.

The names: github.com/ggml-org/ggml, docs/gguf.md, and llama.cpp's ``llama-arch.cpp``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..errors import InputError
from .gguf_header import Header

_LLAMA3 = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
"""Of all published models with this scaling."""
_LARGEST_GEMMA = {"gemma2": 46, "gemma3": 62}
"""How many layers the models of 27 B have."""
_NEAR = 1e-3  # of a factor: the converter computes with fewer bits
_TURNS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<turn|>", "<|end_of_text|>")
"""Tokens that end a turn or a text, where a chat template names them: as llama.cpp knows them."""
_END, _OF_PARTS = "<|end|>", {"<|return|>", "<|call|>"}
"""One more, but not beside these: gpt-oss ends the parts of a turn with it."""


def scale_angles(config: Any, header: Header, path: Path) -> None:
    """Sets the config's ``rope_parameters`` as the file says.

    Raises InputError for a kind of scaling that transformers does not know.
    """
    usual = getattr(config, "rope_parameters", None) or {}
    one = usual.get("full_attention", usual)  # of several kinds of layers; windows need no scaling
    if one.get("rope_type", "default") != "default":
        return  # transformers knows it by itself: of Gemma 4, of gpt-oss
    found = _of_tensors(config, one, header, path) or _of_pairs(config, header, path)
    if found is None:
        return
    if not one:
        raise InputError(f"{path.name} scales angles that its model does not have: use another.")
    scaled = {**one, **found}
    config.rope_parameters = {**usual, "full_attention": scaled} if one is not usual else scaled
    if hasattr(config, "original_max_position_embeddings"):
        config.original_max_position_embeddings = found.get("original_max_position_embeddings")


def scale_queries(config: Any, header: Header) -> None:
    """Sets what Gemma divides queries by, which its files do not hold: the width of a head, but in
    the models of 27 B the share of the whole width, as in llama.cpp."""
    if header.architecture in _LARGEST_GEMMA:
        width = config.head_dim
        if config.num_hidden_layers == _LARGEST_GEMMA[header.architecture]:
            width = config.hidden_size // config.num_attention_heads
        config.query_pre_attn_scalar = width


def _of_tensors(
    config: Any, usual: dict[str, Any], header: Header, path: Path
) -> dict[str, Any] | None:
    """The scaling where tensors hold a factor for each frequency, in the words of transformers."""
    each = header.floats(path, "rope_freqs.weight")
    if each and {*each} != {1.0}:
        if _are_llama3(each, usual.get("rope_theta", 0.0)):
            return {"rope_type": "llama3", "factor": max(each), **_LLAMA3}
        same = {"short_factor": each, "long_factor": each, "attention_factor": 1.0}
        return _long(config, header) | same
    short, long = (header.floats(path, f"rope_factors_{n}.weight") for n in ("short", "long"))
    if not short or not long:
        return None
    found = _long(config, header) | {"short_factor": short, "long_factor": long}
    more = _fact(header, "attn_factor")
    return found | ({"attention_factor": more} if more else {})


def _long(config: Any, header: Header) -> dict[str, Any]:
    lengths = {"original_max_position_embeddings": _trained(config, header)}
    return {"rope_type": "longrope", **lengths}


def _are_llama3(factors: list[float], theta: float) -> bool:
    """Whether these are the factors of Llama 3 (``transformers.modeling_rope_utils``)."""
    if theta <= 1 or min(factors) < 1 - _NEAR:
        return False
    low, high, trained = _LLAMA3.values()
    for i, found in enumerate(factors):
        turns = trained / (2 * math.pi * theta ** (i / len(factors)))
        smooth = min(max((turns - low) / (high - low), 0.0), 1.0)
        if abs(found * ((1 - smooth) / max(factors) + smooth) - 1) > _NEAR:
            return False
    return True


def _of_pairs(config: Any, header: Header, path: Path) -> dict[str, Any] | None:
    """The scaling where key-value pairs say it, in the words of transformers."""
    factor = _fact(header, "factor")
    kind = _fact(header, "type") or "linear"
    if kind == "none" or not factor or factor == 1:
        return None
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    if kind != "yarn":
        raise InputError(
            f"{path.name} scales angles in a way ({kind!s:.40}) that is not read from GGUF: use "
            "the model's safetensors."
        )
    found = {"rope_type": "yarn", "factor": factor}
    found["original_max_position_embeddings"] = _trained(config, header)
    for name in ("beta_fast", "beta_slow"):
        if value := _fact(header, f"yarn_{name}"):
            found[name] = value
    if (more := _fact(header, "attn_factor") or 1) != 1:
        found["attention_factor"] = more * (1 + 0.1 * math.log(factor))
    return found


def _fact(header: Header, name: str) -> Any:
    return header.fact(f"rope.scaling.{name}")


def _trained(config: Any, header: Header) -> int:
    """The length of the texts that the model was trained on, before its angles were scaled."""
    return _fact(header, "original_context_length") or config.max_position_embeddings


def ends(header: Header, tokenizer: Any, known: Any) -> list[int]:
    """The ids of all tokens that end a text or a turn: the file names one of each sort, and a chat
    template others. ``known``: one or several that transformers knows already, or None."""
    vocabulary, template = tokenizer.get_vocab(), str(tokenizer.chat_template or "")
    words = _TURNS if vocabulary.keys() >= _OF_PARTS else (*_TURNS, _END)
    named = [header.facts.get(f"tokenizer.ggml.{n}_token_id") for n in ("eos", "eot", "eom")]
    turns = [vocabulary.get(word) for word in words if word in template]
    ids = [*(known if isinstance(known, list) else [known]), *named, *turns]
    return [*dict.fromkeys(i for i in ids if type(i) is int and 0 <= i < len(tokenizer))]
