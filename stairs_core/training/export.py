"""Writes the pair: float16 safetensors, tokenizer, measured numbers and the model card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from .card import write_card
from .conditions import obeyed
from .evaluate import (
    acceptance,
    greedy_text,
    looping,
    space_accuracy,
    validation_loss,
    validation_rows,
)
from .prompts import read_prompts
from .recipes import SPACE_K
from .session import Session
from .stream import END_ID

SHARD = "14MB"
"""Largest shard asked for; with its header a file stays below 15 MB."""

STORY_TOKENS = 300


def save_model(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write ``folder`` anew: float16 shards, configuration, greedy generation, tokenizer."""
    shutil.rmtree(folder, ignore_errors=True)
    model.half()
    model.config.dtype = torch.float16
    model.generation_config = GenerationConfig(
        do_sample=False, bos_token_id=END_ID, eos_token_id=END_ID, pad_token_id=END_ID
    )
    model.save_pretrained(folder, max_shard_size=SHARD)
    tokenizer.save_pretrained(folder)
    # save_pretrained leaves this key out.
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = "float16"
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for path in folder.iterdir():  # safetensors writes its files for the owner alone
        path.chmod(0o644)


def load_exported(folder: Path) -> Any:
    """The exported model in float32 arithmetic, as people will run it: this is what is measured."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, dtype=torch.float32
    )
    return model.eval()


def summarise(texts: list[tuple[torch.Tensor, int]], session: Session, room: int) -> dict:
    """How many of the greedy texts end and how many loop, and three of them in full.

    The three are the first condition's and the first two openings' of the file, not the best ones.
    """
    ids = [t.tolist() for t, _ in texts]
    spelled = session.tokenizer.batch_decode(ids, skip_special_tokens=True)
    half = len(texts) // 2
    asked, used = (sum(column) for column in zip(*map(obeyed, spelled), strict=True))
    return {
        "prompts": len(ids),
        "ended": sum(t[-1] == END_ID for t in ids),
        "looped": sum(map(looping, ids)),
        "max_new_tokens": room,
        "words_asked": asked,
        "words_used": used,
        "shown": [spelled[i] for i in (0, half, half + 1) if i < len(ids)],
        "all": spelled,
    }


def measure(session: Session, out: Path) -> dict:
    """All numbers of the model card that need the finished pair."""
    target, draft = load_exported(out / "target"), load_exported(out / "draft")
    first = session.trained("draft", session.recipe.draft).cpu().float()
    tokenizer, length = session.tokenizer, min(512, session.recipe.positions)
    rows = {
        n: validation_rows(tokenizer, works, length, 60_000)
        for n, works in session.corpus.held.items()
        if works
    }
    rows["main"] = validation_rows(tokenizer, session.held_stories, length)
    room = min(STORY_TOKENS, session.recipe.positions // 2)
    texts = [
        (greedy_text(target, tokenizer, prompt, room), len(tokenizer(prompt)["input_ids"]))
        for prompt in tqdm(read_prompts(session.args.prompts), desc="greedy", unit="story")
    ]
    return {
        "parameters": {"target": target.num_parameters(), "draft": draft.num_parameters()},
        "validation": {
            n: {
                "target": validation_loss(target, r),
                "draft": validation_loss(draft, r),
                "tokens": r[:, 1:].numel(),
            }
            for n, r in rows.items()
        },
        "draft_before_validation": validation_loss(first, rows["main"]),
        "space_accuracy": space_accuracy(target, rows["main"][:48], SPACE_K),
        "acceptance": {k: acceptance(draft, texts, k) for k in (3, 5)},
        "acceptance_before": acceptance(first, texts, 5),
        "stories": summarise(texts, session, room),
    }


def export_stage(session: Session) -> None:
    """Write the pair under ``--out``, measure it, and write its card."""
    out = session.args.out
    out.mkdir(parents=True, exist_ok=True)
    recipe = session.recipe
    trained = {"target": ("target", recipe.target), "draft": ("distill", recipe.draft)}
    for folder, (stage, shape) in trained.items():
        model = session.trained(stage, shape)
        if folder == "target":  # for the drafter ``space``
            mask_id = session.tokenizer.mask_token_id
            model.config.stairs_space = {"k": SPACE_K, "mask_token_id": mask_id}
        save_model(model, session.tokenizer, out / folder)
    lists = sorted(
        p for n in session.corpus.sources for p in session.args.corpus.glob(f"{n}.ATTRIBUTION.tsv")
    )
    if lists:
        (out / "ATTRIBUTION.tsv").write_bytes(b"".join(p.read_bytes() for p in lists))
    metrics = session.note(
        measured=measure(session, out), recipe=session.recipe.name, seed=session.args.seed
    )
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    write_card(out / "README.md", metrics, session.recipe)
