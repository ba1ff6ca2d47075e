"""Token ids to text and back, token by token, also where a character spans several tokens."""

from __future__ import annotations

import codecs
import os
import re
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import InputError
from . import chat_template, languages


@dataclass(frozen=True, slots=True)
class Document:
    """A text that may be copied from."""

    name: str
    ids: list[int]


Pending = tuple[int, ...]
"""Ids of an incomplete character at the end of a text. Its text appears with the id that completes
it."""

START: Pending = (-1,)
"""The state before the first token of a text: the space that some tokenizers put before every text
is then left out."""

MAX_BYTES = 4 * 2**20
"""Limit for a prompt, and for all reference texts together: each token is kept several times."""
_BROKEN = "\ufffd"
_PROBE = "🦊"  # four bytes, some of which byte-level BPE names by other letters
_LONGEST = 12  # tokens of one character at most, where incomplete ones decode to nothing


class Speller:
    """Converts token ids to text, one at a time. Pieces of text are cached by id.

    ``special``: ids that are not text, with their names, such as the start or end of a text or of a
    turn. Their text, and that of ids that the tokenizer does not have, is "".
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.special = special_tokens(tokenizer)
        self._by_name = names_are_bytes(tokenizer)
        self._anchor = tokenizer.encode("a", add_special_tokens=False)
        self._skip = len(self._decode(self._anchor))
        self._pieces: dict[int, str | None] = {}
        half = tokenizer.encode(_PROBE, add_special_tokens=False)[:-1]
        self._drops = bool(half) and not self._after_anchor(half)

    def spell(self, pending: Pending, token_id: int) -> tuple[str, Pending]:
        """The text that ``token_id`` adds after ``pending`` ids, and the ids pending after it."""
        if pending == START:
            text, after = self.spell((), token_id)
            return text.removeprefix(self.lead), START if self._silent(token_id) else after
        if not pending:
            if token_id not in self._pieces:
                self._pieces[token_id] = self._piece(token_id)
            piece = self._pieces[token_id]
            if piece is not None:
                return piece, ()
        elif self._silent(token_id):
            return self.flush(pending), ()
        ids = (*pending, token_id)
        text = self._after_anchor(ids)
        if self._drops and not text:
            return ("", ids) if len(ids) < _LONGEST else (self.flush(pending), (token_id,))
        if not text.endswith(_BROKEN):
            return text, ()
        before = self.flush(pending)
        broken = pending and text == before + self._after_anchor((token_id,))
        if broken and not self._goes_on(ids):
            # The new bytes do not continue the incomplete character: it stays incomplete.
            return before, (token_id,)
        return "", ids

    def spell_all(self, ids: list[int]) -> tuple[list[str], Pending]:
        """A piece of text for each of ``ids``, and the ids pending at their end."""
        pieces, pending = [], ()
        for token_id in ids:
            piece, pending = self.spell(pending, token_id)
            pieces.append(piece)
        return pieces, pending

    def flush(self, pending: Pending) -> str:
        """The text of an incomplete character when nothing follows: replacement characters."""
        if not pending or pending == START:
            return ""
        return self._after_anchor(pending) or _BROKEN

    @cached_property
    def lead(self) -> str:
        """The space that the tokenizer puts before every text, or ""."""
        return "".join(self.spell_all(self._anchor)[0]).removesuffix("a")

    def _piece(self, token_id: int) -> str | None:
        """The text of an id after complete characters; None if it ends in an incomplete one."""
        if self._silent(token_id):
            return ""
        piece = self._after_anchor((token_id,))
        unfinished = _BROKEN in piece or self._drops and not piece
        return None if unfinished else piece

    def _silent(self, token_id: int) -> bool:
        """Whether an id has no text: special ids, and ids beyond the tokenizer's, since a model may
        have more output rows than there are tokens."""
        return token_id in self.special or not self._has(token_id)

    def _has(self, token_id: int) -> bool:
        if getattr(self._tokenizer, "is_fast", False):
            return self._tokenizer.convert_ids_to_tokens(token_id) is not None
        return token_id in self._vocabulary

    @cached_property
    def _vocabulary(self) -> frozenset[int]:
        added = self._tokenizer.added_tokens_decoder
        return frozenset(self._tokenizer.get_vocab().values()) | added.keys()

    def _goes_on(self, ids: Pending) -> bool:
        """Whether these are the first bytes of one character, by the names of byte tokens."""
        found = [byte_of(name) for name in self._tokenizer.convert_ids_to_tokens([*ids]) if name]
        try:
            codecs.getincrementaldecoder("utf-8")().decode(b"".join(found))  # type: ignore[arg-type]
        except (TypeError, UnicodeDecodeError):
            return False
        return True

    def _after_anchor(self, ids: Sequence[int]) -> str:
        # Decoded after a letter, because some tokenizers drop the space at the start of a text.
        return self._decode([*self._anchor, *ids])[self._skip :]

    def _decode(self, ids: list[int]) -> str:
        if self._by_name:
            names = self._tokenizer.convert_ids_to_tokens(ids)
            return b"".join(map(latin, names)).decode("utf-8", "replace")
        return self._tokenizer.decode(ids, clean_up_tokenization_spaces=False)


def special_tokens(tokenizer: Any) -> dict[int, str]:
    """Ids that are not text, with their names: the named ones (BOS, EOS), and all tokens that were
    added as special."""
    names = zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True)
    added = tokenizer.added_tokens_decoder.items()
    return {i: token.content for i, token in added if token.special} | dict(names)


def names_are_bytes(tokenizer: Any) -> bool:
    """Whether tokens are single bytes named by letters of Latin-1, as in ByT5. Its ``decode`` drops
    incomplete characters, so its tokens are decoded by their names."""
    ids = tokenizer.encode(_PROBE, add_special_tokens=False)
    names = tokenizer.convert_ids_to_tokens(ids)
    return len(names) == len(_PROBE.encode()) and latin("".join(names)) == _PROBE.encode()


def latin(name: str) -> bytes:
    """The bytes of a name in Latin-1; a name with other letters is an added token, and is text."""
    try:
        return name.encode("latin-1")
    except UnicodeEncodeError:
        return name.encode()


def byte_of(name: str) -> bytes | None:
    """The byte of a token whose name looks like ``<0x0A>``; None for other names."""
    found = re.fullmatch(r"<0x([0-9A-F]{2})>", name)
    return bytes.fromhex(found[1]) if found else None


class Wordless(Speller):
    """Gives no text: for a run of ids only, where there may be no tokenizer."""

    def __init__(self) -> None:
        self.special = {}

    def spell(self, pending: Pending, token_id: int) -> tuple[str, Pending]:
        return "", ()


def check_prompt(prompt: str) -> None:
    """Raises InputError for a prompt that cannot be used with any tokenizer."""
    if not prompt.strip():
        raise InputError("The prompt is empty: type a few words for the models to go on from.")
    if any("\ud800" <= c <= "\udfff" for c in prompt):
        raise InputError("The prompt holds half a character (a lone surrogate): type it again.")


def encode(
    tokenizer: Any,
    prompt: str,
    *,
    context_length: int,
    chat: bool = False,
    system: str = "",
    template: Mapping[str, Any] = MappingProxyType({}),
    language: str | None = None,
) -> list[int]:
    """The prompt's ids, as the target reads it. Raises InputError for one that cannot be used.

    ``context_length``: in tokens. ``chat``: encode it as the user's turn in the tokenizer's chat
    template, after the ``system`` prompt, if there is one, with the options in ``template``.
    ``language``: the code of the prompt's language, for tokenizers that mark it.
    """
    check_prompt(prompt)
    if chat:
        ids = chat_template.encode(tokenizer, prompt, system, template)
    elif language is not None:
        ids = languages.encode(tokenizer, prompt, language)
    else:
        ids = _marked(tokenizer, prompt)
    if not ids:
        raise InputError("The prompt has no tokens that this tokenizer knows: type other words.")
    if len(ids) >= context_length:
        raise InputError(
            f"The prompt has {len(ids)} tokens, and the models read {context_length} with the text "
            f"they add: shorten it by {len(ids) - context_length + 1} or more."
        )
    return ids


def _marked(tokenizer: Any, prompt: str) -> list[int]:
    """The prompt between the special tokens that the tokenizer puts around every text. Those that
    the prompt already contains as text are not added again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ByT5 warns of an EOS that is there already
        ids = tokenizer.encode(prompt)
    bare = tokenizer.encode(prompt, add_special_tokens=False)
    around = len(ids) - len(bare)
    at = next((i for i in range(around + 1) if ids[i : i + len(bare)] == bare), None)
    if at is None:
        return ids
    before, after = ids[:at], ids[at + len(bare) :]
    before = [] if bare[: len(before)] == before else before
    after = [] if after and bare[-len(after) :] == after else after
    return before + bare + after


