"""Random models, random defaults, random ways to decode: the text is ``generate``'s, or refused.

A case is made of its seed alone. Fifty run always, and those after them with ``--slow``.
"""

from __future__ import annotations

import random
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import families
import pytest
import torch
from tiny_models import make_tokenizer, perturb, save_pair

from stairs_core.errors import InputError
from stairs_core.measuring.runner import Runner
from stairs_core.models.load import load_pair
from stairs_core.settings.settings import BACKENDS, Settings

ALWAYS, SLOW = 50, 1000
SEEDS = [
    *range(ALWAYS),
    *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(ALWAYS, ALWAYS + SLOW)),
]
ROTARY = ("Llama", "Mistral", "Qwen2", "Qwen3", "GptOss", "Gemma3", "SmolLM3", "Olmo3")
WINDOWED = ("Mistral", "Gemma2", "Gemma3", "GptOss", "Cohere2", "Olmo3", "Starcoder2", "Phi3")
GROUPED = (*ROTARY, *WINDOWED, "Mixtral", "Granite", "StableLm", "Qwen3Moe")
NAMES = sorted({*GROUPED, "GPTNeoX", "GPTNeo", "OPT", "GPT2", "Bloom", "Glm", "T5", "Bart"})
TRUE = (
    r"does not take the masks( and positions that a tree in one pass needs| that strict)",
    "rounds differently by a token's place in a pass on this machine",
    "counts its decoder's positions itself",
    r"The prompt has \d+ tokens, and the (models read|encoder reads) \d+",
)
"""The refusals that may be met here, each true where it is said."""
ROUNDING = 1e-4


@dataclass(frozen=True)
class Case:
    """``config`` and ``defaults``: changes to the model's, and to its generation config."""

    name: str
    config: dict[str, Any]
    defaults: dict[str, Any]
    draft: tuple[float, int]
    prompt: list[int]
    settings: Settings
    compile: str


