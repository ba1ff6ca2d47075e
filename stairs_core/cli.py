"""The command line: what may be asked for, and how every ending is told.

Options are checked before torch is imported, so that a slip is answered at once.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from . import commands, drafters, settings, tools, training
from .errors import InputError
from .render.cells import clip, visible
from .sampling import RULES
from .settings import BACKENDS, COMPILE, K_RANGE, LENGTH_RANGE, LENGTHS, Settings

DTYPES = ("auto", *settings.DTYPES, *settings.BITS)
BAD_INPUT, FAILED, CLOSED_PIPE = 2, 1, 141
TEXTS = ("--prompt", "--prompt-file", "--system", "--template-option")
"""Options whose value may be any text, also one that begins with a dash."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status. Nothing but ``--help`` leaves by SystemExit."""
    _open_streams()
    try:
        args = parser().parse_args(_joined(sys.argv[1:] if argv is None else argv))
        status = args.command(args)
        sys.stdout.flush()
        return status
    except InputError as e:
        return _complain(str(e), BAD_INPUT)
    except KeyboardInterrupt as e:
        # A training run says how far it came.
        return _complain(str(e), commands.INTERRUPTED)
    except BrokenPipeError:
        # The reader has left; the interpreter would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except Exception as e:
        if os.environ.get("STAIRS_DEBUG") == "1":
            raise
        reason = f"{type(e).__name__}: {e}".rstrip(": .\n")
        return _complain(f"Stairs failed: {reason}.", FAILED)


