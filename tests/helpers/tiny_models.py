"""Tiny tokenizers and models, random and the same on every machine, and folders of pairs."""

from __future__ import annotations

import json
from pathlib import Path

from elsewhere import placed
from heads import save_heads

WORDS = [
    "Once upon a time there was a small fox who had a key.",
    "The fox ran to the river and sang: «été, naïve, 你好, 🦊🔑»!",
    "<b>Tags</b>, ${braces} and {{more}} are text like any other.",
]


def make_tokenizer(extra: str = ""):
    """A byte-level BPE of 320 entries, so that a character outside ASCII takes several tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator([*WORDS, extra], trainer)
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=end, bos_token=end)


def make_pieces():
    """As Llama 2 has it: a space before every text, bytes in words, a start and an end; 400."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    space = normalizers.Replace(" ", "\u2581")
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), space])
    back = decoders.Replace("\u2581", " ")
    inner.decoder = decoders.Sequence(
        [back, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    marks = ["<unk>", "<s>", "</s>"]
    names = [*marks, *(f"<0x{i:02X}>" for i in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=names, show_progress=False)
    words = [word for line in WORDS[:1] * 3 for word in line.split()]
    inner.train_from_iterator(words, trainer)
    raw = json.loads(inner.to_str())
    raw["model"]["byte_fallback"] = True  # the trainer has forgotten it
    raw["added_tokens"] = [t for t in raw["added_tokens"] if t["content"] in marks]
    inner = Tokenizer.from_str(json.dumps(raw))
    inner.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def make_model(layers: int = 2, seed: int = 0, **changes):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=changes.pop("vocab_size", 320),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        eos_token_id=0,
        bos_token_id=0,
        pad_token_id=None,
        stairs_space=changes.pop("stairs_space", {"k": 5, "mask_token_id": 1}),
        **changes,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config).eval()
    for name, weight in model.named_parameters():
        if weight.dim() > 1:
            # Larger than at the start of training, so that the most likely token keeps changing.
            torch.nn.init.normal_(weight, std=0.25 if "embed" not in name else 1.0)
    return placed(model)


def perturb(model, strength: float = 0.12, seed: int = 1):
    """A twin that mostly agrees: the stand-in for a draft."""
    import copy

    import torch

    twin = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in twin.parameters():
            noise = torch.randn(weight.shape, generator=generator).to(weight.device)
            weight.add_(noise * weight.std().nan_to_num(0.0) * strength)
    return twin


def save_pair(folder: Path, target, draft, tokenizer=None) -> Path:
    tokenizer = tokenizer or make_tokenizer()
    for name, model in (("target", target), ("draft", draft)):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    save_heads(folder / "heads", target)
    return folder
