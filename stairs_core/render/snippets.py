"""The code that repeats a run: in Python, on the command line, inside transformers.

A trace may come from anybody: its values enter the code as quoted literals only.
"""

from __future__ import annotations

import shlex
import unicodedata
from dataclasses import asdict
from typing import Any

from ..settings.known import KNOWN
from ..settings.methods import REGISTRY
from ..settings.pair_spec import pinned, split
from ..settings.sampling import Sampling
from ..settings.settings import AUTO, BITS, DTYPES, Settings, option_words
from ..traces.records import Run

_BUNDLED = "bundled"
_FOLDER = "assets/pair"
_USUAL = Settings()


def snippets(lane: Run) -> dict[str, str]:
    """The code that repeats ``lane``, by where it runs; a comment where it cannot be repeated."""
    if lane.engine:
        comment = _code(f"# A log of {_quoted(lane.engine)} does not tell what was asked.")
        return dict.fromkeys(("Python", "Command line", "transformers"), comment)
    return {"Python": python(lane), "Command line": shell(lane), "transformers": generate(lane)}


def python(run: Run) -> str:
    """For Python, with ``stairs_core``."""
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
        lines.append("from stairs_core import Sampling")
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
    """For a POSIX shell; only bash, zsh or ksh where the prompt has control characters."""
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
    if run.chat or _spec(run) != _BUNDLED:  # whose tokenizer has no template
        options.append("--chat" if run.chat else "--no-chat")
    options += [f"--system={_word(run.system)}"] if run.system else []
    options += [f"--template-option={_word(word)}" for word in template]
    for name, value in _shaping(run.sampling).items() if run.sampling else ():
        options.append(f"--{name.replace('_', '-')}={_word(str(value))}")
    # A lane of a race may have been given texts that it does not read: alone, they are refused.
    if run.references and (run.drafter not in REGISTRY or REGISTRY[run.drafter].references):
        options.append("--reference " + " ".join(_word(f"./{n}") for n in run.references))
    return _code(" \\\n  ".join([f"stairs run --prompt={_word(run.prompt)}", *options]))


def generate(run: Run) -> str:
    """For ``transformers``, by ``custom_generate``; comments name what it cannot do there."""
    if run.drafter in REGISTRY and REGISTRY[run.drafter].reads_text:
        return _code(f"# The guesser {run.drafter} reads texts, and generate has ids: use Python.")
    if run.lossy:
        return _code(
            f"# {_quoted(run.drafter)} writes another text than the target's (lossy), and generate "
            "must not: use Python."
        )
    if run.encoded:
        return _code("# custom_generate does not take encoder-decoder models: use Python.")
    target, draft = _models(run)
    dtype = f"dtype=torch.{run.dtype}" if run.dtype in DTYPES else 'dtype="auto"'
    load = f"AutoModelForCausalLM.from_pretrained({{}}, {dtype}){_to(run)}"
    places = [_place(name) for name in (target, draft) if name is not None]
    fetches = any(place.startswith("stairs_core.") for place in places)
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
        *(["", "import stairs_core"] if run.drafter != "none" or fetches else []),
        "",
        f"tokenizer = AutoTokenizer.from_pretrained({places[0]})",
        f"target = {load.format(places[0])}",
        *([f"draft = {load.format(places[1])}"] if draft else []),
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


def _place(name: str) -> str:
    """Code for where transformers finds a model: of a name or a GGUF file, the folder it is in once
    it is fetched and unpacked; of a pinned id, its commit too."""
    if name in KNOWN or name.lower().endswith(".gguf"):
        return f"stairs_core.fetch({name!r})"
    bare, commit = pinned(name)
    return f"{bare!r}, revision={commit!r}" if commit else repr(name)


def _dtype(run: Run) -> str:
    """``load_pair``'s dtype: "auto" for one that a model's own files determine."""
    return run.dtype if run.dtype in (*DTYPES, *BITS) else "auto"


