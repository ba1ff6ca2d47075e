"""The command line: its options, and the exit code and message of every way to end.

Options are checked before torch is imported, so that a mistake is reported at once.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NoReturn

from ..errors import InputError
from ..render.terminal.text import clip, visible
from ..settings import methods, settings
from ..settings.known import KNOWN
from ..settings.sampling import RULES
from ..settings.settings import BACKENDS, COMPILE, K_RANGE, LENGTH_RANGE, LENGTHS, Settings
from ..training import command as training
from ..training.heads import options as head_options
from ..training.slm import options as slm_options
from ..training.space import options as space_options
from . import bench, decode, inspect, models
from .console import INTERRUPTED

DTYPES = ("auto", *settings.DTYPES, *settings.BITS)
BAD_INPUT, FAILED, CLOSED_PIPE = 2, 1, 141
TEXTS = ("--prompt", "--prompt-file", "--system", "--template-option")
"""Options whose value may be any text, also one that begins with a dash."""
APART = ("train head", "train slm", "train space")


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
        # Training and fetching put into it how far they came.
        return _complain(str(e), INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output is gone; Python would complain when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except Exception as e:
        if os.environ.get("STAIRS_DEBUG") == "1":
            raise
        reason = f"{type(e).__name__}: {e}".rstrip(": .\n")
        return _complain(f"Stairs failed: {reason}.", FAILED)


def _open_streams() -> None:
    """Replaces streams that a shell has closed (``>&-``) by /dev/null.

    Python sets such a stream to None, and the next file that is opened would get its descriptor.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _joined(argv: Sequence[str]) -> list[str]:
    """``--prompt -x`` as ``--prompt=-x``: argparse takes a word with a dash for an option.

    ``train head`` becomes one word: it is a command of its own, with other options than ``train``.
    So do ``train slm`` and ``train space``.
    """
    apart = " ".join(argv[:2]) in APART
    if len(argv) > 1 and argv[0] == "train" and not apart and not argv[1].startswith("-"):
        raise InputError(
            f"There is no training {argv[1]!r:.40}: train alone makes a pair, and there are "
            f"{', '.join(APART[:-1])} and {APART[-1]}."
        )
    found: list[str] = [" ".join(argv[:2])] if apart else []
    words = iter(argv[2:] if apart else argv)
    for word in words:
        value = next(words, None) if word in TEXTS else None
        found.append(word if value is None else f"{word}={value}")
    return found


def _complain(sentence: str, status: int) -> int:
    if sentence:
        print(clip(visible(" ".join(sentence.split())), 500), file=sys.stderr)
    return status


