"""LLM-to-SLM in three rows: the small model alone, helped by the target, and the target alone.

    python tests/scripts/slm_table.py --corpus CORPUS [--count 200] [--timed 40] [--slm FOLDER ...]
        [--pair smollm2-135m --ask "Write a story with the words {words}."]

Held-out stories of the corpus give the prompts, `Words: a, b, c Story:`. For each row: the share of
the asked words that stand in the story, and the perplexity of what it wrote under the target, on
`--count` prompts, written greedily in batches by transformers' `generate`; and new tokens and
characters a second on the engine clock, on the first `--timed` of them. All rows of a prompt are
timed in one race, so whatever slows the machine slows all of them: characters are what rows with
two tokenizers share. `--slm` adds rows for small models alone, such as one that `stairs train slm
--inject none` has trained as long. `--ask`: what the target alone is asked, in its chat template.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stairs_core import Runner, Settings, load_pair
from stairs_core.forward import hidden_states
from stairs_core.forward.llm_to_slm import injected
from stairs_core.measuring.race import race
from stairs_core.models import load, slm
from stairs_core.models.pair import Pair
from stairs_core.text import chat_template
from stairs_core.training.conditions import BODY, HEAD, Conditions, obeyed
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


@dataclass(frozen=True)
class Row:
    """``model`` writes, in ``tokenizer``'s tokens. ``encode``: a prompt, for it. ``embed``: the
    embeddings of prompts, [prompts, tokens, width], from the prompts and their ids. ``lane``: what
    is timed: a pair, a prompt and settings."""

    name: str
    model: Any
    tokenizer: Any
    eos_ids: list[int]
    encode: Callable[[str], list[int]]
    embed: Callable[[list[str], torch.Tensor], torch.Tensor]
    lane: Callable[[str], tuple[Pair, str, Settings]]


def alone(name: str, stock: Pair, timed: Pair, ask: str, new: int) -> Row:
    """A model alone; in its chat template where there is something to ``ask``."""

    def encode(prompt: str) -> list[int]:
        if not ask:
            return stock.tokenizer.encode(prompt)
        return chat_template.encode(stock.tokenizer, asked(prompt, ask), "", {})

    def lane(prompt: str) -> tuple[Pair, str, Settings]:
        text = asked(prompt, ask) if ask else prompt
        return timed, text, Settings("none", max_new_tokens=new, chat=bool(ask))

    pair = stock.for_chat if ask else stock
    table = stock.target.get_input_embeddings()
    ends = sorted(pair.eos_ids)
    return Row(name, stock.target, stock.tokenizer, ends, encode, lambda _, ids: table(ids), lane)


def helped(stock: Pair, timed: Pair, new: int) -> Row:
    """The pair's small model, which reads prompts with the target's help."""
    small = slm.of(stock)
    pair = slm.alone(stock)
    tokenizer = pair.tokenizer

    def embed(prompts: list[str], ids: torch.Tensor) -> torch.Tensor:
        added = []
        for prompt, own in zip(prompts, ids.tolist(), strict=True):
            theirs = stock.tokenizer.encode(prompt)
            with hidden_states.caught(stock.target, (small.layer,)) as found:
                stock.target.get_decoder()(input_ids=torch.tensor([theirs]), use_cache=False)
            added.append(small.projected(found[small.layer][0], theirs, own, stock))
        return injected(small.model.get_input_embeddings()(ids), torch.stack(added), small.how)

    def lane(prompt: str) -> tuple[Pair, str, Settings]:
        return timed, prompt, Settings("slm-alone", max_new_tokens=new)

    ends = sorted(pair.eos_ids)
    return Row("LLM-to-SLM", small.model, tokenizer, ends, tokenizer.encode, embed, lane)


def asked(prompt: str, ask: str) -> str:
    """``ask`` with the words of a prompt."""
    return ask.replace("{words}", prompt.removeprefix(HEAD).removesuffix(BODY))


@torch.inference_mode()
def stories(row: Row, prompts: list[str], new: int) -> list[str]:
    """What a row writes, greedily, after each prompt."""
    same: dict[int, list[int]] = {}
    encoded = [row.encode(prompt) for prompt in prompts]
    for number, ids in enumerate(encoded):
        same.setdefault(len(ids), []).append(number)
    found = [""] * len(prompts)
    for group in (g[i : i + ROWS] for g in same.values() for i in range(0, len(g), ROWS)):
        ids = torch.tensor([encoded[i] for i in group])
        out = row.model.generate(
            inputs_embeds=row.embed([prompts[i] for i in group], ids),
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new,
            do_sample=False,
            eos_token_id=row.eos_ids,
            pad_token_id=row.eos_ids[0],
        )
        for i, made in zip(group, out.tolist(), strict=True):
            cut = next((n for n, token in enumerate(made) if token in row.eos_ids), len(made))
            found[i] = row.tokenizer.decode(made[:cut], skip_special_tokens=True).strip()
    return found


@torch.inference_mode()
def nats(target: Any, tokenizer: Any, prompt: str, story: str) -> tuple[float, int]:
    """The target's nats of a story after its prompt, and its tokens of it."""
    ids, start = tokenizer.encode(f"{prompt} {story}"), len(tokenizer.encode(prompt))
    logits = target(torch.tensor([ids]), use_cache=False).logits[0]
    wanted = torch.tensor(ids[start:])
    rows = logits[start - 1 : -1].float()
    return torch.nn.functional.cross_entropy(rows, wanted, reduction="sum").item(), len(wanted)


