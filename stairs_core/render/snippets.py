"""The code that repeats a run: in Python, on the command line, inside transformers.

A trace may come from anybody: whatever it holds enters code as a quoted literal, never as it is.
"""

from __future__ import annotations

import shlex
import unicodedata
from dataclasses import asdict
from typing import Any

from ..sampling import Sampling
from ..settings import AUTO, BITS, DTYPES, Settings, option_words
from ..specs import split
from ..trace import Run

_BUNDLED = "bundled"
_FOLDER = "assets/pair"
_USUAL = Settings()
_NO_IDS = ("reference", "reencode", "shared")
"""Drafters that read texts, where ``generate`` has ids (``inside.READERS``, which needs torch)."""


def snippets(lane: Run) -> dict[str, str]:
    """The code that repeats ``lane``, by where it is to be run; where that cannot be, a comment."""
    if lane.engine:
        said = _code(f"# A log of {_quoted(lane.engine)} does not tell what was asked.")
        return dict.fromkeys(("Python", "Command line", "transformers"), said)
    return {"Python": python(lane), "Command line": shell(lane), "transformers": generate(lane)}


def python(run: Run) -> str:
    """For ``stairs_core`` itself."""
    settings = {
        "drafter": run.drafter,
        "k": run.k,
        "max_new_tokens": run.max_new_tokens,
        **_unusual(run),
    }
    lines = ["from stairs_core import Runner, Settings, load_pair"]
    settings |= {n: value for n in ("system", "template") if (value := getattr(run, n))}
    arguments = [f"{name}={value!r}" for name, value in settings.items()]
    if run.sampling:
        lines.append("from stairs_core.sampling import Sampling")
        given = (f"{name}={value!r}" for name, value in _shaping(run.sampling).items())
        arguments.append(f"sampling=Sampling({', '.join(given)})")
    arguments += [f"references={run.references!r}"] if run.references else []
    return _code(
        *lines,
        "",
        *(["# The references are looked for in this folder."] if run.references else []),
        f"pair = load_pair({_spec(run)!r}, device={_device(run)!r}, dtype={_dtype(run)!r})",
        f"settings = Settings({', '.join(arguments)})",
        f"prompt = {run.prompt!r}",
        "runner = Runner(pair, prompt, settings)",
        "for step in runner.decode():",
        '    print("".join(token.text for token in step.committed), end="", flush=True)',
    )


def shell(run: Run) -> str:
    """For a POSIX shell; bash, zsh or ksh where the prompt holds control characters."""
    template = option_words(run.template)
    words = (run.prompt, _spec(run), run.drafter, *run.references, run.system, *template)
    if any("\0" in word for word in words):
        return "# No command line can hold a NUL, and this prompt does: use Python.\n"
    if any(unicodedata.category(c) == "Cs" for word in words for c in word):
        return "# No command line can hold half a character, and this prompt does: use Python.\n"
    options = [f"--pair={_word(_spec(run))}", f"--drafter={_word(run.drafter)}", *_length(run)]
    options += [f"--max-new-tokens={run.max_new_tokens}"]
    options += [
        f"--{name.replace('_', '-')}={_word(value)}"
        for name, value in _unusual(run).items()
        if name in ("backend", "numerics", "source_language", "target_language")
    ]
    options += [f"--dtype={_word(_dtype(run))}", f"--device={_word(_device(run))}"]
    options += ["--chat"] if run.chat else []
    options += [f"--system={_word(run.system)}"] if run.system else []
    options += [f"--template-option={_word(word)}" for word in template]
    for name, value in _shaping(run.sampling).items() if run.sampling else ():
        options.append(f"--{name.replace('_', '-')}={_word(str(value))}")
    if run.references:
        options.append("--reference " + " ".join(_word(f"./{n}") for n in run.references))
    return _code(" \\\n  ".join([f"stairs run --prompt={_word(run.prompt)}", *options]))


def generate(run: Run) -> str:
    """For ``transformers``, by ``custom_generate``; says what has no counterpart there."""
    if run.drafter in _NO_IDS:
        return _code(f"# The guesser {run.drafter} reads texts, and generate has ids: use Python.")
    if run.encoded:
        return _code("# custom_generate does not take encoder-decoder models: use Python.")
    target, draft = _models(run)
    dtype = f"dtype=torch.{run.dtype}" if run.dtype in DTYPES else 'dtype="auto"'
    load = f"AutoModelForCausalLM.from_pretrained({{!r}}, {dtype}){_to(run)}"
    options = [f"max_new_tokens={run.max_new_tokens}", *_drawing(run.sampling)]
    if run.drafter != "none":
        k = "'auto'" if run.length == "cost" else run.k
        options += ["custom_generate=stairs_core.custom_generate", f"drafter={run.drafter!r}"]
        options += [f"k={k}", f"backend={run.backend!r}"]
    if draft:
        options.append("assistant_model=draft")
    if run.chat and run.eos_ids:
        options.append(f"eos_token_id={[*run.eos_ids]}")
    return _code(
        *(f"# {sentence}" for sentence in _missing(run)),
        "import torch",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        *(["", "import stairs_core"] if run.drafter != "none" else []),
        "",
        f"tokenizer = AutoTokenizer.from_pretrained({target!r})",
        f"target = {load.format(target)}",
        *([f"draft = {load.format(draft)}"] if draft else []),
        *_left_out(run),
        f"prompt = {run.prompt!r}",
        *_inputs(run),
        *([f"torch.manual_seed({s.seed})"] if (s := run.sampling) and s.draws else []),
        "out = target.generate(",
        "    **inputs,",
        *(f"    {option}," for option in options),
        ")",
        "print(tokenizer.decode(out[0]))",
    )


