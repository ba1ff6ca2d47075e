"""``stairs train slm``: the order of its work."""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import torch

from ...errors import InputError
from ...forward import hidden_states
from ...models import cache, devices, heads, load
from ..common import check_seed
from ..corpus import read_corpus
from ..export import SHARD
from ..heads import loop
from ..heads.command import check_out, write_tensors
from ..heads.ranks import Ranks
from ..optim import remembered_bfloat16
from . import examples, module
from .batches import Ahead, Aligned, Batches
from .module import LlmToSlm

_LEAST_CHARS = 3
"""Characters that a token has on average at least. Words that a prompt asks for stand in so many
for each token of a text, so that they are there where a response is cut."""
_MOST_STRESS = 1000


def main(args: argparse.Namespace) -> dict[str, Any]:
    """Trains projector and SLM, and writes their folder; returns what was measured. Raises
    InputError, before anything is written, for what cannot be used."""
    devices.keep_to_cores()
    _check(args)
    works = [work for works in read_corpus(args.corpus).train.values() for work in works]
    corpus = examples.Corpus(works, args.conditions, args.seed, _LEAST_CHARS * args.length)
    ranks = Ranks(args.device)
    llm, llm_name = _model(args.llm, "target", ranks.device)
    slm, slm_name = _model(args.slm, "draft", ranks.device)
    layer = _usable(args, llm, slm)
    llm.requires_grad_(False)
    about = heads.described(llm)
    tokenizers = load.load_tokenizer(llm_name), load.load_tokenizer(slm_name)
    work = args.work / f"{about[heads.FINGERPRINT][:12]}-{_digest(args, slm)}"
    work.mkdir(parents=True, exist_ok=True)
    _check_space(work, slm)

    def prepared() -> tuple[torch.dtype, list[examples.Example], list[str]]:
        dtype = torch.bfloat16 if remembered_bfloat16(llm.device, work) else torch.float32
        writer = slm, tokenizers[1], corpus, args.own, args.length, args.seed, work
        own = examples.write_works(*writer) if args.own else []
        if args.responses == "corpus":
            return dtype, [], own
        asked = args.tokens, args.length, args.seed, work
        answers = examples.write_responses(llm.to(dtype), tokenizers[0], corpus, *asked)
        return dtype, answers, own

    dtype, written, own = ranks.main_first(prepared)
    if own:
        corpus.replace(own)
    llm = llm.to(dtype)
    aligned = Aligned(*tokenizers, _ends(slm), args.stress)
    data = aligned, None if args.responses == "llm" else corpus, written
    trainer = _Trainer(args, llm, slm, dtype, data, work, ranks)
    layer, sweep = (layer, {}) if layer is not None else trainer.best_layer()
    trained, log = (None, []) if layer is None else trainer.train(layer, args.steps, "slm")
    read = (log[-1]["step"] if log else 0) * args.texts * args.length
    if not ranks.main:
        return {}
    if trained and log and (args.seconds or log[-1]["step"] == args.steps):
        facts = {"tokens": read, "seed": args.seed, "sweep": sweep, "last": log[-1:]}
        facts |= {"part": args.part, "stress": args.stress, "own": len(own)}
        made = {"layer": layer, "inject": args.inject, "inner": args.inner}
        own = {k: v for k, v in slm.config.to_diff_dict().items() if k != "_name_or_path"}
        config = {**about, "stairs_head": "slm", **made, "slm": own}
        if args.inject == "none":  # a model as any other
            trained.slm.half().save_pretrained(args.out, max_shard_size=SHARD)
        else:
            base = _bundled(slm_name) if args.part != "all" else None
            config |= {"slm_from": [base, hidden_states.fingerprint(slm)]} if base else {}
            write_tensors(
                trained.kept(frozen=base is None), {**config, "stairs_trained": facts}, args.out
            )
        if args.inject == "none" or not aligned.same:
            tokenizers[1].save_pretrained(args.out)
    return {"out": str(args.out), "layer": layer, "sweep": sweep, "tokens": read, "log": log}


