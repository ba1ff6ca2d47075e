"""What a pass of a target on this CPU costs, against reading its weights once and doing no more.

    python tests/scripts/roofline.py --pair smollm2-135m

One token's pass reads every weight once, so it cannot be faster than matrix-vector products with
the same matrices (the roofline). Passes over more tokens, the output layer alone, EAGLE's head
where the target has one, and the products are timed in turn, round by round, in one run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from stairs_core.forward import hidden_states
from stairs_core.forward.cached_eagle import CachedEagle
from stairs_core.forward.cached_model import CachedModel
from stairs_core.models import devices, eagle_heads, heads, load

CONTEXT = 100
WIDTHS = (1, 2, 3, 5, 9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pair", default="smollm2-135m")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, help="default: as many as there are cores")
    args = parser.parse_args()
    devices.keep_to_cores()
    if args.threads:
        torch.set_num_threads(args.threads)
    name = str(load.BUNDLED / "target") if args.pair == "bundled" else args.pair
    shapes = matrices(load.load_stock(name, torch.device("cpu"), torch.float32))
    pair = load.load_pair(args.pair, "cpu", "float32")
    jobs = products(shapes) | passes(pair)
    times = measured(jobs, args.rounds)
    size = sum(4 * rows * width for rows, width in shapes)
    product, one = times["matrix-vector products"], times["pass over 1"]
    print(f"{pair.target_name}, float32, {torch.get_num_threads()} threads, {size / 1e6:.0f} MB")
    for name, seconds in times.items():
        against = f"{seconds / one:.2f} of a pass over 1"
        print(f"{name:30} {1000 * seconds:8.2f} ms   {against}")
    print(
        f"products read {size / product / 1e9:.1f} GB/s; the pass reaches {product / one:.2f} of it"
    )


def matrices(model: Any) -> list[tuple[int, int]]:
    """The shapes of all matrices that a pass over one token reads."""
    linears = (m for m in model.modules() if isinstance(m, torch.nn.Linear))
    return [tuple(m.weight.shape) for m in linears]  # type: ignore[misc]


def products(shapes: list[tuple[int, int]]) -> dict[str, Callable[[], Any]]:
    """Matrix-vector products with matrices of these shapes, as torch does them."""
    weights = [torch.randn(shape) for shape in shapes]
    inputs = {width: torch.randn(width) for _, width in shapes}
    return {"matrix-vector products": lambda: [torch.mv(w, inputs[w.shape[1]]) for w in weights]}


def passes(pair: Any) -> dict[str, Callable[[], Any]]:
    model = CachedModel(pair.target)
    text = torch.randint(0, 1000, (CONTEXT + max(WIDTHS),)).tolist()
    state = torch.randn(1, 1, pair.target.config.get_text_config().hidden_size)
    output = hidden_states.output_layer(pair.target)

    def over(width: int) -> Callable[[], Any]:
        return lambda: model.logits(text[: CONTEXT + width], width)

    model.logits(text, 1)
    jobs: dict[str, Callable[[], Any]] = {f"pass over {width}": over(width) for width in WIDTHS}
    jobs["output layer alone"] = lambda: output(state)
    if heads.find("eagle", pair.target):
        head, module = eagle_heads.ready(pair.target, pair.target_name)
        cached = CachedEagle(head)
        features = torch.randn(CONTEXT - 1, len(module.shape.features), state.shape[-1])

        def one_guess() -> None:
            cached._cache.length = CONTEXT
            cached.then(text[0])

        cached.take(features, CONTEXT - 1)
        cached.logits(text[:CONTEXT])
        jobs["EAGLE's head, a guess"] = one_guess
    return jobs


@torch.inference_mode()
def measured(jobs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """The median seconds of each job."""
    found: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds + 3):
        for name, job in jobs.items():
            began = time.perf_counter()
            job()
            if number >= 3:  # the first ones warm up
                found[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in found.items()}


if __name__ == "__main__":
    main()