def rope(dice: random.Random, name: str, positions: int, head: int) -> dict[str, Any]:
    """Of any kind, made for fewer positions than the text has, often."""
    kinds = ("default", "linear", "dynamic", "yarn", "longrope", "llama3")
    kind = dice.choice(kinds[::4] if name == "Phi3" else kinds)
    first = max(8, positions // dice.choice((2, 4)))
    found: dict[str, Any] = {"rope_type": kind, "rope_theta": dice.choice((1e2, 1e4, 5e5))}
    if kind == "longrope":
        return found | {
            "short_factor": [1.0] * (head // 2),
            "long_factor": [dice.choice((2.0, 8.0))] * (head // 2),
            "factor": float(positions / first),
            "original_max_position_embeddings": first,
        }
    if kind != "default":
        found["factor"] = dice.choice((2.0, 4.0))
    if kind in ("yarn", "llama3"):
        found["original_max_position_embeddings"] = first
    if kind == "llama3":
        found |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    return found


def shape(dice: random.Random, name: str) -> dict[str, Any]:
    """Widths, heads, windows and rotary angles."""
    found: dict[str, Any] = {"tie_word_embeddings": dice.random() < 0.3}
    positions, head = dice.choice((48, 64, 96, 256)), dice.choice((4, 8))
    if name in GROUPED:
        heads = dice.choice((2, 4))
        found |= {
            "num_attention_heads": heads,
            "num_key_value_heads": dice.choice([n for n in (1, 2, 4) if n <= heads]),
            "hidden_size": heads * head,
            "intermediate_size": dice.choice((32, 64)),
            "num_hidden_layers": dice.choice((2, 3)),
            "max_position_embeddings": positions,
        }
        if name not in ("Mixtral", "Granite", "StableLm", "Phi3", "Starcoder2", "Qwen2", "SmolLM3"):
            found["head_dim"] = head
    if name == "SmolLM3":
        found["no_rope_layers"] = dice.choices((0, 1), k=found["num_hidden_layers"])
    if name in WINDOWED:
        window = dice.choice((None, 9, 16, 33))
        found["sliding_window"] = window
        kinds = ("full_attention", "sliding_attention" if window else "full_attention")
        if name not in ("Mistral", "Starcoder2", "Phi3"):
            found["layer_types"] = dice.choices(kinds, k=found["num_hidden_layers"])
            found["sliding_window"] = window or 4096
    if name in ROTARY or name == "Phi3":
        angles = rope(dice, name, positions, head)
        plain = {"rope_type": "default", "rope_theta": 1e4}
        each = {"full_attention": angles, "sliding_attention": plain}
        found["rope_parameters"] = each if name == "Gemma3" else angles
        if "original_max_position_embeddings" in angles and name == "Phi3":
            found["original_max_position_embeddings"] = angles["original_max_position_embeddings"]
    if name == "GPTNeo":
        found["window_size"] = dice.choice((5, 16, 40))
    return found


def defaults(dice: random.Random) -> dict[str, Any]:
    """What a ``generation_config.json`` may hold that changes a greedy text, or seems to."""
    some = {
        "repetition_penalty": dice.choice((0.8, 1.1, 1.5)),
        "no_repeat_ngram_size": dice.choice((2, 3)),
        "suppress_tokens": dice.sample(range(1, 320), 20),
        "begin_suppress_tokens": dice.sample(range(1, 320), 60),
        "bad_words_ids": [dice.sample(range(1, 320), n) for n in (1, 1, 2)],
        "min_new_tokens": dice.choice((2, 20)),
        "exponential_decay_length_penalty": (4, 1.2),
        "sequence_bias": [[[dice.randrange(320)], dice.choice((-9.0, 4.0))] for _ in range(4)],
        "forced_eos_token_id": 0,
    }
    found: dict[str, Any] = {n: v for n, v in some.items() if dice.random() < 0.12}
    if dice.random() < 0.4:
        found |= {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.8}
    ends = dice.sample(range(320), dice.choice((1, 1, 2, 12)))
    return found | {"eos_token_id": ends if len(ends) > 1 else ends[0]}


def case(seed: int) -> Case:
    dice = random.Random(seed)
    name = dice.choice(NAMES)
    drafter = dice.choice(("none", "model", "model", "lookup", "suffix", "tree", "hybrid"))
    backend = dice.choice(BACKENDS)
    strict = drafter not in ("tree", "hybrid") and not backend.startswith("matrix")
    return Case(
        name,
        shape(dice, name),
        defaults(dice),
        (dice.choice((0.03, 0.12, 0.5)), dice.choice((2, 2, 9))),
        [dice.randrange(1, 320) for _ in range(dice.randint(1, 24))],
        Settings(
            drafter,
            dice.choice((1, 3, 5, 8)),
            dice.randint(4, 64),
            backend,
            numerics="strict" if strict and dice.random() < 0.4 else "fast",
        ),
        dice.choice(("off", "auto")),
    )


def written(one: Case, folder: Path) -> tuple[list[int], list[int]]:
    """Stairs' text and ``generate``'s, at equal length. Raises InputError where it is refused."""
    made = [families.make(one.name, seed, **one.config) for seed in (2, one.draft[1])]
    for model in made:
        for name, value in one.defaults.items():
            setattr(model.generation_config, name, value)
    tokenizer = make_tokenizer()
    save_pair(folder, made[0], perturb(made[1], one.draft[0]), tokenizer)
    pair = load_pair(str(folder), "cpu", "float32", one.compile)
    runner = Runner(pair, "a" + tokenizer.decode(one.prompt), one.settings)  # not only blanks
    steps = list(runner.decode())
    ours = [token.id for step in steps for token in step.committed]
    new, ids = one.settings.max_new_tokens, torch.tensor([runner.prompt_ids])
    if steps[-1].stop == "context":
        new = len(ours)
        assert ids.shape[1] + new == pair.for_prompt(runner.prompt_ids).context_length
    stock = load_pair(str(folder), "cpu", "float32", "off").target
    with warnings.catch_warnings():  # where min_new_tokens is more than the text may have
        warnings.filterwarnings("ignore", "Unfeasible length constraints")
        out = stock.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            num_beams=1,
            max_new_tokens=new,
            pad_token_id=0,
        )
    theirs = out[0, 1 if stock.config.is_encoder_decoder else ids.shape[1] :].tolist()
    margins = [p.margin for s in steps for p in s.predictions[: s.accepted + 1]]
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    if at is not None and margins[at] < ROUNDING:
        return ours[:at], theirs[:at]
    return ours, theirs


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_run_writes_what_generate_writes(seed, tmp_path, request):
    one, refusal = case(seed), None
    families.require(one.name)
    again = f"repeat it with: pytest --slow '{request.node.nodeid}'\n{one}"
    try:
        ours, theirs = written(one, tmp_path)
    except InputError as e:
        refusal = str(e)
    except Exception as e:
        raise AssertionError(f"{type(e).__name__}: {e}\n{again}") from e
    if refusal is not None:
        assert re.search("|".join(TRUE), refusal), f"{refusal}\n{again}"
    else:
        assert ours == theirs, again
