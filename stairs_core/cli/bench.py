"""``stairs bench``: times drafters against the target alone, on many prompts."""

from __future__ import annotations

import argparse
import json

from ..errors import InputError
from ..importing import importing
from ..settings.settings import Settings
from .console import INTERRUPTED, check_readers, load, progress


def bench(args: argparse.Namespace) -> int:
    ks, names = _lengths_and_drafters(args)
    progress("Loading the models")
    with importing():
        from ..measuring import bench as benching

    prompts = benching.read_prompts(args.prompts or benching.HELD_OUT, args.count)
    pair = load(args)
    lanes = benching.ours(pair, ks, args.max_new_tokens, names, args.reference)
    peers: dict[str, benching.Decoder] = {}
    if args.against:
        args.compile = "off"
        stock = load(args)
        peers = benching.theirs(pair, stock, ks)
    if args.only:
        lanes, peers = benching.only(args.only, lanes, peers)
    rows: list[benching.Row] = []
    rounds, status = len(prompts) * args.repeats, 0
    every_round = benching.bench(pair, prompts, lanes, peers, args.repeats, args.max_new_tokens)
    try:
        for done, rows in enumerate(every_round, 1):  # noqa: B007 (the last ones are the result)
            progress(f"Round {done} of {rounds}")
    except KeyboardInterrupt:
        status = INTERRUPTED
    progress("")
    print(benching.table(rows))
    if args.json:
        report = {**pair.describe(), "rows": [row.to_dict() for row in rows]}
        print(json.dumps(report, allow_nan=False))
    return status


def _lengths_and_drafters(args: argparse.Namespace) -> tuple[list[int], list[str]]:
    """``--ks`` and ``--drafters``. Raises InputError for what a bench cannot use."""
    try:
        ks = [int(k) for k in args.ks.split(",")]
    except ValueError as e:
        raise InputError(f"The draft lengths {args.ks!r} are no numbers: write 2,4,6.") from e
    if args.count < 1 or args.repeats < 1:
        raise InputError("A bench needs one prompt and one repeat at least: raise the number.")
    names = [name.strip() for name in args.drafters.split(",")]
    for k in ks:
        Settings(k=k, max_new_tokens=args.max_new_tokens)
    for name in names:
        Settings(name)
    check_readers(args.reference, names)
    return ks, names
