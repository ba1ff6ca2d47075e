"""Tiny GGUF files of three architectures, written by the library ``gguf``, with random blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

WIDTH, HEADS, KV_HEADS, VOCABULARY = 256, 4, 2, 320
KINDS = ("Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q6_K", "F16")
_CONTROL = ("<pad>", "<eos>", "<bos>", "<unk>")
TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant] "


def write(
    path: Path,
    architecture: str = "llama",
    template: str = "",
    *,
    left_out: tuple[str, ...] = (),
    more: Mapping[str, np.ndarray] = MappingProxyType({}),
    renamed: Mapping[int, str] = MappingProxyType({}),
    types: Mapping[int, str] = MappingProxyType({}),
    pieces: bool = False,
    **changes: Any,
) -> Path:
    """A model of one layer, whose matrices have the types in ``KINDS``.

    ``changes``: other values of the file's key-value pairs, by name with a dot for every ``__``.
    ``left_out``: pairs and tensors that the file lacks. ``more``: float32 tensors that it has
    besides. ``renamed``: tokens by id, and ``types``: of some. ``pieces``: they are
    SentencePiece's, as Gemma's always are.
    """
    from gguf import GGUFWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, architecture)
    pairs = {f"{architecture}.{name}": value for name, value in _sizes(architecture).items()}
    pairs |= {name.replace("__", "."): value for name, value in changes.items()}
    _add_pairs(writer, {name: v for name, v in pairs.items() if name not in left_out})
    pieces = pieces or architecture.startswith("gemma")
    _add_tokens(writer, "llama" if pieces else "gpt2", renamed, types, left_out)
    for name in ("eos", "bos"):
        if f"tokenizer.ggml.{name}_token_id" not in pairs:
            writer.add_uint32(f"tokenizer.ggml.{name}_token_id", 0)
    if template:
        writer.add_chat_template(template)
    for name, values in more.items():
        writer.add_tensor(name, values.astype(np.float32))
    for i, (name, shape) in enumerate(shapes(architecture).items()):
        if name in left_out:
            continue
        if len(shape) == 1:
            random = np.random.default_rng(i).normal(1, 0.1, shape)
            writer.add_tensor(name, random.astype(np.float32))
        else:
            data, kind = _blocks(KINDS[i % len(KINDS)], shape, seed=i)
            writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def convert(
    path: Path,
    architecture: str,
    model: Any,
    respell: Callable[[str, Any], Any] = lambda name, weight: weight,
    *,
    more: Mapping[str, np.ndarray] = MappingProxyType({}),
    **changes: Any,
) -> Path:
    """A model of transformers of two layers, as llama.cpp's converter writes it, in float32.

    ``respell``: its weights by name as that converter writes them; None for one that it leaves out.
    ``more`` and ``changes`` as in ``write``, but for the architecture's name in the latter.
    """
    from gguf import MODEL_ARCH_NAMES, GGUFWriter, get_tensor_name_map

    writer = GGUFWriter(path, architecture)
    _add_pairs(writer, {f"{architecture}.{n.replace('__', '.')}": v for n, v in changes.items()})
    _add_tokens(writer, "t5" if architecture == "t5" else "gpt2")
    writer.add_eos_token_id(0)
    kind = next(a for a, name in MODEL_ARCH_NAMES.items() if name == architecture)
    names = get_tensor_name_map(kind, 2)
    for name, weight in model.state_dict().items():
        if (written := respell(name, weight)) is not None:
            called = str(names.get_name(name, try_suffixes=(".weight", ".bias")))
            if not called.endswith((".weight", ".bias")):
                called += ".weight"
            writer.add_tensor(called, np.ascontiguousarray(written.float().numpy()))
    for name, values in more.items():
        writer.add_tensor(name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokens(
    writer: Any,
    kind: str,
    renamed: Mapping[int, str] = MappingProxyType({}),
    types: Mapping[int, str] = MappingProxyType({}),
    left_out: tuple[str, ...] = (),
) -> None:
    from gguf import TokenType

    tokens, merges = _vocabulary()
    for i, token in renamed.items():
        tokens[i] = token
    control = [t.startswith(("<|", "<｜")) or t in _CONTROL for t in tokens]
    kinds = [TokenType.CONTROL if c else TokenType.NORMAL for c in control]
    for i, name in types.items():
        kinds[i] = TokenType[name]
    writer.add_tokenizer_model(kind)
    arrays: dict[str, list] = {"tokens": tokens, "token_type": kinds}
    if kind != "gpt2":
        arrays["scores"] = [-float(i) for i in range(len(tokens))]
    else:
        arrays["merges"] = merges
    for name, values in arrays.items():
        if f"tokenizer.ggml.{name}" not in left_out:
            writer.add_array(f"tokenizer.ggml.{name}", values)


def _add_pairs(writer: Any, pairs: Mapping[str, Any]) -> None:
    adds = {str: writer.add_string, float: writer.add_float32, int: writer.add_uint32}
    adds |= {bool: writer.add_bool}
    for name, value in pairs.items():
        adds[type(value)](name, value)


def dequantised(path: Path) -> dict[str, np.ndarray]:
    """Every tensor of a file by its name there, as the library dequantises it."""
    from gguf import GGUFReader, dequantize

    return {t.name: dequantize(t.data, t.tensor_type) for t in GGUFReader(path).tensors}


def _sizes(architecture: str) -> dict[str, float]:
    found: dict[str, float] = {
        "context_length": 128,
        "embedding_length": WIDTH,
        "block_count": 1,
        "feed_forward_length": WIDTH,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 10000.0,
        "vocab_size": VOCABULARY,
    }
    if architecture == "gemma2":
        found |= {"attention.key_length": WIDTH // HEADS, "attention.value_length": WIDTH // HEADS}
        found |= {"attention.sliding_window": 64}
        found |= {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
    return found


def shapes(architecture: str) -> dict[str, tuple[int, ...]]:
    """Of the tensors of a model, by their names."""
    narrow = WIDTH * KV_HEADS // HEADS
    norms = ["attn_norm", "ffn_norm"]
    if architecture == "gemma2":
        norms += ["post_attention_norm", "post_ffw_norm"]
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCABULARY, WIDTH)}
    for name, rows in {"attn_q": WIDTH, "attn_k": narrow, "attn_v": narrow}.items():
        found[f"blk.0.{name}.weight"] = (rows, WIDTH)
        if architecture == "qwen2":
            found[f"blk.0.{name}.bias"] = (rows,)
    for name in ("attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        found[f"blk.0.{name}.weight"] = (WIDTH, WIDTH)
    for name in norms:
        found[f"blk.0.{name}.weight"] = (WIDTH,)
    return found | {"output_norm.weight": (WIDTH,)}


def _blocks(name: str, shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, Any]:
    """A matrix in a type. Where the library cannot quantise to it: valid random blocks."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quantize

    kind = GGMLQuantizationType[name]
    random = np.random.default_rng(seed)
    if not name.endswith("_K"):
        values = random.normal(0, 0.1, shape).astype(np.float32)
        return quantize(values, kind), kind
    width, size = GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (shape[0], shape[1] // width, size), dtype=np.uint8)
    scales = random.uniform(1e-4, 1e-3, (*blocks.shape[:2], 2)).astype(np.float16).view(np.uint8)
    if name == "Q4_K":
        blocks[..., :4] = scales  # the scale and the minimum's scale
    else:
        blocks[..., -2:] = scales[..., :2]
    return blocks.reshape(shape[0], -1), kind


def _vocabulary() -> tuple[list[str], list[str]]:
    """A byte-level alphabet, the start of which is the end of texts, and a few merges."""
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = ["t h", "th e", "Ġ the", "a n", "an d"]
    tokens = ["<|endoftext|>", *letters, *(pair.replace(" ", "") for pair in merges)]
    return tokens + [f"<|{i}|>" for i in range(len(tokens), VOCABULARY)], merges
