"""The options of ``stairs train slm``, which are read before torch is."""

from __future__ import annotations

import argparse
from pathlib import Path

RESPONSES = ("llm", "corpus", "both")
INJECT = ("add", "replace", "none")
PARTS = ("all", "attention")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``stairs train slm``."""
    add = parser.add_argument
    add("--llm", default="bundled", help="reads the prompt: bundled, a folder or a hub id")
    add("--slm", default="bundled", help="writes: bundled (the draft), a folder or a hub id")
    add("--corpus", type=Path, required=True, help="folder of *.txt or *.txt.xz")
    add("--out", type=Path, required=True, metavar="FOLDER", help="where the result goes")
    add("--work", type=Path, default=Path("train-work/slm"), help="responses and checkpoints")
    add("--responses", choices=RESPONSES, default="llm", help="who wrote them (default: llm)")
    add("--tokens", type=int, default=1_000_000, help="that the LLM writes (default: 1000000)")
    add("--own", type=int, default=0, help="texts the SLM writes, to be used for the corpus' own")
    add("--length", type=int, default=192, help="of prompt and response (default: 192)")
    add(
        "--conditions",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="of the prompts that are Words: a, b, c; others are openings (default: 1)",
    )
    add("--inject", choices=INJECT, default="add", help="none: the SLM alone, to compare with")
    add("--part", choices=PARTS, default="all", help="of the SLM that is trained (default: all)")
    add(
        "--stress",
        type=float,
        default=1.0,
        metavar="WEIGHT",
        help="of the words asked for, where they first stand in a response (default: 1)",
    )
    add("--layer", default="auto", help="of the LLM; auto tries some of them shortly")
    add("--sweep", type=int, default=100, help="steps that auto tries a layer for (default: 100)")
    add("--inner", type=int, default=512, help="width inside the projector (default: 512)")
    add("--steps", type=int, default=3000, help="of training (default: 3000)")
    add("--seconds", type=float, help="to train for, if --steps are not made by then")
    add("--texts", type=int, default=16, help="of one step (default: 16)")
    add("--lr", type=float, default=1e-3, help="learning rate (default: 0.001)")
    add("--workers", type=int, default=0, help="processes that make batches (default: 0)")
    add("--device", default="auto", help="auto, cpu or cuda")
    add("--seed", type=int, default=1)
