"""Times the setting of the stairs paper (arXiv 2407.19947): a large T5 with a small one before it.

    python tests/scripts/paper_setting.py --target large --k 2,4,6,8 --alpha 0.7

The models have the shapes of T5 and random weights, since nothing is downloaded. Random models do
not agree, so what the draft says is planted: the target's own text, wrong at every position with
the probability 1 - alpha, by a seed. All passes of both models, encoders too, are run and timed.
The paper's machine, prompts and batch sizes are not known to us: compare the kind of result, not
its size.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from transformers import T5Config, T5ForConditionalGeneration

from stairs_core.decoding import draft_lengths, samplers, verify
from stairs_core.decoding.clock import Clock
from stairs_core.decoding.engine import Limits, generate
from stairs_core.decoding.recorder import Recorder
from stairs_core.forward import faster_pass
from stairs_core.forward.cached_model import CachedModel
from stairs_core.forward.encoder_decoder import bind
from stairs_core.models import devices
from stairs_core.protocols import LazyIds, Outcome, Proposal, Sampler
from stairs_core.settings.settings import BACKENDS, COMPILE, DTYPES
from stairs_core.text.tokens import Wordless
from stairs_core.traces.records import Step

SHAPES = {  # d_model, layers a side, heads, d_kv, d_ff
    "tiny": (64, 2, 4, 16, 128),
    "small": (512, 6, 8, 64, 2048),
    "base": (768, 12, 12, 64, 3072),
    "large": (1024, 24, 16, 64, 4096),
    "3b": (1024, 24, 32, 128, 16384),
}
VOCABULARY = 32128


class Planted:
    """The draft: its passes are real, its words are those of ``script``, from ``start`` on.

    A drafter, and the choice of tokens that it writes with.
    """

    name = "model"
    reads_layers = ()

    def __init__(self, model: Any, script: list[int], start: int) -> None:
        self._lane, self._script, self._start = CachedModel(model), script, start

    def propose(self, context: list[int], k: int) -> Proposal:
        as_choice: Any = self
        return Proposal(self._lane.write(context, k, as_choice)[0], self.name)

    def observe(self, outcome: Outcome) -> None: ...

    def sample(self, text: LazyIds, logits: torch.Tensor) -> tuple[torch.Tensor, None]:
        token = logits.argmax()  # what a draft has to find out, and is then not followed
        return token.new_tensor(self._script[len(text()) - self._start]), None


class Setting:
    """Both models and a prompt. ``script``: what the draft says, once the text is known."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        where = devices.device(args.device)
        dtype = devices.dtype(args.dtype, where)
        made = [partial(make, shape, where, dtype) for shape in (args.target, args.draft)]
        self.target, self.draft = (faster_pass.build(one(), args.compile, one) for one in made)
        dice = random.Random(args.seed)
        self.ids = [dice.randrange(2, VOCABULARY) for _ in range(args.prompt)]
        self.greedy: Sampler = samplers.Greedy(samplers.Processors())
        self.script: list[int] = []

    def run(self, backend: str, k: int, new: int) -> tuple[list[int], list[Step]]:
        """The text and the steps of a run with fresh lanes; the target alone where ``k`` is 0."""
        device = self.target.device
        check = verify.build(backend, bind(self.target, self.ids))
        drafter = Planted(bind(self.draft, self.ids), self.script, len(self.ids))
        parts = self.greedy, Recorder(Wordless(), self.ids), Clock(device)
        limits = Limits(len(self.ids) + new, "length")
        length = draft_lengths.build("constant", k)
        steps = [*generate(self.ids, check, drafter, *parts, limits, length)]
        return [t.id for step in steps for t in step.committed], steps

    def plant(self, text: list[int], alpha: float, seed: int) -> None:
        dice = random.Random(seed)
        self.script = [t if dice.random() < alpha else (t + 1) % VOCABULARY for t in text]


def make(shape: str, where: torch.device, dtype: torch.dtype) -> T5ForConditionalGeneration:
    width, layers, heads, head, inner = SHAPES[shape]
    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=width,
        d_kv=head,
        d_ff=inner,
        num_layers=layers,
        num_heads=heads,
        decoder_start_token_id=0,
    )
    return T5ForConditionalGeneration(config).eval().to(where, dtype)


def measure(args: argparse.Namespace) -> Iterator[str]:
    """The lines of the report."""
    setting = Setting(args)
    text, _ = setting.run("single_kv", 0, args.new)
    setting.plant(text, args.alpha, args.seed)
    lanes = [(b, 0) for b in ("single_kv", "single") if b in args.backends]
    lanes += [(b, k) for b in args.backends for k in args.k]
    runs: dict[tuple[str, int], list[list[Step]]] = {lane: [] for lane in lanes}
    for lane in lanes:  # off the clock, what only first passes need
        setting.run(*lane, min(args.new, 3))
    for turn in range(args.repeats):
        for lane in lanes:
            print(f"run {turn + 1} of {args.repeats}: {lane[0]}, K = {lane[1]}", file=sys.stderr)
            said, steps = setting.run(*lane, args.new)
            if said != text:
                sys.exit(f"{lane}: the text is not the target's own.")
            runs[lane].append(steps)
    yield (
        f"T5-{args.target} after T5-{args.draft}, random weights, {setting.target.dtype}; "
        f"{devices.hardware(setting.target.device)}; "
        f"prompt {args.prompt}, {args.new} new tokens, alpha {args.alpha} planted, "
        f"{args.repeats} runs a lane"
    )
    yield ""
    yield "| backend | K | seconds | draft | tokens a target call | saved over alone | no cache |"
    yield "|---|---|---|---|---|---|---|"
    alone = {lane[0]: seconds(runs[lane]) for lane in lanes if not lane[1]}
    for (backend, k), several in runs.items():
        share = sum(s.draft_seconds for s in several[0]) / several[0][-1].elapsed if k else 0.0
        saved = (saving(seconds(several), alone.get(b)) for b in ("single_kv", "single"))
        cells = (
            backend,
            str(k) if k else "alone",
            f"{seconds(several):.2f}",
            f"{share:.0%}",
            f"{args.new / len(several[0]):.2f}",
            *saved,
        )
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield "Saved over the target alone with a KV cache, then without. The paper says 17.24 % for "
    yield "T5-large and 9.58 % for T5-3B, on a machine and at an acceptance rate not known to us."


def seconds(runs: list[list[Step]]) -> float:
    return statistics.median(steps[-1].elapsed for steps in runs)


def saving(lane: float, alone: float | None) -> str:
    return f"{1 - lane / alone:+.1%}" if alone else "-"


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    numbers = lambda text: [int(part) for part in text.split(",")]  # noqa: E731
    parser.add_argument("--target", choices=SHAPES, default="large")
    parser.add_argument("--draft", choices=SHAPES, default="small")
    parser.add_argument("--alpha", type=float, default=0.7, help="share of right positions")
    parser.add_argument("--k", type=numbers, default=[2, 4, 6, 8], help="as 2,4,6,8")
    parser.add_argument("--backends", type=lambda s: s.split(","), default=list(BACKENDS))
    parser.add_argument("--prompt", type=int, default=32, help="tokens that the encoders read")
    parser.add_argument("--new", type=int, default=24, help="tokens to write")
    parser.add_argument("--repeats", type=int, default=1, help="runs of every lane")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("auto", *DTYPES), default="auto")
    parser.add_argument("--compile", choices=COMPILE, default="auto")
    return parser


if __name__ == "__main__":
    for line in measure(options().parse_args()):
        print(line, flush=True)
