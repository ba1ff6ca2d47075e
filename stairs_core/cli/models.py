"""Commands that make or fetch models: ``stairs fetch``, ``widen``, ``train`` and its kinds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..training import command as training
from ..training.common import as_json
from .console import progress


def fetch(args: argparse.Namespace) -> int:
    """Fetches the models of a spec into the user's caches: only the files that are used."""
    from ..models import folder_check, load, source

    found = []
    try:
        for name in dict.fromkeys(name for name in load.locate(args.spec) if name):
            one = source.find(name, progress)
            folder = one.folder(name, progress)
            folder_check.check_folder(str(folder))
            size = sum(shard.stat().st_size for shard in folder_check.shards(folder))
            found.append(
                {
                    "model": name,
                    "folder": str(folder),
                    "weights_bytes": size,
                    "fetched_bytes": one.missing,
                }
            )
    except KeyboardInterrupt as e:
        raise KeyboardInterrupt(
            "Fetching was stopped: files that came whole stay, and are not fetched again."
        ) from e
    finally:
        progress("")
    if args.json:
        print(json.dumps({"models": found}))
        return 0
    for model in found:
        fetched = f"{model['fetched_bytes']:,} bytes fetched"
        print(f"{model['model']}: {model['folder']} ({fetched})")
    return 0


def widen(args: argparse.Namespace) -> int:
    from ..models import widen as widening
    from ..models.devices import device, dtype

    target = widening.Size.parse(args.target)
    draft = widening.Size.parse(args.draft) if args.draft else None
    kind = dtype(args.dtype, device("cpu"))
    progress("Widening")
    try:
        widening.widen_pair(args.pair, Path(args.out), target, draft, kind)
    finally:
        progress("")
    print(f"{args.out} holds the widened pair: pass it as --pair.")
    return 0


def train(args: argparse.Namespace) -> int:
    print(as_json(training.main(args), None if args.json else 1))
    return 0


def train_head(args: argparse.Namespace) -> int:
    from ..training.heads import command

    found = command.main(args)
    if found:  # of several processes, the main one tells
        print(as_json(found, None if args.json else 1))
    return 0


def train_space(args: argparse.Namespace) -> int:
    from ..training.space import command

    found = command.main(args)
    if found:  # of several processes, the main one tells
        print(as_json(found, None if args.json else 1))
    return 0


def train_slm(args: argparse.Namespace) -> int:
    from ..training.slm import command

    print(as_json(command.main(args), None if args.json else 1))
    return 0
