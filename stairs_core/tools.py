"""What the commands of files, models and machines do: ``stairs show``, ``bench`` and others."""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path

from . import training
from .commands import INTERRUPTED, drafting, load, paint, progress
from .errors import InputError
from .opening import open_any
from .render import card, terminal
from .settings import Settings


def show(args: argparse.Namespace) -> int:
    recordings = open_any(args.file)
    if args.html is not None:
        from .render import replay  # loads plotly, which the terminal does without

        replay.write(args.html, recordings, Path(args.file).name)
        return 0
    columns = shutil.get_terminal_size().columns
    color = paint().color and not args.no_color
    print(terminal.draw(recordings, columns, color=color, step=args.step), end="")
    return 0


def preflight(args: argparse.Namespace) -> int:
    settings = Settings(
        args.drafter, backend=args.backend, numerics=args.numerics, **drafting(args.k, None)
    )
    progress("Loading the models")
    try:
        from .preflight import preflight as prepare

        pair = load(args)
        progress("Measuring passes")
        found = prepare(pair, settings)
    finally:
        progress("")
    print(
        json.dumps(asdict(found), allow_nan=False)
        if args.json
        else "\n".join(card.lines(found, paint()))
    )
    return 0


def bench(args: argparse.Namespace) -> int:
    try:
        ks = [int(k) for k in args.ks.split(",")]
    except ValueError as e:
        raise InputError(f"The draft lengths {args.ks!r} are no numbers: write 2,4,6.") from e
    if args.count < 1 or args.repeats < 1:
        raise InputError("A bench needs one prompt and one repeat at least: raise the number.")
    for k in ks:
        Settings(k=k, max_new_tokens=args.max_new_tokens)
    names = [name.strip() for name in args.drafters.split(",")]
    for name in names:
        Settings(name)
    progress("Loading the models")
    from . import bench as benching

    prompts = benching.read_prompts(args.prompts or benching.HELD_OUT, args.count)
    pair = load(args)
    lanes = benching.ours(pair, ks, args.max_new_tokens, names, args.reference)
    peers: dict[str, benching.Decoder] = {}
    if args.against:
        args.compile = "off"
        stock = load(args)
        peers = benching.theirs(pair, stock, ks)
    rows: list[benching.Row] = []
    rounds, status = len(prompts) * args.repeats, 0
    made = benching.bench(pair, prompts, lanes, peers, args.repeats)
    try:
        for done, rows in enumerate(made, 1):  # noqa: B007 (the last ones are the result)
            progress(f"Round {done} of {rounds}")
    except KeyboardInterrupt:
        status = INTERRUPTED
    progress("")
    print(benching.table(rows))
    if args.json:
        print(
            json.dumps(
                {**pair.describe(), "rows": [row.to_dict() for row in rows]}, allow_nan=False
            )
        )
    return status


def fetch(args: argparse.Namespace) -> int:
    """Of every model of a spec, what is used of it, into the hub's cache, as the page does it."""
    from . import hub, models, weights

    found = []
    try:
        for name in dict.fromkeys(name for name in models.locate(args.spec) if name):
            here = weights.check_folder(name)
            model = Path(name).expanduser() if here else hub.find(name, progress)
            came = 0
            if isinstance(model, hub.Remote):
                came = model.missing()
                model = hub.fetch(model, name, progress)
            weights.check_folder(str(model))
            size = sum(shard.stat().st_size for shard in weights.shards(model))
            told = {"model": name, "folder": str(model), "weights_bytes": size}
            found.append({**told, "fetched_bytes": came})
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
    from . import widen as widening
    from .devices import device, dtype

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
    print(json.dumps(training.main(args), indent=None if args.json else 1))
    return 0
