"""``stairs train space``: the order of its work."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import GenerationConfig

from ...errors import InputError
from ...forward import capabilities, hidden_states, quantised_weights, sliding_windows
from ...models import cache, devices, folder_check, load
from ...quiet import quiet
from ..common import check_seed
from ..corpus import Corpus, read_corpus
from ..optim import remembered_bfloat16
from ..trainer import LanguageLoss, Plan, train
from . import rows as texts
from .measure import Held

NEW_MASK = "<|mask|>"
TUNED = "stairs_tuned"
"""The key of a tuned model's config.json that says what it was made from."""
_STATE = 4 * 3 * 2
"""Bytes a weight on disk: it and both of AdamW's averages, while the next checkpoint replaces the
last one."""


def main(args: argparse.Namespace) -> dict[str, Any]:
    """Tunes a model and writes its folder; returns what was measured, on the main process alone.
    Raises InputError, before anything is written, for what cannot be used."""
    devices.keep_to_cores()
    name = str(load.BUNDLED / "target") if args.target == "bundled" else args.target
    _check_numbers(args)
    check_seed(args.seed)
    _check_out(args.out, name)
    corpus = read_corpus(args.corpus, prepare=str.strip)
    accelerator = Accelerator(cpu=args.device == "cpu")
    if args.device not in ("auto", accelerator.device.type):
        raise InputError(f"This machine has no {args.device!r:.40} device: use auto or cpu.")
    model = load.load_stock(name, accelerator.device, torch.float32)
    tokenizer = load.load_tokenizer(name)
    _check_model(model, args, name)
    origin = hidden_states.fingerprint(model)
    mask_id = _mask_id(model, tokenizer, args.mask_token)
    batches, held = _texts(args, model, tokenizer, corpus, mask_id)
    plan = _plan(args, origin, batches)
    work = args.work / hashlib.sha256(plan.fingerprint.encode()).hexdigest()[:12]
    _check_disk(work, args.out, model)
    work.mkdir(parents=True, exist_ok=True)
    if accelerator.is_main_process:
        print(f"Checkpoints in {work}.", file=sys.stderr)
    loss = LanguageLoss(model, _dtype(args.dtype, accelerator, work))
    before = held.measure(model) if accelerator.is_main_process else {}
    log = train(model, loss, batches, plan, accelerator, work, lambda: held.measure(model))
    if not accelerator.is_main_process:
        return {}
    read = (log[-1]["step"] if log else 0) * plan.tokens_per_step
    if log and log[-1]["step"] == plan.steps:
        short = "bundled target" if args.target == "bundled" else _short(name)
        tuned = {"objective": "SPACE", "from": short, "tokens": read, "seed": args.seed}
        model.config.stairs_space = {"k": args.k, "mask_token_id": mask_id}
        tuned |= {"layout": args.layout, "before": before, "last": log[-1]}
        setattr(model.config, TUNED, tuned)
        _write(model, tokenizer, args.out)
    facts = {"out": str(args.out), "tokens": read, "mask_token_id": mask_id}
    return facts | {"before": before, "log": log}


def _check_numbers(args: argparse.Namespace) -> None:
    at_once = args.rows if args.rows_at_once is None else args.rows_at_once
    for fits, sentence in (
        (args.k >= 1, f"A group needs a mask at least, and k is {args.k}: use 5, as the paper."),
        (
            args.length >= args.k + 3,
            f"A row of {args.length} tokens has no room for {args.k + 1} masks after some text: "
            "make it longer.",
        ),
        (
            0 < args.mask_prob <= 1,
            f"The share of rows with masks is {args.mask_prob:g}: it must be above 0, at most 1.",
        ),
        (args.rows >= 1 <= at_once, "A step and a pass have a row at least: give 1 or more."),
        (
            args.tokens >= args.rows * args.length,
            f"A step reads {args.rows * args.length:,} tokens, and {args.tokens:,} were asked for: "
            "ask for more, or for fewer or shorter rows.",
        ),
        (
            0 < args.lr < math.inf,
            f"The learning rate is {args.lr:g}: give one above 0, such as 5e-5.",
        ),
    ):
        if not fits:
            raise InputError(sentence)