def _dtype(run: Run) -> str:
    """What ``load_pair`` is asked for: a model quantised by another method is so by itself."""
    return run.dtype if run.dtype in (*DTYPES, *BITS) else "auto"


def _missing(run: Run) -> list[str]:
    """What ``custom_generate`` cannot be asked for, in sentences."""
    found = []
    if run.length not in ("constant", "cost"):
        found.append(f"generate has no length policy {_quoted(run.length)}: always K here.")
    if run.numerics == "strict":
        found.append("generate has no strict numerics: rounding may part the texts.")
    if run.references:
        found.append("generate has no references: it copies from the text alone.")
    if run.dtype in BITS:
        found.append(
            f"This run had {run.dtype} weights: give from_pretrained a BitsAndBytesConfig."
        )
    if run.sampling and run.sampling.draws:
        found.append("generate throws dice of its own: another text of the same law.")
    return found


def _left_out(run: Run) -> list[str]:
    """What the target's own config asks for, and the run did not do."""
    names = [entry.partition("=")[0] for entry in run.left_out]
    if not names:
        return []
    return [
        "# This run left out what the model's generation config says of these.",
        f"target.generation_config.update(**{dict.fromkeys(names)!r})",
    ]


def _drawing(sampling: Sampling | None) -> list[str]:
    if sampling is None:
        return ["do_sample=False"]
    if sampling.draws:
        # All of them, because the model's own values are for what is not said.
        said = {k: v for k, v in asdict(sampling).items() if k not in ("seed", "rule")}
        values = {"do_sample": True} | said
    else:
        values = {"do_sample": False, "repetition_penalty": sampling.repetition_penalty}
    return [f"{name}={value!r}" for name, value in values.items()]


def _inputs(run: Run) -> list[str]:
    if not run.chat and _marked(run):
        at = f', device="{run.device}"' if _to(run) else ""
        return [
            "# The prompt has special tokens of its own, which are not put around it twice.",
            f'inputs = {{"input_ids": torch.tensor([{[*run.prompt_ids]}]{at})}}',
        ]
    if not run.chat:
        return [f'inputs = tokenizer(prompt, return_tensors="pt"){_to(run)}']
    system = f'{{"role": "system", "content": {run.system!r}}}, ' if run.system else ""
    return [
        f'chat = [{system}{{"role": "user", "content": prompt}}]',
        "inputs = tokenizer.apply_chat_template(",
        "    chat,",
        *([f"    **{run.template!r},"] if run.template else []),
        "    add_generation_prompt=True,",
        "    return_dict=True,",
        '    return_tensors="pt",',
        f"){_to(run)}",
    ]


def _marked(run: Run) -> bool:
    """Whether the prompt itself names a special token that it begins or ends with."""
    ends = (run.prompt_special.get(str(i)) for i in (*run.prompt_ids[:1], *run.prompt_ids[-1:]))
    named = [name for name in ends if name]
    return any(run.prompt.startswith(name) or run.prompt.endswith(name) for name in named)


def _to(run: Run) -> str:
    """On the CPU is where they are already."""
    return f'.to("{run.device}")' if _device(run).startswith("cuda") else ""


def _spec(run: Run) -> str:
    """What ``load_pair`` is asked for; of a trace that does not hold it, by the models' names."""
    if run.pair is not None:
        return run.pair
    target = run.target.removesuffix(", widened")
    if target == f"{_BUNDLED} target":
        return _BUNDLED
    return f"{target}:{run.draft.removesuffix(', widened')}" if run.draft else target


def _models(run: Run) -> tuple[str, str | None]:
    """Where target and draft are: folders, or ids of the hub."""
    spec = _FOLDER if _spec(run) == _BUNDLED else _spec(run)
    if two := split(spec, lambda _: False):
        return two[0], two[1] if run.draft else None
    # A folder of one model is named after it; in one of two, they are called by what they are.
    alone = run.target.removesuffix(", widened") not in ("target", f"{_BUNDLED} target")
    return spec if alone else f"{spec}/target", f"{spec}/draft" if run.draft else None


def _device(run: Run) -> str:
    """As options know it: nothing else of what a trace may hold."""
    kind, _, number = run.device.partition(":")
    known = kind in ("cpu", "cuda") and (not number or number.isdecimal())
    return run.device if known else "auto"


def _unusual(run: Run) -> dict[str, str | bool]:
    """What is not as it is when nothing is said."""
    names = ("backend", "length", "numerics", "chat", "source_language", "target_language")
    return {n: getattr(run, n) for n in names if getattr(run, n) != getattr(_USUAL, n)}


def _length(run: Run) -> list[str]:
    if {"k": run.k, "length": run.length} == AUTO:
        return ["--k=auto"]
    policy = [] if run.length == _USUAL.length else [f"--length={_word(run.length)}"]
    return [f"--k={run.k}", *policy]


def _shaping(sampling: Sampling) -> dict[str, Any]:
    """The temperature, and what else is not as it is when nothing is said."""
    usual = asdict(Sampling())
    return {k: v for k, v in asdict(sampling).items() if k == "temperature" or v != usual[k]}


def _word(text: object) -> str:
    """One word of a shell; what a terminal would obey on the way there is escaped."""
    text = str(text)
    if not any(unicodedata.category(c) in ("Cc", "Cf") and c != "\n" for c in text):
        return shlex.quote(text)
    return "$'" + "".join(_escaped(c) for c in text) + "'"


def _escaped(char: str) -> str:
    if char in "\\'":
        return "\\" + char
    if unicodedata.category(char) not in ("Cc", "Cf"):
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode())


def _quoted(text: str) -> str:
    """For a comment: one line, whatever it holds."""
    return repr(text[:60])


def _code(*lines: str) -> str:
    return "\n".join(lines) + "\n"
