"""LLM-to-SLM (arXiv 2402.16844) at work: a small model that ``stairs train slm`` taught to read
prompts with the target's help.

It lies where heads lie (``heads``): a folder with the projector's and the small model's weights,
and with a tokenizer where that is not the target's. ``forward.llm_to_slm`` has the method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from ..errors import InputError, Use, Word
from ..forward import capabilities, faster_pass, hidden_states
from ..forward.cached_model import CachedModel
from ..forward.encoder_decoder import bind, reads_apart
from ..forward.fitted_draft import Fitted, vocabulary
from ..forward.llm_to_slm import INJECTIONS, Projector, Prompted, pooling
from ..quiet import quiet
from ..settings.methods import FREE
from ..text.alignment import spans
from ..text.cross_tokenizer import Language
from . import heads, load
from .pair import Pair

KIND = "slm"
_LOADED: WeakKeyDictionary[Any, tuple[object, Slm]] = WeakKeyDictionary()
"""By target: the state of the folder when it was read, and what was in it."""


@dataclass(frozen=True)
class Slm:
    """``layer``: of the target, whose hidden states it reads; 0: its encoder's output. ``how``: of
    ``INJECTIONS``. ``tokenizer``: its own; None where it has the target's."""

    folder: Path
    model: Any
    projector: Projector
    layer: int
    how: str
    tokenizer: Any | None
    parameters: int
    bytes: int

    @property
    def context_length(self) -> int:
        return capabilities.table_length(self.model)

    @cached_property
    def language(self) -> Language:
        """Its own tokenizer and its ends."""
        ends = self.model.generation_config.eos_token_id
        ends = self.tokenizer.eos_token_id if ends is None and self.tokenizer else ends
        return Language(
            self.tokenizer, ends if isinstance(ends, list) else [] if ends is None else [ends]
        )

    @torch.inference_mode()
    def projected(
        self, hidden: torch.Tensor, ids: list[int], own: list[int], pair: Pair
    ) -> torch.Tensor:
        """[own tokens, SLM width]: what is added to the embeddings of the prompt.

        ``hidden``: [tokens, width], the target's over the prompt. ``ids`` and ``own``: the prompt
        for the target and for this model; the same where the tokenizer is.
        """
        if self.tokenizer is not None:
            weights = pooling(spans(self.language.speller, own), spans(pair.speller, ids))
            hidden = weights.to(hidden.device, hidden.dtype) @ hidden
        return self.projector(hidden.to(self.model.dtype))

    def reader(self, projected: Callable[[], torch.Tensor], width: int) -> Any:
        """The model for texts that begin with the prompt that ``projected`` is of; it is called
        when it is first needed. ``width``: the vocabulary that logits are wanted over."""
        prompted = Prompted(self.model, projected, self.how)
        own = vocabulary(self.model)
        if own == width:
            return prompted
        return Fitted(prompted, width, range(min(own, width)))


def guesser(pair: Pair) -> Slm:
    """The small model of a pair, to guess for its target. Raises InputError where it cannot: for a
    target whose prompts an encoder reads, and where a tokenizer of its own is needed and the caller
    has ids only."""
    if reads_apart(pair.target):
        raise InputError(
            f"An encoder reads the prompts of {pair.target_name}, and no small model can guess for "
            "it: ",
            Use(drafter=FREE),
            ".",
        )
    slm = of(pair)
    if slm.tokenizer is not None and pair.tokenizer is None:
        raise InputError(
            f"The small model of {pair.target_name} has another tokenizer, so it reads texts, and "
            "generate has ids: use another ",
            Word("drafter"),
            ".",
        )
    return slm


def of(pair: Pair) -> Slm:
    """The small model of a pair's target, loaded once. Raises InputError where there is none."""
    target = pair.target
    folder = heads.find(KIND, target)
    file = folder / "model.safetensors" if folder else None
    state = (file, file.stat().st_mtime_ns) if file and file.is_file() else None
    known = _LOADED.get(target)
    if known is None or state is None or known[0] != state:
        known = state, _load(pair)
        _LOADED[target] = known
    return known[1]


def alone(pair: Pair) -> Pair:
    """The pair whose target is the small model, reading prompts with the help of the given pair's
    target: what it writes is another text. Raises InputError where there is no such model."""
    slm = of(pair)
    tokenizer = slm.tokenizer or pair.tokenizer
    return replace(
        pair,
        target=_Alone(pair, slm),
        draft=None,
        draft_name=None,
        tokenizer=tokenizer,
        draft_tokenizer=tokenizer,
        eos_ids=pair.eos_ids if slm.tokenizer is None else slm.language.eos_ids,
        context_length=min(pair.context_length, slm.context_length),
        parameters=(pair.parameters[0] + slm.parameters, 0),
        bytes=(pair.bytes[0] + slm.bytes, 0),
    )