def _check_out(out: Path, target: str) -> None:
    """An existing folder is replaced only if it holds a tuned model, and not the one to tune."""
    if Path(target).is_dir() and out.resolve() == Path(target).expanduser().resolve():
        raise InputError(f"{out} is the model to tune itself: name another folder for the result.")
    if not out.exists():
        return
    try:
        tuned = TUNED in json.loads((out / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        tuned = False
    if not tuned and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} holds something else than a tuned model: name another folder.")


def _check_model(model: Any, args: argparse.Namespace, name: str) -> None:
    """Raises InputError for a model that cannot be tuned like this."""
    kind = model.config.model_type
    if model.config.is_encoder_decoder:
        raise InputError(f"{name} ({kind}) is an encoder-decoder model: choose a causal one.")
    if quantised_weights.label(model.config) is not None:
        raise InputError(f"{name} has quantised weights, which cannot be trained: choose floats.")
    most = capabilities.context_length(model)
    if args.length > most:
        raise InputError(
            f"A row of {args.length} tokens is longer than {name} reads, which is {most:,}: make "
            "it shorter."
        )
    if args.layout != "efficient":
        return
    text = model.config.get_text_config()
    sizes = (getattr(text, n, None) for n in ("sliding_window", "attention_chunk_size"))
    narrow = [size for size in sizes if size and size < args.length]
    if narrow and sliding_windows.Windows(model.config).any:
        raise InputError(
            f"{name} ({kind}) does not see whole rows of {args.length} tokens, as the layout "
            "efficient needs: use the layout plain, or shorter rows."
        )
    if not capabilities.takes_trees(model):
        raise InputError(
            f"{name} ({kind}) does not take the masks and positions that the layout efficient "
            "needs: use the layout plain."
        )


def _mask_id(model: Any, tokenizer: Any, wanted: str | None) -> int:
    """The id of the mask token: the one ``wanted``, else the tokenizer's own, else a new one, for
    which the model gets a row where it has none."""
    embeddings = model.get_input_embeddings().weight
    if wanted is not None:
        found = tokenizer.get_vocab().get(wanted)
        if found is None or found >= len(embeddings):
            raise InputError(
                f"The tokenizer has no token {wanted!r:.40}: name one that it has, or none, and a "
                "new one is made."
            )
        return found
    own = tokenizer.mask_token_id
    if own is not None and own < len(embeddings):
        return own
    tokenizer.add_special_tokens({"mask_token": NEW_MASK})
    new = tokenizer.mask_token_id
    if new >= len(embeddings):
        model.resize_token_embeddings(new + 1, mean_resizing=False)
    # The mean of all others: a random row would have to be unlearned first.
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            layer.weight[new] = layer.weight[:new].mean(0)
            if getattr(layer, "bias", None) is not None:
                layer.bias[new] = layer.bias[:new].mean()
    return new


def _texts(
    args: argparse.Namespace, model: Any, tokenizer: Any, corpus: Corpus, mask_id: int
) -> tuple[texts.Rows, Held]:
    """The rows that are trained on, and those that are held out."""
    ends = tuple(sorted(load.eos_ids(model, tokenizer)))
    own = tokenizer.eos_token_id
    end = own if own in ends else next(iter(ends), None)
    step = args.rows * args.length
    train_on = [work for works in corpus.train.values() for work in works]
    held_out = [work for works in corpus.held.values() for work in works]
    with quiet():
        ids = texts.encoded(tokenizer, train_on, end, args.tokens // step * step + 1, args.seed)
        held = Held.of(tokenizer, held_out, end, args.length, args.k, mask_id, ends)
    added = model.config._attn_implementation != "sdpa"
    efficient = args.layout == "efficient"
    at_once = min(args.rows, args.rows_at_once or args.rows)
    shape = (args.length, args.rows, at_once, args.mask_prob, args.k, mask_id, ends)
    return texts.Rows(ids, *shape, efficient, added, args.seed), held


def _dtype(name: str, accelerator: Accelerator, work: Path) -> torch.dtype:
    """Of the passes; every process takes what the main one has found."""
    if name != "auto":
        return getattr(torch, name)
    if accelerator.is_main_process:
        remembered_bfloat16(accelerator.device, work)
    accelerator.wait_for_everyone()
    fast = remembered_bfloat16(accelerator.device, work)
    return torch.bfloat16 if fast else torch.float32


def _plan(args: argparse.Namespace, origin: str, batches: texts.Rows) -> Plan:
    """The parameters of the loop. The rate falls on a straight line, the paper's on a cosine."""
    facts = {
        "target": origin,
        "texts": hashlib.sha256(batches.ids.numpy().tobytes()).hexdigest()[:16],
        "shape": [args.length, args.rows, batches.at_once, batches.with_masks],
        "mask": [args.k, batches.mask_id, args.layout],
        "rate": args.lr,
        "dtype": args.dtype,
        "seed": args.seed,
    }
    step = args.rows * args.length
    return Plan(
        name="space",
        tokens=args.tokens // step * step,
        tokens_per_step=step,
        lr=2 * args.lr,  # AdamW takes half of a rate that is meant for Muon
        warmup=0.03,
        decay=0.97,
        fingerprint=json.dumps(facts, sort_keys=True),
        muon=False,
        compile=False,
        eval_every=50,
        stop_after=getattr(args, "stop_after", None),
    )


def _check_disk(work: Path, out: Path, model: Any) -> None:
    """Raises InputError where there is no room for the checkpoints or for the tuned model."""
    weights = sum(p.numel() for p in model.parameters())
    sizes: dict[int, tuple[Path, int]] = {}
    there = sum(file.stat().st_size for file in work.glob("*.pt"))
    for folder, size in ((work, weights * _STATE - there), (out, weights * 4)):
        place = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
        disk = place.stat().st_dev
        sizes[disk] = (place, sizes.get(disk, (place, 0))[1] + size)
    fix = "free some, or name folders on another disk"
    for place, needed in sizes.values():
        cache.check_room(place, needed, "Checkpoints and the tuned model take", fix)


def _short(name: str) -> str:
    """A model's name without the path of its folder."""
    path = Path(name).expanduser()
    return path.resolve().name if path.is_dir() else name


def _write(model: Any, tokenizer: Any, out: Path) -> None:
    """The folder of the tuned model, in the dtype of the one that it was made from: whole, or not
    there."""
    source = Path(model.config.name_or_path)
    said = folder_check.read_json(source / "config.json")
    dtype = getattr(torch, str(said.get("dtype") or said.get("torch_dtype")), torch.float32)
    before = out.with_name(f".{out.name}.partial")
    shutil.rmtree(before, ignore_errors=True)
    own = model.generation_config
    # transformers refuses to save some configs that it loads, so the file is copied instead.
    ids = {n: getattr(own, n) for n in ("bos_token_id", "eos_token_id", "pad_token_id")}
    model.generation_config = GenerationConfig(**ids)
    with quiet():
        model.to(dtype).save_pretrained(before)
        tokenizer.save_pretrained(before)
    if (source / "generation_config.json").is_file():
        shutil.copyfile(source / "generation_config.json", before / "generation_config.json")
    for path in before.iterdir():  # safetensors writes its files for the owner alone
        path.chmod(0o644)
    folder_check.check_folder(str(before))
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.replace(out, old)
    os.replace(before, out)
    shutil.rmtree(old, ignore_errors=True)
