"""``stairs train``: its options, and the call that runs its stages.

Importing this file costs nothing: torch is loaded only when ``main`` runs, so ``stairs --help``
stays quick.
"""

from __future__ import annotations

import argparse
from pathlib import Path

STAGES = ("all", "tokenizer", "target", "draft", "distill", "export")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``stairs train`` to a parser."""
    parser.add_argument("--corpus", type=Path, required=True, help="folder of *.txt or *.txt.xz")
    parser.add_argument("--out", type=Path, default=Path("assets/pair"), help="the pair's folder")
    parser.add_argument("--work", type=Path, default=Path("train-work"), help="checkpoints")
    parser.add_argument(
        "--prompts",
        type=Path,
        default=None,
        help="held-out prompts (default: OUT/../prompts/heldout.txt)",
    )
    parser.add_argument("--recipe", default="cpu", help="cpu, full or tiny (see recipes.py)")
    parser.add_argument("--stage", choices=STAGES, default="all")
    parser.add_argument("--target-tokens", type=int, default=None, help="tokens the target reads")
    parser.add_argument(
        "--target-from",
        type=Path,
        default=None,
        metavar="PAIR",
        help="go on training the target of this pair, made with the same recipe and corpus",
    )
    parser.add_argument("--draft-tokens", type=int, default=None, help="tokens the draft reads")
    parser.add_argument(
        "--distill-tokens",
        type=int,
        default=None,
        help="tokens of the draft's second stage, on the target's predictions",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="arithmetic of the passes; auto times both (weights stay float32)",
    )
    parser.add_argument(
        "--optimizer",
        choices=("auto", "muon", "adamw"),
        default="auto",
        help="auto: Muon where bfloat16 is fast, else AdamW",
    )
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="torch.compile the passes (default: on, but for the tiny recipe)",
    )
    parser.add_argument("--seed", type=int, default=1)


def main(args: argparse.Namespace) -> dict:
    """Run the stages asked for and return the metrics gathered so far.

    Raises ``InputError`` with one sentence that names the fix: no corpus, an unknown recipe, or a
    checkpoint of another recipe.
    """
    from ..models.devices import keep_to_cores
    from .stages import run

    keep_to_cores()
    return run(args)
