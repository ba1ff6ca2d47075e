"""What a pass costs on a GPU: as transformers runs it, replayed as a CUDA graph, and at the least.

    python tests/scripts/gpu_passes.py --out FOLDER
    python tests/scripts/gpu_passes.py --model PATH --out FOLDER

Times passes over 1, 2, 5 and 9 tokens after 256 and 1024 others, of models with the shapes of known
ones and random weights, or of a model from a folder. The least (the roofline) is the time in which
this GPU reads the pass's weights, and the keys and values before it, at the best rate that a copy
or a matrix-vector product reached in the same run. Then decodes with a pair, plainly and assisted,
with graphs and without. Prints Markdown, writes JSON. A part that fails is reported as a row. Needs
torch and transformers; without a GPU a tiny model shows that the script runs.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

import torch
import transformers
from graph_standin import Recorder
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from stairs_core.forward import cuda_graphs, faster_pass
from stairs_core.forward.cached_model import CachedModel

TOKENS, CONTEXTS = (1, 2, 5, 9), (256, 1024)
SHAPES: dict[str, tuple[type, dict[str, Any]]] = {
    "tiny": (
        LlamaConfig,
        {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "vocab_size": 320}
        | {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True},
    ),
    "SmolLM2-135M": (
        LlamaConfig,
        {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30}
        | {"num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152}
        | {"tie_word_embeddings": True},
    ),
    "Qwen2.5-0.5B": (
        Qwen2Config,
        {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24}
        | {"num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936}
        | {"tie_word_embeddings": True},
    ),
    "Qwen2.5-1.5B": (
        Qwen2Config,
        {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28}
        | {"num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151936}
        | {"tie_word_embeddings": True},
    ),
    "Qwen2.5-7B": (
        Qwen2Config,
        {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28}
        | {"num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064}
        | {"tie_word_embeddings": False},
    ),
}
PROMPT = "Once upon a time there was a little girl who lived near the forest."

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", action="append", default=[], help="a model's folder")
    parser.add_argument("--shapes", help="names, commas between; default: all, or tiny on a CPU")
    parser.add_argument("--pair", default="bundled", help="to decode with; '' for none")
    parser.add_argument("--out", type=Path, help="a folder for the JSON")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=50, help="no row is begun after so many")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    usual = [name for name in SHAPES if name != "tiny"] if device.type == "cuda" else ["tiny"]
    names = usual if args.shapes is None else [n for n in args.shapes.split(",") if n]
    until = time.perf_counter() + args.seconds
    found: Row = {"machine": machine(device), "bandwidth": attempt(lambda: bandwidth(device))}
    print(f"{json.dumps(found)}\n\n{head(PASSES)}", flush=True)
    best = max((v for v in found["bandwidth"].values() if isinstance(v, float)), default=0.0)
    found["passes"] = []
    for make, name in [*((folder, m) for m in args.model), *((shape, n) for n in names)]:
        for row in rows(name, make, device, best, args.rounds, until):
            found["passes"].append(row)
            print(line(row, PASSES), flush=True)
    show(KERNELS, spent(found["passes"]))
    found["decoding"] = show(DECODING, decoding(args.pair, device, until) if args.pair else ())
    found["attention"] = show(ATTENTION, attention(device, until))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "gpu_passes.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


def machine(device: torch.device) -> Row:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {"device": name, "torch": torch.__version__, "transformers": transformers.__version__}


def attempt(job: Callable[[], Row]) -> Row:
    """What the job returns or, where it fails, the error."""
    try:
        return job()
    except Exception as e:  # whatever it is, the other rows go on
        return {"error": f"{type(e).__name__}: {' '.join(str(e).split())}"[:300]}


@torch.inference_mode()
def bandwidth(device: torch.device) -> Row:
    """Bytes per second of a copy, read and written, and of a matrix-vector product."""
    gpu = device.type == "cuda"
    dtype = torch.bfloat16 if gpu else torch.float32
    matrix = torch.ones(
        2**15 if gpu else 2**10, 2**14 if gpu else 2**12, dtype=dtype, device=device
    )
    other, vector = (
        torch.empty_like(matrix),
        torch.ones(matrix.shape[1], dtype=dtype, device=device),
    )
    size = matrix.numel() * matrix.element_size()
    copy = seconds(lambda: other.copy_(matrix), device, 10)
    return {"copy": 2 * size / copy, "mv": size / seconds(lambda: matrix @ vector, device, 10)}


# Passes

PASSES = ("model", "context", "tokens", "stock ms", "graph ms", "replay ms", "least ms", "faster")
PASSES += ("of the least", "largest change", "same choice", "first ms")


def rows(
    name: str, make: Callable, device: torch.device, best: float, rounds: int, until: float
) -> Iterator[Row]:
    """One for every pass of a model, or one with an error."""
    made: list[Any] = []
    if error := attempt(lambda: made.extend(lanes(make(name, device))) or {}):
        yield {"model": name, **error}
        return
    for context in CONTEXTS:
        for tokens in TOKENS:
            case = {"model": name, "context": context, "tokens": tokens}
            if time.perf_counter() > until:
                yield {**case, "error": "left out: no time"}
                continue
            yield case | attempt(lambda c=context, t=tokens: timed(*made, c, t, best, rounds))
    made.clear()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def lanes(model: Any) -> tuple[Any, CachedModel, CachedModel]:
    """The model, with caches: as transformers runs it, and with graphs."""
    stock = CachedModel(model)
    if model.device.type == "cuda":
        faster_pass.build(model, "auto", list)
        if cuda_graphs.of(model) is None:  # the rows show what is wrong with them
            print(f"{model.config.model_type}: would be given no graphs")
            cuda_graphs.attach(model)
    else:
        cuda_graphs.attach(model, Recorder())  # type: ignore[arg-type]
    return model, stock, CachedModel(model)


def shape(name: str, device: torch.device) -> Any:
    """A model of this shape, with random weights."""
    kind, sizes = SHAPES[name]
    config = kind(**sizes, max_position_embeddings=8192)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    torch.manual_seed(0)
    with device:
        return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def folder(name: str, device: torch.device) -> Any:
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model: Any = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, local_files_only=True)
    return model.eval().to(device)


def timed(
    model: Any,
    stock: CachedModel,
    ours: CachedModel,
    context: int,
    tokens: int,
    best: float,
    rounds: int,
) -> Row:
    """Seconds of one pass, in all ways, and how far its logits are from each other."""
    device = model.device
    generator = torch.Generator().manual_seed(1)
    text = torch.randint(model.config.vocab_size, (context + tokens,), generator=generator).tolist()
    logits, first = [], 0.0
    for cached in (stock, ours):
        cached.logits(text[:context], 1)
        began = time.perf_counter()
        logits.append(cached.logits(text, tokens).float().cpu())
        first = time.perf_counter() - began  # of ours in the end: with the recording
    took = [seconds(lambda c=c: c.logits(text, tokens), device, rounds) for c in (stock, ours)]
    least = size(model, context + tokens) / best if best else None
    return {
        "stock ms": 1000 * took[0],
        "graph ms": 1000 * took[1],
        "replay ms": replay(ours, rounds),
        "least ms": least and 1000 * least,
        "faster": took[0] / took[1],
        "of the least": least and took[1] / least,
        "largest change": (logits[0] - logits[1]).abs().max().item(),
        "same choice": (logits[0].argmax(-1) == logits[1].argmax(-1)).float().mean().item(),
        "first ms": 1000 * first,
        "kernels": kernels(ours, text, tokens),
    }


def kernels(cached: CachedModel, text: list[int], tokens: int) -> list[tuple[str, int, float]]:
    """The GPU's kernels in a pass: name, how often, microseconds in all; the longest first. For a
    long text and passes over 1 and 5 tokens only."""
    if not torch.cuda.is_available() or len(text) < max(CONTEXTS) or tokens not in (1, 5):
        return []
    from torch.profiler import ProfilerActivity, profile

    try:
        with profile(activities=[ProfilerActivity.CUDA]) as found:
            cached.logits(text, tokens)
            torch.cuda.synchronize()
        events = sorted(found.key_averages(), key=lambda e: -e.device_time_total)
        return [(e.key[:90], e.count, round(e.device_time_total, 1)) for e in events[:14]]
    except Exception as e:  # the row goes on without it
        return [(f"{type(e).__name__}: {e}"[:90], 0, 0.0)]


def replay(cached: CachedModel, rounds: int) -> float | None:
    """Milliseconds of the graph alone that was recorded last, launched again and again."""
    static: Any = cached._static
    if cached._model.device.type != "cuda":
        return None
    recorded = [*static._recorded.values()]
    graph, many = recorded[-1][0], 3 * rounds
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    began.record()
    for _ in range(many):
        graph.replay()
    ended.record()
    ended.synchronize()
    return began.elapsed_time(ended) / many


def size(model: Any, context: int) -> int:
    """Bytes that a pass must read: each weight once, and the keys and values of ``context``."""
    config = model.config
    head = model.model.layers[0].self_attn.head_dim
    weights = sum(p.numel() for p in model.parameters())
    if model.lm_head.weight.data_ptr() != model.get_input_embeddings().weight.data_ptr():
        weights -= model.get_input_embeddings().weight.numel()  # of which it reads a few rows
    cached = 2 * config.num_hidden_layers * config.num_key_value_heads * head * context
    return (weights + cached) * model.lm_head.weight.element_size()


def seconds(job: Callable[[], Any], device: torch.device, rounds: int) -> float:
    """The median of a job's times, the GPU waited for."""

    def done() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    times = []
    for number in range(rounds + 2):
        began = done()
        job()
        if number >= 2:
            times.append(done() - began)
        else:
            done()
    return statistics.median(times)


