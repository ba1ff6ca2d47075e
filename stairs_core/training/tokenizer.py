"""One byte-level BPE for both models, made from the training text."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from ..errors import InputError
from .corpus import END

MASK = "<|mask|>"


def train_tokenizer(texts: Iterable[str], vocab: int, positions: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of exactly ``vocab`` entries; ``<|endoftext|>`` is 0 and ``<|mask|>`` is 1.

    Any bytes round-trip. Encoding a text prepends ``<|endoftext|>``, so a prompt looks as a story's
    start looked in training. Raises ``InputError`` where the text is too short for the vocabulary.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[END, MASK],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != vocab:
        raise InputError(
            f"The text gives {tokenizer.get_vocab_size()} vocabulary entries where "
            f"{vocab} are needed: add more text to the corpus."
        )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END} $A", pair=f"{END} $A $B", special_tokens=[(END, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        mask_token=MASK,
        model_max_length=positions,
        clean_up_tokenization_spaces=False,
    )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Load what ``train_tokenizer`` saved; ``InputError`` when the stage was not run."""
    if not (folder / "tokenizer.json").is_file():
        raise InputError(f"There is no tokenizer in {folder}: run --stage tokenizer first.")
    return PreTrainedTokenizerFast.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
