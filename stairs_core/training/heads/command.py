"""``stairs train head``: the order of its work."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file

from ...errors import InputError
from ...forward import capabilities, hidden_states
from ...models import devices, eagle_format, folder_check, heads, load
from ..common import as_json, check_seed
from ..corpus import read_corpus
from ..optim import remembered_bfloat16
from . import chimera, draft, eagle, features, loop, medusa, ngrams, pseudo, texts
from .options import settle
from .ranks import Ranks

New = Callable[
    [Any, Sequence[Path], tuple[int, ...], argparse.Namespace], tuple[Any, dict[str, Any]]
]
"""From the target, the files of its texts, the layers whose hidden states are kept and the
command's options: an untrained head, and what its config says of it."""


class Kind(NamedTuple):
    """``loss_of``: from the head, the target and a dtype. ``begin``: sets a head's weights before
    its first step, from the head, the target and the batches."""

    new: New
    loss_of: Callable[[Any, Any, torch.dtype], loop.Loss]
    begin: Callable[[Any, Any, loop.Batches], None] | None = None


KINDS = {
    "medusa": Kind(medusa.new, medusa.loss_of),
    "eagle": Kind(eagle.new, eagle.loss_of),
    "draft": Kind(draft.new, draft.loss_of),
    "chimera": Kind(chimera.new, chimera.loss_of),
    "hidden-transfer": Kind(pseudo.new_hidden_transfer, pseudo.loss_of, pseudo.begin),
    "firp": Kind(pseudo.new_firp, pseudo.loss_of, pseudo.begin),
}

MOST = 16
"""Tokens that heads guess at once."""
IN_A_ROW = 32
"""Tokens that any drafter guesses in a step."""


def main(args: argparse.Namespace) -> dict[str, Any]:
    """Trains a head and writes its folder; returns what was measured. Raises InputError, before
    anything is written, for what cannot be used."""
    devices.keep_to_cores()
    check_out(args.out)
    if args.start:
        _check_start(args.kind, args.start)
    ignored = settle(args)
    _check_numbers(args)
    check_seed(args.seed)
    works, prompts = _read(args)
    if ignored:
        print("\n".join(ignored), file=sys.stderr)
    name = str(load.BUNDLED / "target") if args.target == "bundled" else args.target
    ranks = Ranks(args.device)
    model = load.load_stock(name, ranks.device, torch.float32)
    _check_model(model, args, name)
    model.requires_grad_(False)
    about = heads.described(model)
    work = args.work / f"{about[heads.FINGERPRINT][:12]}-{_digest(args, model)}"
    work.mkdir(parents=True, exist_ok=True)
    tokenizer = load.load_tokenizer(name)
    kind = KINDS.get(args.kind)  # none for a table, which reads no hidden states
    layers = features.usual_layers(model) if kind else ()
    dtype, files = ranks.main_first(
        lambda: _written(args, model, tokenizer, works, prompts, work, layers)
    )
    if kind is None:
        return _count(args, files, about) if ranks.main else {}
    torch.manual_seed(args.seed)
    module, config = kind.new(model, files, layers, args)
    if args.start:
        _start(module, args.start)
    module.to(model.device)
    config |= eagle_format.beside(about) if heads.kind_of(config) == "eagle" else about
    plan = _plan(args, config, muon=dtype is torch.bfloat16)
    kept = features.are_kept(model)
    states = None if kept else lambda ids: features.states_of(model, ids, layers)
    batches = loop.Batches(files, plan, states)
    of_whole = kind.loss_of(module, model, dtype)
    loss: loop.Loss = lambda batch: of_whole(batches.complete(batch))  # noqa: E731
    file = work / f"{args.kind}-{hashlib.sha256(plan.fingerprint.encode()).hexdigest()[:8]}.pt"
    if kind.begin and not (args.start or file.is_file()):
        kind.begin(module, model, batches)
    steps = batches if kept else loop.ReadAhead(batches)
    log = loop.train(args.kind, module, loss, steps, plan, file, ranks)
    read = (log[-1]["step"] if log else 0) * batches.tokens
    trained = {"tokens": read, "texts": batches.texts, "log": log}
    if not ranks.main:
        return {}
    if log and (args.seconds or log[-1]["step"] == batches.steps):
        config["stairs_trained"] = {"tokens": read, "seed": args.seed, "last": log[-1:]}
        write(module, config, args.out)
    return {"kind": args.kind, "out": str(args.out), **trained}


