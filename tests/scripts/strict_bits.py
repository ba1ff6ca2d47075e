"""Whether strict numerics gives the same bits on this device, however tokens are grouped.

    python tests/scripts/strict_bits.py --device cuda --dtypes float32,bfloat16,float16

Reads one text token by token, then in groups of each size, with wrong guesses in between that are
rolled back, and in passes without a cache; compares the logits bit by bit, for numerics strict and,
beside it, fast. Then decodes prompts with the target alone and with a guesser, in both ways, and
counts the tokens that differ. Status 1 if strict differs anywhere.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from typing import Any

import torch

from stairs_core.errors import InputError
from stairs_core.forward.cached_model import CachedModel
from stairs_core.forward.kv_cache import BLOCK
from stairs_core.measuring import bench
from stairs_core.measuring.runner import Runner
from stairs_core.models import devices, load
from stairs_core.settings.settings import Settings

GROUPS = (2, 3, 5, 7, 8, 11, 40)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pair", default="bundled")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtypes", default="float32,bfloat16,float16")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--drafters", default="model,eagle")
    parser.add_argument("--out", help="a file for the same numbers as JSON")
    args = parser.parse_args()
    found: dict[str, Any] = {"hardware": devices.hardware(devices.device(args.device))}
    print(f"{found['hardware']}, torch {torch.__version__}, pair {args.pair}", flush=True)
    for dtype in args.dtypes.split(","):
        found[dtype] = of_dtype(args, dtype)
        if args.out:
            with open(args.out, "w", encoding="utf-8") as file:
                json.dump(found, file, indent=1)
    holds = all(found[dtype]["holds"] for dtype in args.dtypes.split(","))
    print("strict holds" if holds else "STRICT DOES NOT HOLD", flush=True)
    return 0 if holds else 1


def of_dtype(args: argparse.Namespace, dtype: str) -> dict[str, Any]:
    """Both comparisons in one dtype. Where Stairs refuses to be strict, nothing is promised: then
    the bits alone are compared, to see by how much."""
    pair = load.load_pair(args.pair, args.device, dtype)
    refused, bits = None, []
    try:
        pair.require_strict()
    except InputError as e:
        refused = str(e)
        print(f"{dtype}: refused: {refused}", flush=True)
    for numerics in ("strict", "fast"):
        for row in same_bits(pair, numerics == "strict"):
            bits.append({"numerics": numerics, **row})
            print(
                f"{dtype:9} {numerics:6} {row['shape']:24} "
                f"{'same bits' if row['equal'] else 'DIFFERENT':10} largest difference "
                f"{row['largest']:.3g}, other most likely tokens {row['flips']} of {row['rows']}",
                flush=True,
            )
    if refused:
        return {"bits": bits, "refused": refused, "holds": True}
    texts = [*same_texts(pair, args, dtype)]
    strict = [row["equal"] for row in bits if row["numerics"] == "strict"]
    strict += [row["tokens"] == 0 for row in texts if row["numerics"] == "strict"]
    return {"bits": bits, "texts": texts, "holds": all(strict)}


def same_bits(pair: Any, strict: bool) -> Iterator[dict[str, Any]]:
    """Logits of one text past a block's end, in groups, against those read token by token."""
    rng = random.Random(5)
    width = pair.target.config.get_text_config().vocab_size
    ids = [rng.randrange(width) for _ in range(BLOCK + 40)]
    alone = CachedModel(pair.target, strict=strict)
    one = torch.cat([alone.logits(ids[: n + 1], 1) for n in range(len(ids))])
    ways = [(f"groups of {n}", n, True) for n in GROUPS]
    ways += [("any size, with rollbacks", 0, True), ("any size, no cache", 0, False)]
    for shape, size, cached in ways:
        lane = CachedModel(pair.target, cached=cached, strict=strict)
        other = torch.cat([*grouped(lane, ids, size, width)])
        yield {
            "shape": shape,
            "equal": torch.equal(one, other),
            "largest": (one.double() - other.double()).abs().max().item(),
            "flips": (one.argmax(-1) != other.argmax(-1)).sum().item(),
            "rows": len(ids),
        }


def grouped(lane: CachedModel, ids: list[int], size: int, width: int) -> Iterator[torch.Tensor]:
    """Logits [group, vocabulary] of one group after the other; ``size`` 0: any, some of them after
    wrong guesses."""
    rng, at = random.Random(7), 0
    while at < len(ids):
        count = min(size or rng.choice((1, 2, 3, 5, 6, 7, 11, 40)), len(ids) - at)
        if not size and rng.random() < 0.4:
            wrong = [(token + 1) % width for token in ids[at : at + rng.randrange(1, 9)]]
            lane.logits(ids[:at] + wrong, len(wrong))
        yield lane.logits(ids[: at + count], count)
        at += count


def same_texts(pair: Any, args: argparse.Namespace, dtype: str) -> Iterator[dict[str, Any]]:
    """How many tokens of all texts differ from those of the target alone, in the same numerics."""
    prompts = bench.read_prompts(bench.HELD_OUT, args.prompts)
    for numerics in ("strict", "fast"):
        alone = [text(pair, p, "none", numerics, args.new) for p in prompts]
        for drafter in args.drafters.split(","):
            texts = [text(pair, p, drafter, numerics, args.new) for p in prompts]
            differ = [differing(a, b) for a, b in zip(alone, texts, strict=True)]
            row = {
                "numerics": numerics,
                "drafter": drafter,
                "tokens": sum(differ),
                "of": sum(map(len, alone)),
                "texts": sum(n > 0 for n in differ),
                "prompts": len(prompts),
            }
            print(
                f"{dtype:9} {numerics:6} {drafter:8} {row['tokens']} of {row['of']} tokens and "
                f"{row['texts']} of {row['prompts']} texts differ from plain decoding",
                flush=True,
            )
            yield row


def text(pair: Any, prompt: str, drafter: str, numerics: str, new: int) -> list[int]:
    settings = Settings(drafter, 5, new, numerics=numerics, chat=pair.has_chat_template)
    return [t.id for step in Runner(pair, prompt, settings).decode() for t in step.committed]


def differing(a: list[int], b: list[int]) -> int:
    """Places with another token, those that only one text has among them."""
    return sum(x != y for x, y in zip(a, b, strict=False)) + abs(len(a) - len(b))


if __name__ == "__main__":
    sys.exit(main())