def _missing(run: Run) -> list[str]:
    """What of this run ``custom_generate`` cannot do, in sentences."""
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
    """Code that clears the entries of the target's generation config that the run ignored."""
    names = [entry.partition("=")[0] for entry in run.left_out]
    if not names:
        return []
    return [
        "# This run left out what the model's generation config says of these.",
        f"target.generation_config.update(**{dict.fromkeys(names)!r})",
    ]


def _drawing(sampling: Sampling | None) -> list[str]:
    """``generate``'s options for this sampling."""
    if sampling is None:
        return ["do_sample=False"]
    if sampling.draws:
        # Every option, because ``generate`` takes those that are left out from the model's config.
        options = {k: v for k, v in asdict(sampling).items() if k not in ("seed", "rule")}
        values = {"do_sample": True} | options
    else:
        values = {"do_sample": False, "repetition_penalty": sampling.repetition_penalty}
    return [f"{name}={value!r}" for name, value in values.items()]


def _inputs(run: Run) -> list[str]:
    """Code that makes ``inputs`` of ``prompt``."""
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
    """Whether the prompt's text itself begins or ends with a special token by name."""
    ends = (run.prompt_special.get(str(i)) for i in (*run.prompt_ids[:1], *run.prompt_ids[-1:]))
    named = [name for name in ends if name]
    return any(run.prompt.startswith(name) or run.prompt.endswith(name) for name in named)


def _to(run: Run) -> str:
    """Code that moves a model or inputs to the run's GPU; empty on the CPU, where they are."""
    return f'.to("{run.device}")' if _device(run).startswith("cuda") else ""


def _spec(run: Run) -> str:
    """The pair for ``load_pair``; from the models' names where an old trace does not have it."""
    if run.pair is not None:
        return run.pair
    target = run.target.removesuffix(", widened")
    if target == f"{_BUNDLED} target":
        return _BUNDLED
    return f"{target}:{run.draft.removesuffix(', widened')}" if run.draft else target


def _models(run: Run) -> tuple[str, str | None]:
    """Target and draft, as folders or ids on the hub."""
    spec = _FOLDER if _spec(run) == _BUNDLED else _spec(run)
    if two := split(spec, lambda _: False):
        return two[0], two[1] if run.draft else None
    # A folder that is one model: the target is named after it. A folder with both: "target".
    alone = run.target.removesuffix(", widened") not in ("target", f"{_BUNDLED} target")
    return spec if alone else f"{spec}/target", f"{spec}/draft" if run.draft else None


def _device(run: Run) -> str:
    """The run's device, if it is one that the options allow; else "auto"."""
    kind, _, number = run.device.partition(":")
    known = kind in ("cpu", "cuda") and (not number or number.isdecimal())
    return run.device if known else "auto"


def _unusual(run: Run) -> dict[str, str | bool]:
    """Settings that are not the defaults."""
    names = ("backend", "length", "numerics", "chat", "source_language", "target_language")
    return {n: getattr(run, n) for n in names if getattr(run, n) != getattr(_USUAL, n)}


def _length(run: Run) -> list[str]:
    if {"k": run.k, "length": run.length} == AUTO:
        return ["--k=auto"]
    policy = [] if run.length == _USUAL.length else [f"--length={_word(run.length)}"]
    return [f"--k={run.k}", *policy]


def _shaping(sampling: Sampling) -> dict[str, Any]:
    """The temperature, and the sampling options that are not the defaults."""
    usual = asdict(Sampling())
    return {k: v for k, v in asdict(sampling).items() if k == "temperature" or v != usual[k]}


def _word(text: object) -> str:
    """One quoted word for a shell. Control characters are escaped: a terminal would obey them when
    the code is pasted."""
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
    """A short quoted text for a comment: never more than one line."""
    return repr(text[:60])


def _code(*lines: str) -> str:
    return "\n".join(lines) + "\n"