def _plan(args: argparse.Namespace, config: dict[str, Any], *, muon: bool) -> loop.Plan:
    """Of the options, for a head with that config."""
    plain = [args.seed, args.passes, args.texts, args.lr]
    plain += [str(x) for x in (args.seconds, args.start) if x]
    return loop.Plan(
        json.dumps([config, *plain], sort_keys=True),
        args.texts,
        args.passes,
        args.lr,
        seed=args.seed,
        muon=muon,
        seconds=args.seconds,
        stop_after=getattr(args, "stop_after", None),
    )


def _check_start(kind: str, folder: Path) -> None:
    """Raises InputError where ``folder`` holds no head of that kind."""
    try:
        found = heads.kind_of(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError):
        found = None
    if found != kind or kind not in KINDS:
        raise InputError(
            f"{folder} holds no {kind} head to go on from: name the folder of one, or leave "
            "--start out."
        )


def _start(module: torch.nn.Module, folder: Path) -> None:
    """Fills a head with what the one in ``folder`` has learned. Raises InputError where that has
    another shape."""
    try:
        module.load_state_dict(heads.tensors(folder))
    except RuntimeError as e:
        raise InputError(
            f"{folder} was trained on another target or in other sizes: give the options that it "
            "was trained with, or leave --start out."
        ) from e


def check_out(out: Path) -> None:
    """An existing folder is replaced only if it holds a head."""
    if not out.exists():
        return
    try:
        config = json.loads((out / "config.json").read_text(encoding="utf-8"))
        known = heads.kind_of(config)
    except (OSError, ValueError, AttributeError):
        known = None
    if known is None and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} holds something else than a head: name another --out folder.")


def _check_numbers(args: argparse.Namespace) -> None:
    openings = texts.OPENING[1]
    most = min(IN_A_ROW, args.length - 2)  # a guess begins after two tokens
    for fits, sentence in (
        (args.tokens >= 1, f"The target is to write {args.tokens:,} tokens: ask for 1 or more."),
        (
            args.length > openings,
            f"A text of {args.length} tokens is too short, as up to {openings} are its opening: "
            "make it longer.",
        ),
        (
            0 <= args.conditions <= 1,
            f"The share of texts with conditions is {args.conditions:g}: it must be from 0 to 1.",
        ),
        (
            0 < args.passes < math.inf,
            f"Nothing is learned in {args.passes:g} passes over the texts: give a number above 0.",
        ),
        (args.texts >= 1, f"A step has a text at least, and {args.texts} were asked for."),
        (
            0 < args.lr < math.inf,
            f"The learning rate is {args.lr:g}: give one above 0, such as 0.002.",
        ),
        (
            args.seconds is None or 0 < args.seconds < math.inf,
            f"Nothing is learned in {args.seconds} seconds: give a number above 0.",
        ),
        (
            1 <= args.heads <= MOST,
            f"The number of heads is {args.heads}, but must be from 1 to {MOST}.",
        ),
        (args.ngrams >= 1, f"A table of {args.ngrams} n-grams guesses nothing: ask for 1 or more."),
        (
            args.vocabulary >= 1,
            f"Nothing is guessed among {args.vocabulary} tokens: ask for 1 or more.",
        ),
        (
            1 <= args.unroll <= most,
            f"Guesses in a row are to be {args.unroll}, but must be from 1 to {most} in texts of "
            f"{args.length} tokens.",
        ),
        (args.depth >= 0, f"The number of blocks in a head is {args.depth}: give 0 or more."),
    ):
        if not fits:
            raise InputError(sentence)


