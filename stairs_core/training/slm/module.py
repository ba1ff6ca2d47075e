"""What is trained: the projector and the small model, as one module, on the responses."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ...errors import InputError
from ...forward import hidden_states
from ...forward.encoder_decoder import reads_apart
from ...forward.llm_to_slm import Projector, injected
from ..heads.loop import Batch, Loss
from .batches import IGNORE


class LlmToSlm(nn.Module):
    """``projector`` and ``slm``. ``how``: "add", "replace", or "none" for the SLM alone. ``part``:
    what of the SLM is trained, "all" or its "attention" with its vectors (norms and biases)."""

    def __init__(self, slm: Any, llm_width: int, inner: int, how: str, part: str = "all") -> None:
        super().__init__()
        self.slm, self.how = slm, how
        for name, weight in slm.named_parameters():
            weight.requires_grad_(part == "all" or "attn" in name or weight.dim() == 1)
        width = slm.config.get_text_config().hidden_size
        self.projector = Projector(llm_width, inner, width, zero=how == "add")

    def forward(self, batch: Batch, features: torch.Tensor | None) -> torch.Tensor:
        """[texts, tokens, vocabulary]: the SLM's logits. ``features``: [texts, LLM prompt, LLM
        width]."""
        x = self.slm.get_input_embeddings()(batch["ids"])
        if features is not None:
            pooled = batch["pool"] @ features.float()
            z = self.projector(pooled).to(x.dtype)
            prompt = x[:, : z.shape[1]]
            read = torch.where(batch["inside"][..., None], injected(prompt, z, self.how), prompt)
            x = torch.cat([read, x[:, z.shape[1] :]], 1)
        return self.slm(inputs_embeds=x, use_cache=False).logits

    def kept(self, frozen: bool = True) -> dict[str, torch.Tensor]:
        """The tensors of its file: an output matrix that is the embedding is left out, and so is
        what was not trained unless ``frozen``."""
        tensors = self.state_dict()
        if not frozen:
            trained = {name for name, p in self.named_parameters() if p.requires_grad}
            tensors = {name: t for name, t in tensors.items() if name in trained}
        head, embedding = self.slm.get_output_embeddings(), self.slm.get_input_embeddings()
        if head is not None and head.weight is embedding.weight:
            tensors = {n: t for n, t in tensors.items() if not n.endswith("lm_head.weight")}
        return tensors


def layers_of(llm: Any) -> tuple[int, ...]:
    """The layers that are tried: a quarter, half and three quarters of the way, and the last one;
    of an encoder-decoder model its encoder's output alone, which is called 0."""
    if reads_apart(llm):
        return (0,)
    count = llm.config.get_text_config().num_hidden_layers
    return tuple(sorted({max(1, round(count * part)) for part in (0.25, 0.5, 0.75, 1)}))


def check_layer(llm: Any, layer: str) -> int | None:
    """The layer that was asked for; None for "auto". Raises InputError where there is none such."""
    if layer == "auto":
        return None
    known = (
        (0,) if reads_apart(llm) else range(1, llm.config.get_text_config().num_hidden_layers + 1)
    )
    if not layer.isdecimal() or int(layer) not in known:
        raise InputError(
            f"There is no layer {layer:.20} of this LLM: give a number from {known[0]} to "
            f"{known[-1]}, or auto."
        )
    return int(layer)


@torch.no_grad()
def features_of(llm: Any, ids: torch.Tensor, mask: torch.Tensor, layer: int) -> torch.Tensor:
    """[texts, prompt, LLM width]: hidden states of a layer over prompts, or the encoder's output.

    ``ids`` and ``mask``: [texts, prompt].
    """
    if reads_apart(llm):
        return llm.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
    with hidden_states.caught(llm, (layer,)) as found:
        llm.get_decoder()(input_ids=ids, attention_mask=mask, use_cache=False)
    return found[layer]


def loss_of(module: LlmToSlm, llm: Any, layer: int, dtype: torch.dtype) -> Loss:
    """Cross-entropy on the responses, in nats a token: the mean by weight. Beside it the plain mean
    over tokens of weight 1, and over those that weigh something else, the stressed ones."""

    def loss(batch: Batch) -> tuple[torch.Tensor, dict[str, Any]]:
        batch = {name: t.to(llm.device) for name, t in batch.items()}
        features = None
        if module.how != "none":
            features = features_of(llm, batch["llm_ids"], batch["llm_mask"], layer)
        with torch.autocast(llm.device.type, dtype, enabled=dtype is not torch.float32):
            logits = module(batch, features)
        wanted, weights = (batch[n][:, 1:].flatten() for n in ("labels", "weights"))
        rows = logits[:, :-1].float().flatten(0, 1)
        nats = F.cross_entropy(rows, wanted, ignore_index=IGNORE, reduction="none")
        plain = (weights == 1).float(), ((weights != 0) & (weights != 1)).float()
        others, words = ((nats.detach() * m).sum() / m.sum().clamp(min=1) for m in plain)
        return (nats * weights).sum() / weights.sum(), {"others": others, "words": words}

    return loss