class _Alone:
    """The small model, called like a target. Bound to a prompt (``encoder_decoder.bind``), it reads
    that with the help of the large model, which reads it in the first pass, once."""

    def __init__(self, pair: Pair, slm: Slm) -> None:
        self._pair, self._slm, self.inner = pair, slm, slm.model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._slm.model, name)

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        return self._slm.model(*inputs, **named)

    def for_prompt(self, ids: list[int]) -> Any:
        """The model for texts that begin with the prompt ``ids``, in its own tokenizer's ids."""
        pair, slm = self._pair, self._slm

        def projected() -> torch.Tensor:
            large = ids
            if slm.tokenizer is not None:
                text = "".join(slm.language.speller.spell_all(ids)[0])
                large = pair.tokenizer.encode(text.removeprefix(slm.language.lead))
            return slm.projected(_read(pair, large, slm.layer), large, ids, pair)

        return slm.reader(projected, vocabulary(slm.model))


def _read(pair: Pair, ids: list[int], layer: int) -> torch.Tensor:
    """[tokens, width]: the target's hidden states over a prompt, or its encoder's output."""
    if reads_apart(pair.target):
        prompt = torch.tensor([ids], device=pair.target.device)
        return pair.target.get_encoder()(input_ids=prompt).last_hidden_state[0]
    target = CachedModel(bind(pair.target, ids), cached=False)
    target.read_layers((layer,))
    target.logits(ids, 1)
    hidden = target.hidden(ids, [], 0)
    assert hidden is not None
    return hidden[:, 0]


def _load(pair: Pair) -> Slm:
    head = heads.load(KIND, pair.target, pair.target_name)
    how, layer = head.config.get("inject"), head.config.get("layer")
    layers = range(1, pair.target.config.get_text_config().num_hidden_layers + 1)
    layers = (0,) if reads_apart(pair.target) else layers  # 0: the encoder's output
    if how not in INJECTIONS or type(layer) is not int or layer not in layers:
        raise InputError(
            f"{head.folder} is damaged: its config.json says inject = {how!r:.20} and layer = "
            f"{layer!r:.20}."
        )
    both = _stock(head, pair.target)
    weights = [*both.parameters()]
    size = sum(w.numel() for w in weights), sum(w.nbytes for w in weights)
    ready: Any = both["slm"]
    # A target that is no module is one of our faster ones: then this model gets one too.
    if not isinstance(pair.target, nn.Module):
        ready = faster_pass.build(ready, "auto", lambda: _stock(head, pair.target)["slm"])
    own = (head.folder / "tokenizer_config.json").is_file()
    tokenizer = load.load_tokenizer(str(head.folder)) if own else None
    return Slm(head.folder, ready, both["projector"], layer, how, tokenizer, *size)  # type: ignore[arg-type]


def _stock(head: heads.Head, target: Any) -> nn.ModuleDict:
    """Projector and SLM, as transformers has it, with their weights."""
    try:
        with quiet():
            config = AutoConfig.for_model(**head.config["slm"])
            model = AutoModelForCausalLM.from_config(config)
    except Exception as e:  # libraries may raise anything
        raise InputError(f"{head.folder} is damaged: its SLM's config is not understood.") from e
    _complete(head, model)
    widths = target.config.get_text_config().hidden_size, config.get_text_config().hidden_size
    projector = Projector(widths[0], head.number("inner"), widths[1])
    both = nn.ModuleDict({"projector": projector, "slm": model})
    embedding, output = model.get_input_embeddings().weight, model.get_output_embeddings()
    if output is not None and output.weight is embedding:  # then its file has it once
        names = [n for n, p in both.named_parameters(remove_duplicate=False) if p is embedding]
        known = next((head.tensors[n] for n in names if n in head.tensors), None)
        head.tensors.update({n: known for n in names if known is not None})
    return head.fill(both, target)


def _complete(head: heads.Head, model: Any) -> None:
    """What was not trained is not in the head's file, where the bundled pair has it: ``slm_from``
    says which of the two models it was, and the fingerprint of that."""
    start = head.config.get("slm_from")
    if start is None:
        return
    role, fingerprint = start if isinstance(start, list) and len(start) == 2 else (None, None)
    if role not in ("target", "draft"):
        raise InputError(
            f"{head.folder} is damaged: its config.json says slm_from = {start!r:.40}."
        )
    weights = heads.tensors(load.BUNDLED / role)
    try:
        model.load_state_dict(weights, strict=False)
    except RuntimeError:
        fingerprint = None
    if hidden_states.fingerprint(model) != fingerprint:
        raise InputError(
            f"The small model in {head.folder} was trained from another {role} than the bundled "
            "one: train it again with stairs train slm."
        )
    del model.weights_fingerprint  # of these weights, before the trained ones are put over them
    for name, weight in weights.items():
        head.tensors.setdefault(f"slm.{name}", weight)