class _Parser(argparse.ArgumentParser):
    """Reports a mistake as one sentence; argparse itself would print the usage too."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message[:1].upper()}{message[1:]} (see {self.prog} --help).")


def parser() -> argparse.ArgumentParser:
    """Every command and its options, in the order of ``stairs --help``."""
    top = _Parser(
        prog="stairs", description="See, measure and trust assisted decoding.", allow_abbrev=False
    )
    subparsers = top.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], int], summary: str):
        sub = subparsers.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        sub.set_defaults(command=run)
        return sub

    _add_run(command("run", decode.run, "Decode one prompt and say what it took."))
    _add_race(
        command(
            "race", decode.race, "Decode one prompt several ways, side by side on a fair clock."
        )
    )
    _add_preflight(
        command(
            "preflight", inspect.preflight, "Say what a run may gain here, before it is decoded."
        )
    )
    _add_show(command("show", inspect.show, "Draw a trace in the terminal."))
    _add_bench(
        command("bench", bench.bench, "Time drafters against the target alone, on many prompts.")
    )
    _add_fetch(command("fetch", models.fetch, "Fetch models from the hub, before they are needed."))
    _add_widen(
        command(
            "widen", models.widen, "Enlarge a pair without changing its text: big models' costs."
        )
    )
    for name, run, options, words in (
        ("train", models.train, training, "Train a target and a draft from a folder of text."),
        ("train head", models.train_head, head_options, "Train a head on a frozen target."),
        (
            "train slm",
            models.train_slm,
            slm_options,
            "Train a small model to read prompts with a large.",
        ),
        (
            "train space",
            models.train_space,
            space_options,
            "Tune a target to guess at mask tokens (SPACE).",
        ),
    ):
        _add_training(command(name, run, words), options)
    return top


def _add_run(run: argparse.ArgumentParser) -> None:
    names = f"one of {', '.join(methods.NAMES)} (default: model, or lookup without a draft)"
    run.add_argument("--drafter", help=names)
    _add_decoding(run)


def _add_race(race: argparse.ArgumentParser) -> None:
    race.add_argument("--lanes", help="drafters, with commas between them (default: none,model)")
    race.add_argument("--what-if", action="store_true", help="also tell what other Ks would take")
    _add_decoding(race)


def _add_preflight(preflight: argparse.ArgumentParser) -> None:
    preflight.add_argument("--drafter", help="as for run")
    _add_drafting(preflight)
    _add_models(preflight, length=False)


def _add_show(show: argparse.ArgumentParser) -> None:
    add = show.add_argument
    what = "a trace, or a log of vLLM, SGLang, llama.cpp; or - for what comes in by a pipe"
    add("file", metavar="FILE", help=what)
    add("--step", type=int, metavar="N", help="the stairs of step N, from 1")
    add("--html", metavar="FILE", help="write a replay that any browser opens")
    add("--no-color", action="store_true", help="marks only")


def _add_bench(bench: argparse.ArgumentParser) -> None:
    guessing = ",".join(name for name in methods.NAMES if name != "none")
    add = bench.add_argument
    add("--prompts", metavar="FILE", help="one a line (default: the held-out ones)")
    add("--count", type=int, default=10, help="prompts used (default: 10)")
    add("--repeats", type=int, default=3, help="races a prompt and lane (default: 3)")
    add("--ks", default="2,3,4,5,6,8", help="draft lengths (default: 2,3,4,5,6,8)")
    add("--drafters", default=guessing, metavar="NAMES", help="with commas (default: all)")
    add("--reference", nargs="+", default=(), metavar="FILE", help="to copy from")
    add("--against", choices=("transformers",), help="time what people use today beside ours")
    add("--only", nargs="+", metavar="WORDS", help="only lanes with these in their names")
    _add_models(bench)


def _add_fetch(fetch: argparse.ArgumentParser) -> None:
    fetch.add_argument("spec", metavar="SPEC", help="TARGET:DRAFT, or one model: its id or name")
    fetch.add_argument("--json", action="store_true", help="end stdout with one JSON object")


def _add_widen(widen: argparse.ArgumentParser) -> None:
    add = widen.add_argument
    add("--pair", default="bundled", help="the small pair (default: bundled)")
    add("--out", required=True, metavar="FOLDER", help="where the large pair goes")
    sizes = "WIDTHxLAYERSxMLP, as 4096x32x11008 (7 B)"
    add("--target", required=True, metavar="SIZE", help=sizes)
    add("--draft", metavar="SIZE", help="the same, as 1536x16x4096 (0.5 B)")
    add("--dtype", default="bfloat16", choices=settings.DTYPES)


def _add_training(parser: argparse.ArgumentParser, options: ModuleType) -> None:
    """``options``: the module with the ``add_arguments`` of one kind of training."""
    options.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="end stdout with one JSON object")


def _add_drafting(parser: argparse.ArgumentParser) -> None:
    usual = Settings()
    add = parser.add_argument
    low, high = K_RANGE
    add("--k", help=f"guesses a step, {low} to {high} (default: as suits the guesser), or auto")
    add("--backend", default=usual.backend, help=f"one of {', '.join(BACKENDS)}")
    add("--numerics", default=usual.numerics, help="fast, or strict: the same bits in any grouping")


def _add_decoding(parser: argparse.ArgumentParser) -> None:
    """The options that ``run`` and ``race`` share."""
    add = parser.add_argument
    prompt = parser.add_mutually_exclusive_group(required=True).add_argument
    prompt("--prompt", metavar="TEXT")
    prompt("--prompt-file", metavar="FILE", help="a text file, or - for what comes in by a pipe")
    _add_drafting(parser)
    add("--length", metavar="POLICY", help=f"how many next: {', '.join(LENGTHS)}")
    add("--reference", nargs="+", default=(), metavar="FILE", help="texts that may be copied from")
    _add_sampling(parser)
    add("--check", action="store_true", help="status 1 if a text differs by more than rounding")
    turn = "wrap the prompt in the chat template (default: where the tokenizer has one)"
    add("--chat", action=argparse.BooleanOptionalAction, help=turn)
    add("--system", default="", metavar="TEXT", help="a system prompt, in the chat template")
    option = "for the chat template, such as enable_thinking=false; may be repeated"
    add("--template-option", action="append", default=[], metavar="NAME=VALUE", help=option)
    add("--source-language", metavar="CODE", help="of the prompt, where the tokenizer marks it")
    add("--target-language", metavar="CODE", help="to translate into (M2M100, NLLB, mBART)")
    add("--trace", metavar="FILE", help="save what happened in a file, for show and the page")
    _add_models(parser)


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    usual = "sample (default: greedily; 1 with what follows)"
    add("--temperature", type=float, metavar="T", help=usual)
    add("--top-k", type=int, metavar="N", help="sample from the N likeliest tokens")
    add("--top-p", type=float, metavar="P", help="sample from the likeliest that make up P")
    add("--min-p", type=float, metavar="P", help="leave out what has less than P of the likeliest")
    add("--repetition-penalty", type=float, metavar="X", help="1 is none; also when greedy")
    add("--seed", type=int, metavar="N", help="of the dice (default: 0)")
    add("--rule", metavar="RULE", help=f"of the dice: {' or '.join(RULES)} (default: the first)")


def _add_models(parser: argparse.ArgumentParser, *, length: bool = True) -> None:
    usual = Settings().max_new_tokens
    add = parser.add_argument
    kinds = f"bundled, {', '.join(KNOWN)}, a folder, a GGUF file, a hub id, or TARGET:DRAFT"
    add("--pair", default="bundled", help=f"{kinds} (default: bundled)")
    add("--head", metavar="FOLDER_OR_ID", help="a head for the target (default: its own folder's)")
    if length:
        new = _range(LENGTH_RANGE, usual)
        add("--max-new-tokens", type=int, default=usual, metavar="N", help=new)
    add("--dtype", default="auto", choices=DTYPES)
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N, or all of them")
    add("--compile", default="auto", choices=COMPILE, help="how models are made faster")
    add("--json", action="store_true", help="end stdout with one JSON object")


def _range(bounds: tuple[int, int], usual: int) -> str:
    return f"{bounds[0]} to {bounds[1]} (default: {usual})"
