"""LLM-to-SLM in three rows: the small model alone, helped by the target, and the target alone.

    python tests/scripts/slm_table.py --corpus CORPUS [--count 200] [--timed 40] [--slm FOLDER ...]

Held-out stories of the corpus give the prompts, `Words: a, b, c Story:`. For each row: the share of
the asked words that stand in the story, and the perplexity of what it wrote under the target, on
`--count` prompts, written greedily in batches by transformers' `generate`; and new tokens a second
on the engine clock, on the first `--timed` of them. All rows of a prompt are timed in one race, so
whatever slows the machine slows all of them. `--slm` adds rows for small models alone, such as one
that `stairs train slm --inject none` has trained as long.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from pathlib import Path
from typing import Any

import torch

from stairs_core import Runner, Settings, load_pair
from stairs_core.forward import hidden_states
from stairs_core.forward.llm_to_slm import injected
from stairs_core.measuring.race import race
from stairs_core.models import load, slm
from stairs_core.training.conditions import Conditions, obeyed
from stairs_core.training.corpus import read_corpus

ROWS = 50
"""Prompts of one batch, all with as many tokens."""


def prompts_of(corpus: Path, count: int, source: str) -> list[str]:
    """Conditions of held-out works of the sources whose name begins with ``source``."""
    found = read_corpus(corpus)
    words = Conditions(work for works in found.train.values() for work in works)
    held = [w for name, works in found.held.items() if name.startswith(source) for w in works]
    rng = random.Random(1)
    prompts = [prompt for work in held if (prompt := words.prefix(work, rng))]
    return prompts[:count]


@torch.inference_mode()
def quality(model: Any, target: Any, tokenizer: Any, prompts: list[str], new: int, helped: Any):
    """(words asked, words used, the target's nats, tokens) of the stories that ``model`` writes.

    ``helped``: the ``Slm`` whose model this is, to read prompts with the target's help; or None.
    """
    asked = used = tokens = 0
    nats = 0.0
    same: dict[int, list[list[int]]] = {}
    for prompt in prompts:
        ids = tokenizer.encode(prompt)
        same.setdefault(len(ids), []).append(ids)
    for group in (g[i : i + ROWS] for g in same.values() for i in range(0, len(g), ROWS)):
        ids = torch.tensor(group)
        x = model.get_input_embeddings()(ids)
        if helped is not None:
            with hidden_states.caught(target, (helped.layer,)) as found:
                target.get_decoder()(input_ids=ids, use_cache=False)
            x = injected(x, helped.projector(found[helped.layer]), helped.how)
        out = model.generate(
            inputs_embeds=x,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new,
            do_sample=False,
            pad_token_id=0,
        )
        for prompt, row in zip(group, out.tolist(), strict=True):
            end = tokenizer.eos_token_id
            story = row[: row.index(end) + 1] if end in row else row
            text = tokenizer.decode(prompt + story, skip_special_tokens=True)
            asked, used = (a + b for a, b in zip((asked, used), obeyed(text), strict=True))
            logits = target(torch.tensor([prompt + story]), use_cache=False).logits[0]
            rows, wanted = logits[len(prompt) - 1 : -1].float(), torch.tensor(story)
            nats += torch.nn.functional.cross_entropy(rows, wanted, reduction="sum").item()
            tokens += len(story)
    return {"asked": asked, "used": used, "nats": nats, "tokens": tokens}


def timed(lanes: list[tuple[str, Any, str]], prompts: list[str], new: int) -> list[list[float]]:
    """New tokens and seconds of every lane: its name, its pair and its drafter."""
    found = [[0.0, 0.0] for _ in lanes]
    for done, prompt in enumerate(prompts, 1):
        runners = [Runner(p, prompt, Settings(name, max_new_tokens=new)) for _, p, name in lanes]
        for _ in race(runners):
            pass
        for sums, runner in zip(found, runners, strict=True):
            sums[0] += len(runner.recording().new_ids)
            sums[1] += runner.clock.elapsed
        print(f"\r{done} of {len(prompts)} prompts timed", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A dict for each row."""
    prompts, new = prompts_of(args.corpus, args.count, args.source), args.max_new_tokens
    stock = load_pair(args.pair, "cpu", "float32", "off")
    small = slm.of(stock)
    names = [name for name in (load.locate(args.pair)[1], *args.slm) if name]
    writers = [(f"SLM alone: {Path(n).name}", load_pair(n, "cpu", "float32", "off")) for n in names]
    models = [(name, pair.target, None) for name, pair in writers]
    models += [("LLM-to-SLM", small.model, small), ("LLM alone", stock.target, None)]
    rows = []
    for name, model, helped in models:
        found = quality(model, stock.target, stock.tokenizer, prompts, new, helped)
        rows.append({"row": name, **found})
        print(f"{name}: {found['used']} of {found['asked']} words", file=sys.stderr)
    pair = load_pair(args.pair)
    lanes = [(name, load_pair(n), "none") for (name, _), n in zip(writers, names, strict=True)]
    lanes += [("LLM-to-SLM", pair, "slm-alone"), ("LLM alone", pair, "none")]
    for row, sums in zip(rows, timed(lanes, prompts[: args.timed], new), strict=True):
        row["pace"] = sums[0] / sums[1] if sums[1] else math.nan
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    add = parser.add_argument
    add("--corpus", type=Path, required=True)
    add("--pair", default="bundled")
    add("--slm", nargs="*", default=[], metavar="FOLDER")
    add("--source", default="tinystories")
    add("--count", type=int, default=200)
    add("--timed", type=int, default=40)
    add("--max-new-tokens", type=int, default=200)
    rows = measure(parser.parse_args())
    print("| row | words used | perplexity under the target | tokens/s | times the LLM |")
    print("|---|---|---|---|---|")
    for row in rows:
        share = f"{row['used'] / max(1, row['asked']):.1%} ({row['used']} of {row['asked']})"
        odd = math.exp(row["nats"] / max(1, row["tokens"]))
        times = row["pace"] / rows[-1]["pace"]
        print(f"| {row['row']} | {share} | {odd:.2f} | {row['pace']:.0f} | {times:.2f} |")
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
