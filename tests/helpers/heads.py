"""Tiny heads for tiny targets: of random weights, found beside the pair by their fingerprint."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path


def save_heads(folder: Path, target) -> Path:
    """``folder``/medusa and the other kinds, for a target of the tests."""
    import torch
    from safetensors.torch import save_file

    from stairs_core.forward.chimera_heads import ChimeraHeads
    from stairs_core.forward.medusa_heads import MedusaHeads
    from stairs_core.forward.pseudo_states import PseudoStates
    from stairs_core.models import eagle_format, heads

    torch.manual_seed(7)
    text = target.config.get_text_config()
    width, last = text.hidden_size, text.num_hidden_layers
    medusa = {"medusa_num_heads": 3, "medusa_num_layers": 1}
    chimera = {"chimera_num_heads": 3, "chimera_attention_heads": 4}
    entries = {"hidden-transfer": [1, max(1, last - 1), last], "firp": [max(1, last - 1)] * 3}
    pseudo = {n: (PseudoStates(width, at), {"pseudo_layers": at}) for n, at in entries.items()}
    made = {
        "medusa": (MedusaHeads(width, 3), medusa),
        "chimera": (ChimeraHeads(width, 3, 4, 8), chimera | {"chimera_intermediate_size": 8}),
        **pseudo,
    }
    for weight in (w for module, _ in made.values() for w in module.parameters()):
        torch.nn.init.normal_(weight, std=0.1)
    about = heads.described(target)
    facts = {kind: {"stairs_head": kind, **config, **about} for kind, (_, config) in made.items()}
    made["eagle"] = make_eagle(target)
    facts["eagle"] = made["eagle"][1] | eagle_format.beside(about)
    for kind, (module, _) in made.items():
        place = folder / kind
        place.mkdir(parents=True, exist_ok=True)
        save_file(module.state_dict(), place / "model.safetensors", {"format": "pt"})
        (place / "config.json").write_text(json.dumps(facts[kind]))
    if not target.config.is_encoder_decoder:
        save_table(folder / "ngram-table", target)
    if target.config.model_type == "llama":
        save_slm(folder / "slm", target)
    return folder


def save_table(folder: Path, target) -> None:
    """What the target says after each token alone."""
    import torch
    from safetensors.torch import save_file

    from stairs_core.models import heads
    from stairs_core.models.ngram_tables import key

    count = min(512, target.config.get_text_config().vocab_size)
    with torch.no_grad():
        every = torch.arange(count)[:, None].to(target.device)
        after = target(input_ids=every).logits[:, -1].argmax(-1).cpu()
    keys, order = torch.tensor([key([token]) for token in range(count)]).sort()
    columns = {"keys": keys, "tokens": after[order].int(), "shares": torch.full((count,), 60)}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(columns, folder / "model.safetensors", {"format": "pt"})
    facts = {"stairs_head": "ngram-table", "longest": 1, **heads.described(target)}
    (folder / "config.json").write_text(json.dumps(facts))


def save_slm(folder: Path, target, *, tokenizer=None, how: str = "add", **changes) -> Path:
    """A small model with a projector: the target's first two layers, so that it often agrees.

    ``tokenizer``: its own. ``changes``: of its config; another ``vocab_size`` gives it random
    embeddings.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaForCausalLM

    from stairs_core.forward.llm_to_slm import Projector
    from stairs_core.models import heads

    torch.manual_seed(8)
    config = type(target.config).from_dict({**target.config.to_dict(), "num_hidden_layers": 2})
    config.vocab_size = changes.pop("vocab_size", config.vocab_size)
    small, width = LlamaForCausalLM(config), config.hidden_size
    own, theirs = small.state_dict(), target.state_dict()
    small.load_state_dict(
        {n: theirs[n] if theirs[n].shape == t.shape else t for n, t in own.items()}
    )
    parts = torch.nn.ModuleDict({"projector": Projector(width, 16, width), "slm": small})
    weights = {name: weight.clone() for name, weight in parts.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    facts = {"stairs_head": "slm", "layer": 2, "inject": how, "inner": 16, "slm": config.to_dict()}
    (folder / "config.json").write_text(json.dumps({**heads.described(target), **facts, **changes}))
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


def make_eagle(target, **changes):
    """An EAGLE-3 head of random weights for a target, which cannot guess every fifth token, and its
    config. ``changes``: of its shape."""
    import torch

    from stairs_core.forward.eagle_head import EagleHead
    from stairs_core.models import eagle_format
    from stairs_core.training.heads import eagle, features

    tokens = target.config.get_text_config().vocab_size
    ids = torch.tensor([i for i in range(tokens) if i % 5 != 4])
    shape = eagle.shape_for(target, features.usual_layers(target), len(ids))
    shape = replace(shape, **changes)
    torch.manual_seed(8)
    module = EagleHead(shape, tokens)
    module.d2t.copy_(ids - torch.arange(len(ids)))
    module.t2d[ids] = True
    for name, weight in module.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.uniform_(weight, 0.5, 1.5)
    return module, eagle_format.config_of(shape, target, 4)