def kept_stories(row: Row, prompts: list[str], new: int, keep: Path | None) -> list[str]:
    """The stories, from the file ``keep`` where it has them."""
    known = json.loads(keep.read_text(encoding="utf-8")) if keep and keep.is_file() else {}
    key = json.dumps([row.name, new, [row.encode(prompt) for prompt in prompts]])
    if key not in known:
        known[key] = stories(row, prompts, new)
        if keep:
            keep.write_text(json.dumps(known), encoding="utf-8")
    return known[key]


def quality(row: Row, stock: Pair, prompts: list[str], args: argparse.Namespace) -> dict[str, Any]:
    """Words asked for and used, the target's nats and tokens, and the first texts."""
    texts = kept_stories(row, prompts, args.max_new_tokens, args.keep)
    scored = list(zip(prompts, texts, strict=True))[: args.scored]
    used = [obeyed(f"{prompt} {story}") for prompt, story in zip(prompts, texts, strict=True)]
    odd = [nats(stock.target, stock.tokenizer, *both) for both in scored]
    counts = {"asked": sum(n for n, _ in used), "used": sum(n for _, n in used)}
    sums = {"nats": sum(n for n, _ in odd), "tokens": sum(n for _, n in odd)}
    return {**counts, **sums, "texts": texts[:10]}


def pace(rows: list[Row], prompts: list[str]) -> list[tuple[int, int, float]]:
    """New tokens, characters and seconds of every row."""
    found = [[0, 0, 0.0] for _ in rows]
    for done, prompt in enumerate(prompts, 1):
        runners = [Runner(*row.lane(prompt)) for row in rows]
        for _ in race(runners):
            pass
        for sums, row, runner in zip(found, rows, runners, strict=True):
            ids = runner.recording().new_ids
            sums[0] += len(ids)
            sums[1] += len(row.tokenizer.decode(ids, skip_special_tokens=True))
            sums[2] += runner.clock.elapsed
        print(f"\r{done} of {len(prompts)} prompts timed", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return [(int(tokens), int(chars), seconds) for tokens, chars, seconds in found]


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A dict for each row."""
    prompts, new = prompts_of(args.corpus, args.count, args.source), args.max_new_tokens

    def both(name: str) -> tuple[Pair, Pair]:
        return load_pair(name, "cpu", "float32", "off"), load_pair(name, "cpu")

    stock, timed = both(args.pair)
    names = [name for name in (load.locate(args.pair)[1], *args.slm) if name]
    rows = [alone(f"SLM alone: {Path(n).name}", *both(n), "", new) for n in names]
    rows += [helped(stock, timed, new), alone("LLM alone", stock, timed, args.ask, new)]
    found = []
    for row in rows:
        found.append({"row": row.name, **quality(row, stock, prompts, args)})
        print(f"{row.name}: {found[-1]['used']} of {found[-1]['asked']} words", file=sys.stderr)
    for facts, sums in zip(found, pace(rows, prompts[: args.timed]), strict=True):
        facts["pace"], facts["chars"] = (n / sums[2] if sums[2] else math.nan for n in sums[:2])
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    add = parser.add_argument
    add("--corpus", type=Path, required=True)
    add("--pair", default="bundled")
    add("--slm", nargs="*", default=[], metavar="FOLDER")
    add("--ask", default="", help="of the target alone, in its chat template, with {words} in it")
    add("--source", default="tinystories")
    add("--keep", type=Path, metavar="FILE", help="stories, by row: delete it for other weights")
    add("--count", type=int, default=200)
    add("--timed", type=int, default=40)
    add("--scored", type=int, help="prompts whose stories' perplexity is measured (default: all)")
    add("--max-new-tokens", type=int, default=200)
    rows = measure(parser.parse_args())
    print("| row | words used | perplexity under the target | tokens/s | characters/s | times |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        share = f"{row['used'] / max(1, row['asked']):.1%} ({row['used']} of {row['asked']})"
        odd = math.exp(row["nats"] / max(1, row["tokens"]))
        times = row["chars"] / rows[-1]["chars"]
        speed = f"{row['pace']:.0f} | {row['chars']:.0f} | {times:.2f}"
        print(f"| {row['row']} | {share} | {odd:.2f} | {speed} |")
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
