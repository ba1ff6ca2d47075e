"""The model card, written from measured numbers only."""

from __future__ import annotations

import textwrap
from pathlib import Path

from .recipes import SPACE_K, Recipe
from .sources import SOURCES

FRONT = """---
language: en
library_name: transformers
pipeline_tag: text-generation
tags: [llama, tiny, stories, speculative-decoding]
---

# The bundled pair

Two small Llama models that write short children's stories, trained by `stairs train` to show
assisted decoding: a **target** of {target:.1f} M parameters and a **draft** of {draft:.2f} M that
guesses its next tokens. Both share one byte-level BPE of {vocab} entries made from the text.

| | target | draft |
|---|---|---|
| layers x width (heads) | {target_shape} | {draft_shape} |
| parameters (tied embeddings) | {target:.2f} M | {draft:.2f} M |
| tokens read | {target_tokens:,} | {draft_tokens:,}, then {distill_tokens:,} distilling |
| validation loss, nats a token | **{target_loss:.3f}** | **{draft_loss:.3f}** |

Weights are stored in float16; every number here was measured on these files in float32 arithmetic.

"""


def _shape(recipe: Recipe, name: str) -> str:
    shape = recipe.target if name == "target" else recipe.draft
    return f"{shape.layers} x {shape.hidden} ({shape.hidden // shape.head})"


def _front(m: dict, recipe: Recipe) -> str:
    main, size = m["measured"]["validation"]["main"], m["measured"]["parameters"]
    return FRONT.format(
        target=size["target"] / 1e6,
        draft=size["draft"] / 1e6,
        vocab=recipe.vocab,
        target_shape=_shape(recipe, "target"),
        draft_shape=_shape(recipe, "draft"),
        target_tokens=m["target_tokens"],
        draft_tokens=m["draft_tokens"],
        distill_tokens=m["distill_tokens"],
        target_loss=main["target"],
        draft_loss=main["draft"],
    )


def _data(m: dict, recipe: Recipe) -> str:
    lines = [
        "## Data and licences\n",
        "| source | works trained on | held out | weight by phase | what | licence |",
        "|---|---|---|---|---|---|",
    ]
    for name, count in m["sources"].items():
        what, licence = SOURCES.get(name, ("text of whoever trained this pair", "not stated"))
        weight = " / ".join(f"{p.mix.get(name, p.mix.get('*', 0.0)):g}" for p in recipe.phases)
        lines.append(
            f"| `{name}` | {count['train']:,} | {count['held']:,} | {weight} | {what} | {licence} |"
        )
    spans = " / ".join(f"until {p.until:.0%}" for p in recipe.phases)
    return (
        "\n".join(lines)
        + f"""

Weight: how often a work stands in one pass over the data, for the phases of the target's
training ({spans}). About 3 % of the works are held out by a hash of their text and never
trained on. The text was cleaned to ASCII. Long works were cut into passages. Forty of a hundred
short works carried a condition made from themselves, `Words: dog, rain, happy` on a line before
`Story:`. The training text itself is not part of this repository.

"""
    )


