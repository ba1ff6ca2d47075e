"""Compares EAGLE-3 heads with vLLM's ``speculators`` library, both ways.

    python tests/scripts/speculators_format.py --env FOLDER [--with torch==2.13.0+cpu]

That library (0.9.0) wants an older transformers than this project, so it gets an environment of its
own in FOLDER. There it writes a tiny head of random weights with its logits for random features;
here the head is opened, and its logits are compared. Then a head is written here, and opened there.
Each head drafts three tokens in a row, so that what it is fed back is compared too.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

LIBRARY = "speculators==0.9.0"
LIMIT = 1e-4
TOKENS, WIDTH, STEPS, ROWS = 12, 32, 3, 320
KINDS = {
    "llama": {"norm_before_residual": True},
    "llama, norms": {"norm_before_fc": True, "norm_output": True},
    "llama, a norm a layer": {"fc_norm": True, "norm_before_residual": True},
    "qwen3": {},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", type=Path, help="folder of the library's environment")
    parser.add_argument("--with", nargs="*", default=[], dest="more", help="also for pip install")
    parser.add_argument("--there", nargs=2, metavar=("WORK", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.there:
        {"write": write_there, "read": read_there}[args.there[0]](Path(args.there[1]))
        return 0
    python = environment(args.env or Path(tempfile.mkdtemp()) / "env", args.more)
    worst = 0.0
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "kind").write_text(kind)
            there(python, "write", folder)
            opened = compare(folder, logits_here(folder))
            write_here(folder)
            there(python, "read", folder)
            read = compare(folder, logits_here(folder))
        print(f"{kind}: written there, opened here: {opened:.1e}; the other way: {read:.1e}")
        worst = max(worst, opened, read)
    print(f"largest difference of a logit: {worst:.1e}; allowed: {LIMIT:.0e}")
    return int(worst > LIMIT)


def environment(folder: Path, more: list[str]) -> Path:
    """The Python of an environment that has the library, which is made if it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", LIBRARY, *more], check=True)
    code = "import speculators, torch, transformers as t; print(torch.__version__, t.__version__)"
    said = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True)
    print(f"{LIBRARY} with torch and transformers {said.stdout.strip().splitlines()[-1]}")
    return python


def there(python: Path, work: str, folder: Path) -> None:
    words = [str(python), str(Path(__file__).resolve()), "--there", work, str(folder)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def numbers() -> dict[str, torch.Tensor]:
    """Features [tokens, 3 layers, width] and the id after each position [tokens]."""
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(TOKENS, 3, WIDTH, generator=generator)
    return {"features": features, "ids": torch.randint(ROWS, (TOKENS,), generator=generator)}


def guessable() -> torch.Tensor:
    return torch.tensor([i for i in range(ROWS) if i % 5 != 4])


def randomise(model: torch.nn.Module) -> None:
    torch.manual_seed(5)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            norm = "norm" in name
            weight.uniform_(0.5, 1.5) if norm else weight.normal_(std=weight.shape[-1] ** -0.5)


# What runs in the library's environment, where this project is not installed.


def write_there(folder: Path) -> None:
    from speculators import SpeculatorsConfig, VerifierConfig
    from speculators.models.eagle3 import Eagle3DraftModel, Eagle3SpeculatorConfig
    from speculators.proposals.greedy import GreedyTokenProposalConfig
    from transformers import LlamaConfig, Qwen3Config

    kind = (folder / "kind").read_text()
    family = Qwen3Config if kind == "qwen3" else LlamaConfig
    layer = family(
        vocab_size=ROWS,
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
    )
    verifier = VerifierConfig(name_or_path=None, architectures=["LlamaForCausalLM"])
    greedy = GreedyTokenProposalConfig(speculative_tokens=STEPS)
    config = Eagle3SpeculatorConfig(
        transformer_layer_config=layer,
        draft_vocab_size=len(guessable()),
        eagle_aux_hidden_state_layer_ids=[1, 2, 3],
        speculators_config=SpeculatorsConfig(
            algorithm="eagle3",
            proposal_methods=[greedy],
            default_proposal_method="greedy",
            verifier=verifier,
        ),
        **KINDS[kind],
    )
    layer._attn_implementation = "eager"
    model = Eagle3DraftModel(config)
    randomise(model)
    ids, known = guessable(), torch.zeros(ROWS, dtype=torch.bool)
    known[ids] = True
    model.load_vocab_mappings(known, ids - torch.arange(len(ids)))
    model.save_pretrained(folder / "head")
    save_file({"logits": logits_there(model)}, folder / "logits.safetensors")


def read_there(folder: Path) -> None:
    from speculators.models.eagle3 import Eagle3DraftModel, Eagle3SpeculatorConfig

    config = Eagle3SpeculatorConfig.from_pretrained(folder / "head")
    config.transformer_layer_config._attn_implementation = "eager"
    model = Eagle3DraftModel.from_pretrained(folder / "head", config=config).float()
    save_file({"logits": logits_there(model)}, folder / "logits.safetensors")


def logits_there(model: Any) -> torch.Tensor:
    """[steps, tokens, vocabulary of the head]: its logits, caught at its output layer."""
    given, found = numbers(), []
    model.eval().lm_head.register_forward_hook(lambda _, inputs, out: found.append(out[0]))
    with torch.no_grad():
        model(
            hidden_states=given["features"].flatten(1)[None],
            input_ids=given["ids"][None],
            document_ids=torch.zeros(1, TOKENS, dtype=torch.long),
            ttt_steps=STEPS,
        )
    return torch.stack(found)


# What runs here.


def target() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=ROWS, hidden_size=WIDTH, intermediate_size=64, **sizes)
    torch.manual_seed(4)
    return LlamaForCausalLM(config)


def opened(folder: Path) -> Any:
    """The head of a folder, as the drafter opens it."""
    from stairs_core.models import eagle_heads, heads

    model = target()
    heads.give(model, str(folder / "head"))
    return eagle_heads.opened(heads.load("eagle", model, "the target"), model)


def logits_here(folder: Path) -> list[torch.Tensor]:
    """For each step, [tokens, vocabulary of the head]: one token fewer than the step before."""
    from stairs_core.training.heads.eagle import _unrolled

    head, given = opened(folder), numbers()
    ids = torch.cat([torch.zeros(1, dtype=torch.long), given["ids"]])[None]
    features = torch.cat([given["features"], torch.zeros(1, 3, WIDTH)])[None]
    with torch.no_grad():
        return [head.lm_head(step[0]) for step in _unrolled(head, ids, features, STEPS)]


def write_here(folder: Path) -> None:
    """Writes other weights in the place of the head that was read, as training writes them."""
    from stairs_core.models import eagle_format, heads
    from stairs_core.training.heads.command import write

    head, model = opened(folder), target()
    randomise(head.requires_grad_(True))
    about = eagle_format.beside(heads.described(model))
    config = eagle_format.config_of(head.shape, model, STEPS) | about
    # The library asks for the target too, and a target of a folder is not named by itself.
    model.save_pretrained(folder / "target")
    config["speculators_config"]["verifier"]["name_or_path"] = str(folder / "target")
    write(head, config, folder / "head")


def compare(folder: Path, ours: list[torch.Tensor]) -> float:
    """The largest difference between logits here and there."""
    theirs = load_file(folder / "logits.safetensors")["logits"]
    pairs = zip(ours, theirs, strict=True)
    return max(float((a - b[: len(a)]).abs().max()) for a, b in pairs)


if __name__ == "__main__":
    sys.exit(main())
