"""The options of ``stairs train head``, which are read before torch is."""

from __future__ import annotations

import argparse
from pathlib import Path

KINDS = ("medusa", "eagle", "draft", "chimera", "hidden-transfer", "firp", "ngram-table")
OF_SOME: dict[str, tuple[int | None, tuple[str, ...]]] = {
    "heads": (3, ("medusa", "chimera", "hidden-transfer", "firp")),
    "depth": (1, ("medusa", "draft")),
    "vocabulary": (1536, ("eagle", "draft")),
    "unroll": (4, ("eagle",)),
    "ngrams": (400_000, ("ngram-table",)),
    "seconds": (None, KINDS[:-1]),
}
"""Options that some kinds have: what they are if not given, and those kinds."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``stairs train head``."""
    add = parser.add_argument
    add("--kind", choices=KINDS, required=True)
    add("--target", default="bundled", help="bundled, a folder or a hub id (default: bundled)")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--corpus", type=Path, help="folder of *.txt or *.txt.xz: openings of texts"
    )
    of_chat = (
        "for a chat model: a file of prompts, one a line; answered by it, and prompts of its own"
    )
    source.add_argument("--prompts", type=Path, metavar="FILE", help=of_chat)
    add("--out", type=Path, required=True, metavar="FOLDER", help="where the head goes")
    add("--work", type=Path, default=Path("train-work/heads"), help="texts, features, checkpoints")
    add("--tokens", type=int, default=1_000_000, help="that the target writes (default: 1000000)")
    add("--length", type=int, default=128, help="of a text, in tokens (default: 128)")
    add(
        "--conditions",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of the texts that open as the bundled target was trained to read: Words: a, b, c",
    )
    add("--passes", type=float, default=1.0, help="over the texts (default: 1)")
    add("--texts", type=int, default=16, help="of one step (default: 16)")
    add("--seconds", type=float, help="to train for, if the passes are not made by then")
    add("--start", type=Path, metavar="FOLDER", help="a head of the kind, to be trained further")
    add("--lr", type=float, default=2e-3, help="learning rate (default: 0.002)")
    at_once = "of medusa, chimera, hidden-transfer and firp: tokens guessed at once (default: 3)"
    add("--heads", type=int, help=at_once)
    blocks = "of medusa: residual blocks a head; of draft: layers (default: 1)"
    add("--depth", type=int, help=blocks)
    some = "of eagle and draft: tokens to guess among, the target's most frequent (default: 1536)"
    add("--vocabulary", type=int, help=some)
    add("--unroll", type=int, help="of eagle: guesses in a row, trained on (default: 4)")
    most = "of ngram-table: n-grams that are kept, the most frequent (default: 400000)"
    add("--ngrams", type=int, help=most)
    add("--device", default="auto", help="auto, cpu or cuda")
    add("--seed", type=int, default=1)


def settle(args: argparse.Namespace) -> list[str]:
    """Gives the options of ``OF_SOME`` their usual values; returns a sentence on each that was
    given and that ``args.kind`` does not have."""
    found = []
    for name, (usual, kinds) in OF_SOME.items():
        if getattr(args, name) is None:
            setattr(args, name, usual)
        elif args.kind not in kinds:
            of = " and ".join([", ".join(kinds[:-1]), kinds[-1]] if kinds[1:] else kinds)
            found.append(f"--{name} is an option of {of}: it changes nothing for {args.kind}.")
    return found