def _open_streams() -> None:
    """Has print work where a shell has closed a stream (``>&-``): Python has None there then, and
    the next file that is opened would stand in its place."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _joined(argv: Sequence[str]) -> list[str]:
    """``--prompt -x`` as ``--prompt=-x``: argparse takes what begins with a dash for an option."""
    found: list[str] = []
    words = iter(argv)
    for word in words:
        value = next(words, None) if word in TEXTS else None
        found.append(word if value is None else f"{word}={value}")
    return found


def _complain(sentence: str, status: int) -> int:
    if sentence:
        print(clip(visible(" ".join(sentence.split())), 500), file=sys.stderr)
    return status


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence; argparse would print the usage too."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message[:1].upper()}{message[1:]} (see {self.prog} --help).")


def parser() -> argparse.ArgumentParser:
    """Every command and its options."""
    top = _Parser(
        prog="stairs", description="See, measure and trust assisted decoding.", allow_abbrev=False
    )
    subparsers = top.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], int], summary: str):
        sub = subparsers.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        sub.set_defaults(command=run)
        return sub

    run = command("run", commands.run, "Decode one prompt and say what it took.")
    run.add_argument("--drafter", default="model", help=f"one of {', '.join(drafters.NAMES)}")
    _add_decoding(run)
    race = command(
        "race", commands.race, "Decode one prompt several ways, side by side on a fair clock."
    )
    race.add_argument("--lanes", default="none,model", help="drafters, with commas between them")
    race.add_argument("--what-if", action="store_true", help="also tell what other Ks would take")
    _add_decoding(race)
    preflight = command(
        "preflight", tools.preflight, "Say what a run may gain here, before it is decoded."
    )
    preflight.add_argument("--drafter", default="model", help="as for run")
    _add_drafting(preflight)
    _add_models(preflight, length=False)
    show = command("show", tools.show, "Draw a trace in the terminal.")
    show.add_argument("file", metavar="FILE", help="a trace, or a log of vLLM, SGLang, llama.cpp")
    show.add_argument("--step", type=int, metavar="N", help="the stairs of step N, from 1")
    show.add_argument("--html", metavar="FILE", help="write a replay that any browser opens")
    show.add_argument("--no-color", action="store_true", help="marks only")
    bench = command(
        "bench",
        tools.bench,
        "Time drafters against the target alone, on many prompts.",
    )
    bench.add_argument("--prompts", metavar="FILE", help="one a line (default: the held-out ones)")
    bench.add_argument("--count", type=int, default=10, help="prompts used (default: 10)")
    bench.add_argument(
        "--repeats", type=int, default=3, help="races a prompt and lane (default: 3)"
    )
    bench.add_argument("--ks", default="2,3,4,5,6,8", help="draft lengths (default: 2,3,4,5,6,8)")
    guessing = [name for name in drafters.NAMES if name != "none"]
    bench.add_argument(
        "--drafters", default=",".join(guessing), metavar="NAMES", help="with commas (default: all)"
    )
    bench.add_argument("--reference", nargs="+", default=(), metavar="FILE", help="to copy from")
    bench.add_argument(
        "--against", choices=("transformers",), help="time what people use today beside ours"
    )
    _add_models(bench)
    fetch = command("fetch", tools.fetch, "Fetch models from the hub, before they are needed.")
    fetch.add_argument("spec", metavar="SPEC", help="TARGET:DRAFT, or the id of one model")
    fetch.add_argument("--json", action="store_true", help="end stdout with one JSON object")
    widen = command(
        "widen", tools.widen, "Enlarge a pair without changing its text: big models' costs."
    )
    widen.add_argument("--pair", default="bundled", help="the small pair (default: bundled)")
    widen.add_argument("--out", required=True, metavar="FOLDER", help="where the large pair goes")
    widen.add_argument(
        "--target", required=True, metavar="SIZE", help="WIDTHxLAYERSxMLP, as 4096x32x11008 (7 B)"
    )
    widen.add_argument("--draft", metavar="SIZE", help="the same, as 1536x16x4096 (0.5 B)")
    widen.add_argument("--dtype", default="bfloat16", choices=settings.DTYPES)
    train = command("train", tools.train, "Train a target and a draft from a folder of text.")
    training.add_arguments(train)
    train.add_argument("--json", action="store_true", help="end stdout with one JSON object")
    return top


def _add_drafting(parser: argparse.ArgumentParser) -> None:
    usual = Settings()
    add = parser.add_argument
    add("--k", default=str(usual.k), help=f"guesses a step, {_range(K_RANGE, usual.k)}, or auto")
    add("--backend", default=usual.backend, help=f"one of {', '.join(BACKENDS)}")
    add("--numerics", default=usual.numerics, help="fast, or strict: the same bits in any grouping")


def _add_decoding(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    prompt = parser.add_mutually_exclusive_group(required=True).add_argument
    prompt("--prompt", metavar="TEXT")
    prompt("--prompt-file", metavar="FILE", help="a text file, or - for what comes in by a pipe")
    _add_drafting(parser)
    add("--length", metavar="POLICY", help=f"how many next: {', '.join(LENGTHS)}")
    add("--reference", nargs="+", default=(), metavar="FILE", help="texts that may be copied from")
    add(
        "--temperature",
        type=float,
        metavar="T",
        help="sample (default: greedily; 1 with what follows)",
    )
    add("--top-k", type=int, metavar="N", help="sample from the N likeliest tokens")
    add("--top-p", type=float, metavar="P", help="sample from the likeliest that make up P")
    add("--min-p", type=float, metavar="P", help="leave out what has less than P of the likeliest")
    add("--repetition-penalty", type=float, metavar="X", help="1 is none; also when greedy")
    add("--seed", type=int, metavar="N", help="of the dice (default: 0)")
    add("--rule", metavar="RULE", help=f"of the dice: {' or '.join(RULES)} (default: the first)")
    add("--check", action="store_true", help="status 1 if a text differs by more than rounding")
    add("--chat", action="store_true", help="wrap the prompt in the chat template")
    add("--system", default="", metavar="TEXT", help="a system prompt, with --chat")
    add(
        "--template-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="for the chat template, such as enable_thinking=false; may be repeated",
    )
    add("--source-language", metavar="CODE", help="of the prompt, where the tokenizer marks it")
    add("--target-language", metavar="CODE", help="to translate into (M2M100, NLLB, mBART)")
    add("--trace", metavar="FILE", help="save what happened, for show and for the page")
    _add_models(parser)


def _add_models(parser: argparse.ArgumentParser, *, length: bool = True) -> None:
    usual = Settings().max_new_tokens
    add = parser.add_argument
    add("--pair", default="bundled", help="bundled, a folder, or TARGET:DRAFT (default: bundled)")
    if length:
        new = _range(LENGTH_RANGE, usual)
        add("--max-new-tokens", type=int, default=usual, metavar="N", help=new)
    add("--dtype", default="auto", choices=DTYPES)
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N, or all of them")
    add("--compile", default="auto", choices=COMPILE, help="how models are made faster")
    add("--json", action="store_true", help="end stdout with one JSON object")


def _range(bounds: tuple[int, int], usual: int) -> str:
    return f"{bounds[0]} to {bounds[1]} (default: {usual})"