class _Trainer:
    """Trains copies of one SLM, all from the same start."""

    def __init__(
        self,
        args: argparse.Namespace,
        llm: Any,
        slm: Any,
        dtype: torch.dtype,
        data: tuple[Aligned, examples.Corpus | None, list[examples.Example]],
        work: Path,
        ranks: Ranks,
    ) -> None:
        """``data``: what ``Batches`` are made of."""
        self._args, self._llm, self._slm, self._dtype = args, llm, slm, dtype
        self._data, self._work, self._ranks = data, work, ranks

    def best_layer(self) -> tuple[int | None, dict[str, float]]:
        """The layer with the lowest loss after a short training, and the loss of each; None where
        the trials were stopped. No text was seen twice by then, so it is a loss on new text."""
        found: dict[str, float] = {}
        for layer in module.layers_of(self._llm):
            _, log = self.train(layer, self._args.sweep, f"layer {layer}")
            if not log or log[-1]["step"] != self._args.sweep:
                return None, found
            found[str(layer)] = log[-1]["loss"]
        return int(min(found, key=found.__getitem__)), found

    def train(self, layer: int, steps: int, name: str) -> tuple[LlmToSlm, list[dict[str, float]]]:
        """The trained module and its log."""
        args = self._args
        torch.manual_seed(args.seed)
        width = self._llm.config.get_text_config().hidden_size
        model = copy.deepcopy(self._slm)
        trained = LlmToSlm(model, width, args.inner, args.inject, args.part)
        trained.to(self._llm.device).train()
        facts = [name, layer, steps, args.inject, args.inner, args.lr, args.texts, args.seed]
        facts += [args.part, args.stress, args.seconds]
        plan = loop.Plan(
            json.dumps(facts),
            args.texts,
            lr=args.lr,
            seed=args.seed,
            seconds=args.seconds if name == "slm" else None,
            muon=self._dtype is torch.bfloat16,
            stop_after=getattr(args, "stop_after", None),
        )
        aligned, corpus, written = self._data
        sizes = args.texts, args.length, steps, args.seed
        batches: Any = Batches(aligned, corpus, written, *sizes)
        batches = Ahead(batches, args.workers) if args.workers else batches
        loss = module.loss_of(trained, self._llm, layer, self._dtype)
        digest = hashlib.sha256(plan.fingerprint.encode()).hexdigest()[:8]
        file = self._work / f"{name.replace(' ', '-')}-{digest}.pt"
        return trained, loop.train(name, trained, loss, batches, plan, file, self._ranks)


def _check(args: argparse.Namespace) -> None:
    """What can be refused before a model is loaded."""
    check_out(args.out)
    check_seed(args.seed)
    least = {"tokens": 1, "length": 8, "steps": 1, "texts": 1, "sweep": 1, "inner": 1}
    least |= {"workers": 0, "own": 0}
    for name, low in least.items():
        if getattr(args, name) < low:
            raise InputError(f"--{name} is {getattr(args, name)}, but must be {low} or more.")
    if not 0 <= args.conditions <= 1:
        raise InputError(f"--conditions is {args.conditions}, but is a share: give 0 to 1.")
    if not 0 < args.stress <= _MOST_STRESS:
        raise InputError(
            f"--stress is {args.stress}, but is a weight: give one from above 0 to {_MOST_STRESS}."
        )
    if args.seconds is not None and not 0 < args.seconds < math.inf:
        raise InputError(f"--seconds is {args.seconds}, but must be above 0.")
    if not 0 < args.lr < 1:
        raise InputError(f"--lr is {args.lr}, but must lie between 0 and 1, such as 0.001.")


def _model(spec: str, role: str, device: torch.device) -> tuple[Any, str]:
    """A stock model in float32, and what it is loaded from."""
    name = str(load.BUNDLED / role) if spec == "bundled" else spec
    return load.load_stock(name, device, torch.float32), name


def _usable(args: argparse.Namespace, llm: Any, slm: Any) -> int | None:
    """The layer that was asked for, if any. Raises InputError for models that do not fit the
    method."""
    if slm.config.is_encoder_decoder:
        raise InputError(
            f"{args.slm} is an encoder-decoder model, and features are added to the prompt of a "
            "decoder: choose a causal model as --slm."
        )
    if llm.config.is_encoder_decoder and args.responses != "corpus":
        raise InputError(
            f"{args.llm} is an encoder-decoder model, whose responses are not written here: give "
            "--responses corpus."
        )
    return 0 if args.inject == "none" else module.check_layer(llm, args.layer)


def _digest(args: argparse.Namespace, slm: Any) -> str:
    """Of all that responses and checkpoints depend on, so that other options find another
    folder."""
    facts = [str(args.corpus.resolve()), args.tokens, args.length, args.conditions, args.seed]
    facts += [args.own, args.responses, hidden_states.fingerprint(slm)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]


def _check_space(work: Path, slm: Any) -> None:
    """A checkpoint holds the weights three times, and the old one stays until the new one is
    whole."""
    needed = 2 * 3 * load.count_bytes(slm)
    cache.check_room(work, needed, "Checkpoints take", "free some, or name another --work folder")


def _bundled(name: str) -> str | None:
    """What of the bundled pair a model is; None for any other."""
    folder = Path(name).resolve()
    return folder.name if folder.parent == load.BUNDLED.resolve() else None


def _ends(slm: Any) -> list[int]:
    ends = slm.generation_config.eos_token_id
    return ends if isinstance(ends, list) else [] if ends is None else [ends]