KERNELS = ("model", "context", "tokens", "kernel", "times", "us")


def spent(passes: list[Row]) -> Iterator[Row]:
    """Where the time of some passes went."""
    for row in passes:
        for name, times, us in row.get("kernels") or ():
            case = {name: row[name] for name in KERNELS[:3]}
            yield {**case, "kernel": name.replace("|", "/"), "times": times, "us": us}


# Attention alone, by kernel

PRODUCTS = "products"
ATTENTION = ("heads", "rows", "head", "seen", "kernel", "us")


def attention(device: torch.device, until: float) -> Iterator[Row]:
    """The attention of a pass over 1 and 5 tokens, by each of torch's kernels that takes it, and as
    two products with a softmax between."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    ways: list[Any] = [None, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION, PRODUCTS]
    for heads, groups, head in ((3, 3, 64), (4, 7, 128)) if device.type == "cuda" else ():
        for tokens, seen in ((1, 256), (1, 1024), (5, 1024), (1, 4096)):
            for way in ways:
                sizes = {"heads": heads, "rows": groups * tokens, "head": head, "seen": seen}
                case = {**sizes, "kernel": getattr(way, "name", way) or "as chosen"}
                if time.perf_counter() > until:
                    return

                def one(way: Any = way, sizes: dict[str, int] = sizes) -> Row:
                    fixed = isinstance(way, SDPBackend)
                    with sdpa_kernel(way) if fixed else torch.inference_mode():
                        return {"us": attending(**sizes, device=device, products=way == PRODUCTS)}

                yield case | attempt(one)


@torch.inference_mode()
def attending(
    heads: int, rows: int, head: int, seen: int, device: torch.device, products: bool
) -> float:
    """Microseconds of one call, of many in a graph."""
    many, like = 50, {"dtype": torch.bfloat16, "device": device}
    q, k, v = (torch.randn(1, heads, n, head, **like) for n in (rows, seen, seen))
    mask = torch.zeros(1, 1, rows, seen, **like)

    def run() -> None:
        for _ in range(many):
            if products:
                scores = torch.baddbmm(mask[0], q[0], k[0].mT, alpha=head**-0.5)
                torch.bmm(scores.softmax(-1), v[0])
            else:
                torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    graph, _ = cuda_graphs.Recorder(device).record(run)
    return 1e6 * seconds(graph.replay, device, 5) / many


# Decoding

DECODING = ("pair", "dtype", "compile", "drafter", "tokens/s", "of plain", "same text", "alpha")


def decoding(name: str, device: torch.device, until: float) -> Iterator[Row]:
    """Plain and assisted decoding with a pair, without graphs and with them."""
    for dtype in ("float32", "bfloat16") if device.type == "cuda" else ("float32",):
        for how in ("off", "auto"):
            case = {"pair": name, "dtype": dtype, "compile": how}
            if time.perf_counter() > until:
                yield {**case, "error": "left out: no time"}
                continue
            try:
                yield from (case | row for row in raced(name, str(device), dtype, how))
            except Exception as e:  # whatever it is, the other rows go on
                yield {**case, "error": f"{type(e).__name__}: {e}"[:300]}


def raced(name: str, device: str, dtype: str, how: str) -> Iterator[Row]:
    from stairs_core.measuring.race import race
    from stairs_core.measuring.runner import Runner
    from stairs_core.models.load import load_pair
    from stairs_core.settings.settings import Settings
    from stairs_core.traces.metrics import fold

    pair = load_pair(name, device, dtype, how)
    drafters = ["none", *(["model"] if pair.draft is not None else []), "lookup"]
    settings = [Settings(drafter=d, k=4, max_new_tokens=96) for d in drafters]
    runners = [Runner(pair, PROMPT, s) for s in settings]
    for _ in race(runners):
        pass
    plain = runners[0].recording()
    for drafter, runner in zip(drafters, runners, strict=True):
        written, summary = runner.recording(), fold(runner.steps)
        rate = len(written.new_ids) / runner.clock.elapsed
        yield {
            "drafter": drafter,
            "tokens/s": rate,
            "of plain": rate * runners[0].clock.elapsed / len(plain.new_ids),
            "same text": written.new_ids == plain.new_ids,
            "alpha": summary.alpha,
        }


# Tables


def show(columns: tuple[str, ...], rows: Any) -> list[Row]:
    """Prints rows as they come, and returns them."""
    found = []
    for row in rows:
        if not found:
            print("\n" + head(columns))
        found.append(row)
        print(line(row, columns), flush=True)
    return found


def head(columns: tuple[str, ...]) -> str:
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def line(row: Row, columns: tuple[str, ...]) -> str:
    def cell(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)

    return f"| {' | '.join(cell(row.get(c)) for c in columns)} | {row.get('error', '')}"


if __name__ == "__main__":
    main()
