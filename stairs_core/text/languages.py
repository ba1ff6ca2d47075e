"""Language tokens of models that translate between many languages: M2M100, NLLB, mBART."""

from __future__ import annotations

import re
from typing import Any

from ..errors import InputError

_CODE = re.compile(r"__(\w+)__|([a-z]{2,3}_[A-Z][A-Za-z]{1,3})")
_SHOWN = 6


def codes(tokenizer: Any) -> dict[str, int]:
    """The ids of language tokens by language code; the code of ``__fr__`` is ``fr``."""
    found = {**getattr(tokenizer, "lang_code_to_id", {})}
    for token in [] if found else tokenizer.all_special_tokens:
        code = _CODE.fullmatch(token)
        if code:
            found[code[1] or token] = tokenizer.convert_tokens_to_ids(token)
    return found


def token(tokenizer: Any, code: str) -> int:
    """The id of a language's token. Raises InputError where there is none."""
    known = codes(tokenizer)
    if not known:
        raise InputError("This model has no languages to choose from: name none.")
    if code not in known:
        shown = ", ".join([*known][:_SHOWN]) + (" …" if len(known) > _SHOWN else "")
        raise InputError(f"There is no language {code!r:.40} in this model: use a code as {shown}.")
    return known[code]


def encode(tokenizer: Any, prompt: str, source: str) -> list[int]:
    """The prompt's ids, with ``source`` as its language. Raises InputError where it cannot be."""
    token(tokenizer, source)
    if not hasattr(tokenizer, "src_lang"):
        raise InputError("This tokenizer does not mark a prompt's language: name no source.")
    before = tokenizer.src_lang
    try:
        tokenizer.src_lang = source
        return tokenizer.encode(prompt)
    finally:
        tokenizer.src_lang = before