def _training(m: dict, recipe: Recipe) -> str:
    log, tokens, runs = m["target_log"], m["target_tokens"], _runs(m)
    quarter = tokens - (1 - recipe.space_from) * runs[-1]
    before = [e for e in log if e["tokens"] <= quarter]
    rows = "\n".join(
        f"| {e['tokens']:,} | {e['validation']:.3f} |" for e in log[:: max(1, len(log) // 12)]
    )
    change = (
        f"Plain validation loss (32 k held-out tokens) was {before[-1]['validation']:.3f} at "
        f"the last evaluation\nbefore that quarter ({before[-1]['tokens']:,} tokens) and "
        f"{log[-1]['validation']:.3f} at its end"
        if before
        else f"Plain validation loss at the end: {log[-1]['validation']:.3f}"
    )
    ahead = ", ".join(f"{x:.0%}" for x in m["measured"]["space_accuracy"])
    return f"""## Training

Plain next-token prediction; in the last quarter of {"each run of " * (len(runs) > 1)}the
target's training every second row also carried SPACE's semi-autoregressive objective
(arXiv 2402.11809, k = {SPACE_K}, `<|mask|>`). {change}.{_continued(runs)}
The learning rate fell to nearly zero over the last {recipe.decay:.0%} of a run, so the
difference is not the objective's doing alone. Mask j of a group stands in the place of token s+j of
a text that ends before s, and is asked for token s+j+1: on held-out text the masks j = 0 to
{SPACE_K} name it in {ahead} of the cases.

| target tokens | validation loss |
|---|---|
{rows}

The draft read the text, then learnt the target's predictions (KL, and cross-entropy on its first
choice) over {m["generated_tokens"]:,} tokens of the target's own stories, written from training
prompts and read more than once, and over the text. Its validation loss was
{m["measured"]["draft_before_validation"]:.3f} before distillation and
{m["measured"]["validation"]["main"]["draft"]:.3f} after; distillation is for acceptance,
not for this loss.
{m.get("remark", "")}
"""


def _runs(m: dict) -> list[int]:
    """Tokens of each run of the target's training; the later ones went on from its weights."""
    return m.get("target_runs") or [m["target_tokens"]]


def _continued(runs: list[int]) -> str:
    if len(runs) == 1:
        return ""
    sizes = " and ".join(f"{n:,}" for n in runs)
    return (
        f" The target was trained in {len(runs)} runs, of {sizes} tokens: each went on from the "
        "last one's weights as stored, with new optimisers and the text that came next."
    )


def _results(m: dict) -> str:
    measured = m["measured"]
    table = "\n".join(
        f"| {'`tinystories*` (the main number)' if n == 'main' else f'`{n}`'} | {v['tokens']:,} | "
        f"{v['target']:.3f} | {v['draft']:.3f} |"
        for n, v in sorted(measured["validation"].items(), key=lambda x: x[0] != "main")
    )
    rows = [("after distillation", a) for a in measured["acceptance"].values()]
    rows.append(("before distillation", measured["acceptance_before"]))
    rates = "\n".join(
        f"| {name} | {a['k']} | {a['alpha']:.1%} | {a['acceptance_rate']:.1%} "
        f"| {a['tokens_per_target_call']:.2f} |"
        for name, a in rows
    )
    first = rows[0][1]
    return f"""## Validation loss on held-out works

| source | tokens | target | draft |
|---|---|---|---|
{table}

## Acceptance

Greedy, {first["prompts"]} held-out prompts (`assets/prompts/heldout.txt`), {first["tokens"]:,}
tokens of the target's text. alpha = accepted / checked, acceptance rate = accepted / drafted.
The draft is right so often because it learnt this target's own greedy text, which is
formulaic: on held-out text both name the same next token in
{m["distill_log"][-1]["agreement"]:.0%} of the places
({m["draft_before"]["agreement"]:.0%} before distillation).

| draft | K | alpha | acceptance rate | tokens per target call |
|---|---|---|---|---|
{rates}

"""


def _stories(m: dict) -> str:
    s = m["measured"]["stories"]
    return (
        _wrapped(f"""## Stories

Of the {s["prompts"]} held-out prompts continued greedily for at most {s["max_new_tokens"]} tokens,
{s["ended"]} stories came to their own end and {s["looped"]} loop somewhere (some run of
twelve tokens stands in them three times or more). Of the {s["words_asked"]} words asked for by
`Words:`, {s["words_used"]} stand in their stories. Below are three in full, unedited: the
first condition's and the first two openings' of the prompts file, not chosen for their quality.

""")
        + "\n\n".join("```text\n" + text.strip() + "\n```" for text in s["shown"])
        + "\n\n"
    )


def _close(m: dict) -> str:
    s = m["measured"]["stories"]
    return f"""## Use and limits

Made to show and measure assisted decoding on a laptop without a download. It writes simple English
stories and nothing else: it knows no facts and follows no instructions; a condition
`Words: ... Story:` brings up {s["words_used"] / max(1, s["words_asked"]):.0%} of its words.
Greedy text repeats itself in {s["looped"] / s["prompts"]:.0%} of the stories. Names, gender and
roles follow the clichés of its training text.

## Reproduce

```sh
{_commands(m)}
# on several GPUs: accelerate launch -m stairs_core train ... (the same options)
```

`CORPUS` is a folder with the sources above as `NAME.txt` or `NAME.txt.xz`, works separated by
`<|endoftext|>`. A run resumes from its work folder after a stop. All numbers above are in
`metrics.json`.
"""


def _commands(m: dict) -> str:
    """What made the pair, a command for each run of the target's training."""
    lines, out = [], ""
    for number, tokens in enumerate(_runs(m), 1):
        start = f" --target-from {out}" if out else ""
        out = "assets/pair" if number == len(_runs(m)) else f"pair-{number}"
        lines.append(
            f"stairs train --corpus CORPUS --out {out} --work work-{number}{start} \\\n"
            f"  --recipe {m['recipe']} --target-tokens {tokens} --draft-tokens {m['draft_tokens']} "
            f"\\\n  --distill-tokens {m['distill_tokens']} --seed {m['seed']}"
        )
    return "\n".join(lines)


def _wrapped(text: str) -> str:
    """The prose paragraphs filled to the line: numbers of any width went into them."""
    blocks = [
        textwrap.fill(b, 98, break_long_words=False, break_on_hyphens=False)
        if b[:1].isalpha() or (b[:1] == "`" != b[1:2])
        else b
        for b in text.split("\n\n")
    ]
    return "\n\n".join(blocks)


def write_card(path: Path, metrics: dict, recipe: Recipe) -> None:
    """Write the card to ``path`` from what the stages measured."""
    numbers = (
        _front(metrics, recipe)
        + _data(metrics, recipe)
        + _training(metrics, recipe)
        + _results(metrics)
    )
    text = _wrapped(numbers) + _stories(metrics) + _wrapped(_close(metrics))
    path.write_text(text.rstrip() + "\n", encoding="utf-8")
