"""The target's hidden states over its own texts. On a CPU they are computed once and kept on disk,
for every head; a GPU computes them again in every step, sooner than a disk gives them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tqdm.auto import tqdm

from ...forward import hidden_states
from ...models import cache
from .texts import save_whole

ROWS = 32
"""Texts of one pass."""


def usual_layers(model: Any) -> tuple[int, ...]:
    """The layers that are kept, by how many have run: three for EAGLE (a low, a middle and a high
    one), and the last, which Medusa's heads read.

    The high one is the last but one: servers hand a layer's input to the head, and no layer has the
    last one's output as its input.
    """
    count = model.config.get_text_config().num_hidden_layers
    return (max(1, count // 3), max(1, 2 * count // 3), max(1, count - 1), count)


def are_kept(model: Any) -> bool:
    """Whether hidden states are computed once and kept."""
    return model.device.type == "cpu"


def check_space(folder: Path, size: int, files: int) -> None:
    """Raises InputError where the disk has no room for what is missing of ``size`` bytes in so many
    files of features."""
    there = len([*folder.glob("features-*.safetensors")])
    needed = size * max(0, files - there) // files
    fix = "free some, lower --tokens, or name another --work folder"
    cache.check_room(folder, needed, "The target's hidden states take", fix)


def place(texts: Path) -> Path:
    """The file of the features of a file of texts."""
    return texts.with_name(texts.name.replace("texts-", "features-"))


@torch.no_grad()
def states_of(model: Any, ids: torch.Tensor, layers: Sequence[int]) -> torch.Tensor:
    """[texts, length, layers, width], bfloat16, on the model's device: what these layers give for
    ``ids`` [texts, length]."""
    with hidden_states.caught(model, layers) as found:
        model.get_decoder()(input_ids=ids.to(model.device), use_cache=False)
    return torch.stack([found[n] for n in layers], 2).bfloat16()


def write_features(model: Any, texts: Sequence[Path], layers: Sequence[int]) -> list[Path]:
    """The files of the features, of which those that exist are kept.

    Each holds ``hidden``, from ``states_of``; what is after a text's end is padding.
    """
    bar = tqdm(total=len(texts), desc="features", unit="file")
    for file in texts:
        if not place(file).is_file():
            ids = load_file(file)["ids"].long()
            parts = []
            for rows in ids.split(ROWS):
                parts.append(states_of(model, rows, layers).cpu())
            save_whole({"hidden": torch.cat(parts)}, place(file))
        bar.update(1)
    bar.close()
    return [place(file) for file in texts]