def read_prompt(file: str) -> str:
    """The text of a file, or of standard input ("-"), without the line break at its end.

    Raises InputError for a file that is not text, or too long.
    """
    what = "Standard input" if file == "-" else f"The prompt file {file:.200}"
    if file != "-" and os.path.isdir(file):  # which, unlike Path, raises for no name
        raise InputError(f"{what} is a folder: name a text file.")
    try:
        with nullcontext(sys.stdin.buffer) if file == "-" else Path(file).open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # PowerShell writes it
        words = data.decode("utf-16" if wide else "utf-8-sig")
    except FileNotFoundError as e:
        raise InputError(f"There is no prompt file {file:.200}: check its path.") from e
    except OSError as e:
        raise InputError(f"{what} cannot be read ({e.strerror}): name another.") from e
    except ValueError as e:
        raise InputError(f"{what} cannot be read: give a text in UTF-8.") from e
    if len(data) > MAX_BYTES:
        raise InputError(f"{what} has more than {MAX_BYTES >> 20} MB: give a shorter text.")
    return re.sub(r"\r?\n\Z", "", words)


def read_references(tokenizer: Any, files: Iterable[str]) -> list[Document]:
    """The texts of files, in the target's ids. Raises InputError for a file that is not text."""
    found, room = [], MAX_BYTES
    for file in files:
        try:
            room -= Path(file).stat().st_size
            words = Path(file).read_text(encoding="utf-8") if room >= 0 else ""
        except (OSError, UnicodeDecodeError) as e:
            raise InputError(f"The reference {file} cannot be read: name a text file.") from e
        if room < 0:
            most = MAX_BYTES >> 20
            raise InputError(f"The references have more than {most} MB: name shorter texts.")
        found.append(Document(Path(file).name, tokenizer.encode(words, add_special_tokens=False)))
    return found
