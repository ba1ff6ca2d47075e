"""Chat templates: encodes a prompt as the user's turn, and finds the tokens that end an answer."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from . import bounded_template

_ANSWER = "fox"
_FOR_TEMPLATES = {"tools", "documents"}
"""Named parameters of ``apply_chat_template`` that it passes on to the template."""


def encode(tokenizer: Any, prompt: str, system: str, template: Mapping[str, Any]) -> list[int]:
    """The ids of a chat: the ``system`` prompt (unless ""), the user's ``prompt``, and the start of
    the answer. ``template``: options of the template by name.

    Raises InputError where there is no template, where it fails, or where it ignores the system
    prompt or an option.
    """
    if not tokenizer.chat_template:
        raise InputError("This tokenizer has no chat template: switch chat off.")
    _check_options(tokenizer, template)
    turn = {"role": "user", "content": prompt}
    if not system:
        return _fill(tokenizer, [turn], template)
    ids = _fill(tokenizer, [{"role": "system", "content": system}, turn], template)
    if ids == _filled(tokenizer, [turn], template):
        raise InputError("The target's chat template leaves out the system prompt: clear it.")
    return ids


def ends(tokenizer: Any) -> frozenset[int]:
    """The ids that end an answer in a chat: the tokenizer's EOS, and the added token that its
    template puts after an answer. Empty without a template."""
    if not tokenizer.chat_template:
        return frozenset()
    chat = [{"role": "user", "content": _ANSWER}, {"role": "assistant", "content": _ANSWER}]
    try:
        text = bounded_template.apply(tokenizer, chat, tokenize=False)
    except Exception:  # templates are programs: this one takes no answers
        text = ""
    after = text.rpartition(_ANSWER)[2].lstrip()
    first = tokenizer.encode(after, add_special_tokens=False)[:1] if after else []
    found = [i for i in first if i in tokenizer.added_tokens_decoder]
    eos = tokenizer.eos_token_id
    return frozenset(found if eos is None else [*found, eos])


def _fill(tokenizer: Any, chat: list[dict[str, str]], template: Mapping[str, Any]) -> list[int]:
    try:
        return bounded_template.apply(
            tokenizer, chat, add_generation_prompt=True, return_dict=False, **template
        )
    except InputError:
        raise
    except Exception as e:  # templates are programs, and may raise anything
        first = " ".join(str(e).split()).split(". ")[0][:200]
        reason = first.rstrip(".!") or type(e).__name__
        raise InputError(
            f"The target's chat template does not take this chat ({reason}): change the system "
            "prompt or the template options, or switch chat off."
        ) from e


def _filled(
    tokenizer: Any, chat: list[dict[str, str]], template: Mapping[str, Any]
) -> list[int] | None:
    try:
        return _fill(tokenizer, chat, template)
    except InputError:
        return None


def _named(source: str) -> set[str]:
    """The names that a template takes from outside, or sets where they are not given; without those
    of its loops and macros. Read off the syntax alone: jinja's own way to find them works out
    constants, which in a strange template may take for ever."""
    from jinja2 import Environment, nodes

    try:
        tree = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(source)  # noqa: S701
    except Exception:  # no template, or one with tags that only transformers knows
        code = " ".join(re.findall(r"{[{%](.*?)[%}]}", source, re.DOTALL))
        bare = re.sub(r"'[^']*'|\"[^\"]*\"", " ", code)
        return {*re.findall(r"(?<![\w.])[^\W\d]\w*", bare)}
    inside = [node.target for node in tree.find_all(nodes.For)]
    inside += [arg for node in tree.find_all((nodes.Macro, nodes.CallBlock)) for arg in node.args]
    wraps = nodes.Tuple(inside, "store")  # for ``find_all``, which leaves out where it starts
    own = {n.name for n in wraps.find_all(nodes.Name)}
    own |= {macro.name for macro in tree.find_all(nodes.Macro)}
    return {n.name for n in tree.find_all(nodes.Name) if n.ctx == "load"} - own


def _check_options(tokenizer: Any, template: Mapping[str, Any]) -> None:
    source = tokenizer.chat_template
    sources = source.values() if isinstance(source, dict) else [source]
    named = set[str]().union(*map(_named, sources)) if template else set()
    parameters = inspect.signature(tokenizer.apply_chat_template).parameters
    taken = {"messages", *parameters} - _FOR_TEMPLATES
    for name in template:
        if name in taken:
            raise InputError(f"{name} is not an option of chat templates: leave it out.")
        if name not in named:
            raise InputError(
                f"The target's chat template has no option {name!r:.60}: correct it, or leave it "
                "out."
            )
