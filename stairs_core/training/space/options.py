"""The options of ``stairs train space``, which are read before torch is."""

from __future__ import annotations

import argparse
from pathlib import Path

LAYOUTS = ("plain", "efficient")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``stairs train space``."""
    add = parser.add_argument
    add("--target", required=True, help="the causal model to tune: bundled, a folder or a hub id")
    add("--corpus", type=Path, required=True, help="folder of *.txt or *.txt.xz")
    add("--out", type=Path, required=True, metavar="FOLDER", help="where the tuned model goes")
    add("--work", type=Path, default=Path("train-work/space"), help="checkpoints")
    add("--k", type=int, default=5, help="masks that may be used in a group (default: 5)")
    add("--mask-token", metavar="TOKEN", help="of the tokenizer (default: its own, or a new one)")
    share = "of the rows that have masks (default: 0.5, as in the paper)"
    add("--mask-prob", type=float, default=0.5, metavar="SHARE", help=share)
    layout = "efficient: masks are appended, and text is wasted nowhere (default: plain)"
    add("--layout", choices=LAYOUTS, default="plain", help=layout)
    add("--tokens", type=int, default=1_000_000, help="of text to read (default: 1000000)")
    add("--length", type=int, default=512, help="of a row, in tokens (default: 512)")
    add("--rows", type=int, default=8, help="of one step (default: 8)")
    add("--rows-at-once", type=int, metavar="N", help="fewer take less memory (default: all)")
    add("--lr", type=float, default=5e-5, help="learning rate (default: 5e-5, as in the paper)")
    add("--device", default="auto", help="auto, cpu or cuda")
    arithmetic = "of the passes; weights stay float32 (default: auto)"
    add("--dtype", choices=("auto", "float32", "bfloat16"), default="auto", help=arithmetic)
    add("--seed", type=int, default=1)