def _check_model(model: Any, args: argparse.Namespace, name: str) -> None:
    """Raises InputError, before texts are written for hours, for a target that no head reads."""
    hidden_states.decoder_layers(model)
    hidden_states.output_layer(model)
    most = capabilities.context_length(model)
    if args.length > most:
        raise InputError(
            f"A text of {args.length} tokens is longer than {name} reads, which is {most:,}: make "
            "it shorter."
        )


def _batch(args: argparse.Namespace, model: Any) -> int:
    """Texts that are written at once: of few texts a part, so that each kind has its turn."""
    most = args.tokens // args.length // len(texts.TEMPERATURES)
    return max(1, min(texts.at_once(model, args.length), most))


def _digest(args: argparse.Namespace, model: Any) -> str:
    """Of all that texts depend on, so that other options find another folder."""
    facts = [
        str((args.prompts or args.corpus).resolve()),
        args.tokens,
        args.length,
        _batch(args, model),
        args.conditions,
        args.seed,
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]


def _read(args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The works of the corpus, or the prompts of a file. Raises InputError."""
    if not args.prompts:
        works = read_corpus(args.corpus).train
        return [text for texts in works.values() for text in texts], []
    try:
        lines = args.prompts.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"{args.prompts} cannot be read: name a text file of prompts.") from e
    if not (prompts := [line.strip() for line in lines if line.strip()]):
        raise InputError(f"{args.prompts} holds no prompt: write one on each line.")
    return [], prompts


def _written(
    args: argparse.Namespace,
    model: Any,
    tokenizer: Any,
    works: list[str],
    prompts: list[str],
    work: Path,
    layers: tuple[int, ...],
) -> tuple[torch.dtype, list[Path]]:
    """The dtype of the passes, and the files of texts; the features of ``layers``, if any, lie
    beside them."""
    batch = _batch(args, model)
    plan = texts.TextPlan(args.tokens, args.length, batch, args.conditions, args.seed)
    width = model.config.get_text_config().hidden_size
    layers = layers if features.are_kept(model) else ()
    size = plan.batches * plan.batch * plan.length * len(layers) * width * 2
    features.check_space(work, size, plan.batches)
    dtype = torch.bfloat16 if remembered_bfloat16(model.device, work) else torch.float32
    model.to(dtype)
    print(f"Texts and {size / 1e6:,.0f} MB of hidden states in {work}.", file=sys.stderr)
    files = texts.write_texts(model, tokenizer, works, plan, work, prompts)
    if layers:
        features.write_features(model, files, layers)
    return dtype, files


def _count(args: argparse.Namespace, files: list[Path], about: dict[str, Any]) -> dict[str, Any]:
    """Writes a table of n-grams; returns how it did."""
    tensors, tried = ngrams.count(files, args.ngrams)
    told = {"ngrams": len(tensors["keys"]), **{name: round(x, 4) for name, x in tried.items()}}
    config = {heads.KIND: args.kind, "longest": ngrams.LONGEST, **about, "stairs_trained": told}
    write_tensors(tensors, config, args.out)
    return {"kind": args.kind, "out": str(args.out), **told}


def write(module: torch.nn.Module, config: dict[str, Any], out: Path) -> None:
    """The head's folder: each file is whole or not there."""
    write_tensors(module.state_dict(), config, out)


def write_tensors(state: dict[str, torch.Tensor], config: dict[str, Any], out: Path) -> None:
    """The same, from the tensors."""
    out.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    partial = out / "model.safetensors.partial"
    save_file({n: t.cpu().contiguous() for n, t in tensors.items()}, partial, {"format": "pt"})
    os.replace(partial, out / "model.safetensors")
    words = out / "config.json.partial"
    words.write_text(as_json(config, 1) + "\n", encoding="utf-8")
    os.replace(words, out / "config.json")
    folder_check.check_folder(str(out))
