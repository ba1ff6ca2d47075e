"""Whether a draft that guesses on while the target checks can pay here (LLMCad, arXiv 2309.04255).

    python tests/scripts/overlap.py --pair bundled --k 4

LLMCad's loop lets the small model go on guessing while the large one checks, in case all is
accepted. Times the two passes of a step in turn, each with all threads, and both at once, each in a
thread of its own with half of them; the three are timed round by round in one run. Where "at once"
is not well below "in turn", overlapping cannot pay even if every guess were accepted; where it is,
it still pays only in the steps whose guesses, and the token after them, are all accepted: the share
of these on the prompt's text is counted too.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

from stairs_core.decoding import samplers
from stairs_core.forward.cached_model import CachedModel
from stairs_core.measuring.runner import Runner
from stairs_core.models import devices
from stairs_core.models.load import load_pair
from stairs_core.settings.settings import Settings

PROMPT = "Once upon a time there was a little girl who lived near the forest."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pair", default="bundled")
    parser.add_argument("--k", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    devices.keep_to_cores()
    pair = load_pair(args.pair, args.device, "auto")
    runner = Runner(pair, PROMPT, Settings("model", args.k, 96))
    steps = list(runner.decode())
    ids = runner.prompt_ids + [t.id for s in steps for t in s.committed]
    whole = sum(s.accepted == len(s.drafted) for s in steps) / len(steps)
    target, draft = CachedModel(pair.target), CachedModel(pair.draft)
    start = ids[: -args.k]
    sampler = samplers.Greedy(samplers.Processors())

    def check() -> None:
        target.logits(ids, args.k + 1)

    def guess() -> None:
        draft.write(start, args.k, sampler)

    threads = torch.get_num_threads()
    in_turn, at_once = [], []
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(_few, [max(1, threads // 2)] * 2))
        for _ in range(args.rounds):
            in_turn.append(_seconds(guess, check))
            at_once.append(_seconds(lambda: list(pool.map(lambda f: f(), (guess, check)))))
    turn, once = (statistics.median(times) * 1000 for times in (in_turn, at_once))
    print(f"K {args.k}, {threads} threads: guess and check in turn {turn:.2f} ms, ", end="")
    print(f"at once {once:.2f} ms: {once / turn:.2f} of it.")
    print(f"All guesses accepted in {whole:.0%} of {len(steps)} steps.")


def _few(threads: int) -> None:
    torch.set_num_threads(threads)
    time.sleep(0.05)  # so that the other worker takes the other call


def _seconds(*work: Callable[[], object]) -> float:
    start = time.perf_counter()
    for part in work:
        part()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
