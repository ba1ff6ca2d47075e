"""Token ids to text and back, one token at a time, right where a character spans several tokens."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import languages
from .errors import InputError
from .protocols import Document

Pending = tuple[int, ...]
"""Ids that end inside a character: their text comes with the id that completes it."""


MAX_REFERENCES = 4 * 2**20
"""Bytes of all reference texts together: every token of them is held several times."""


class Speller:
    """Spells token ids. Pieces are cached, so that a known id costs one dictionary look-up."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._anchor = tokenizer.encode("a", add_special_tokens=False)
        self._skip = len(self._decode(self._anchor))
        self._pieces: dict[int, str | None] = {}

    def spell(self, pending: Pending, token_id: int) -> tuple[str, Pending]:
        """The text that ``token_id`` adds after ``pending``, and what is pending after it."""
        if not pending:
            if token_id not in self._pieces:
                piece = self._after_anchor((token_id,))
                self._pieces[token_id] = None if "\ufffd" in piece else piece
            piece = self._pieces[token_id]
            if piece is not None:
                return piece, ()
        ids = (*pending, token_id)
        text = self._after_anchor(ids)
        if not text.endswith("\ufffd"):
            return text, ()
        before = self.flush(pending)
        broken = pending and text == before + self._after_anchor((token_id,))
        if broken and not self._goes_on(ids):
            # The new bytes do not go on with the character that was begun: it stays broken.
            return before, (token_id,)
        return "", ids

    def spell_all(self, ids: list[int]) -> tuple[list[str], Pending]:
        """A piece for each of ``ids``, and what is pending at their end."""
        pieces, pending = [], ()
        for token_id in ids:
            piece, pending = self.spell(pending, token_id)
            pieces.append(piece)
        return pieces, pending

    def flush(self, pending: Pending) -> str:
        """What incomplete characters look like when nothing follows."""
        return self._after_anchor(pending) if pending else ""

    def _goes_on(self, ids: Pending) -> bool:
        """Whether these are the first bytes of a character, where that shows only in names."""
        found = [byte_of(name) for name in self._tokenizer.convert_ids_to_tokens([*ids])]
        try:
            codecs.getincrementaldecoder("utf-8")().decode(b"".join(found))  # type: ignore[arg-type]
        except (TypeError, UnicodeDecodeError):
            return False
        return True

    def _after_anchor(self, ids: Pending) -> str:
        # Decoded after a letter, because some tokenizers drop the space at the start of a text.
        return self._decode([*self._anchor, *ids])[self._skip :]

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, clean_up_tokenization_spaces=False)


def byte_of(name: str) -> bytes | None:
    """The byte that a token of such a name as ``<0x0A>`` stands for."""
    found = re.fullmatch(r"<0x([0-9A-F]{2})>", name)
    return bytes.fromhex(found[1]) if found else None


class Wordless(Speller):
    """Spells nothing: for a run of ids alone, where there may be no tokenizer."""

    def __init__(self) -> None:
        """Nothing to ask."""

    def spell(self, pending: Pending, token_id: int) -> tuple[str, Pending]:
        return "", ()


def check_prompt(prompt: str) -> None:
    """What can be said of a prompt before there is a tokenizer. Raises InputError."""
    if not prompt.strip():
        raise InputError("The prompt is empty: type a few words for the models to go on from.")
    if any("\ud800" <= c <= "\udfff" for c in prompt):
        raise InputError("The prompt holds half a character (a lone surrogate): type it again.")


def encode(
    tokenizer: Any, prompt: str, *, chat: bool, context_length: int, language: str | None = None
) -> list[int]:
    """The prompt as the target reads it. Raises InputError when it cannot be decoded from.

    ``chat``: as the user's turn in the tokenizer's chat template. ``context_length``: in tokens.
    ``language``: the code of the one that it is in, for tokenizers that mark it.
    """
    check_prompt(prompt)
    if chat and not tokenizer.chat_template:
        raise InputError("This tokenizer has no chat template: switch chat off.")
    if chat:
        turn = [{"role": "user", "content": prompt}]
        ids = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False)
    elif language is not None:
        ids = languages.encode(tokenizer, prompt, language)
    else:
        ids = tokenizer.encode(prompt)
    if not ids:
        raise InputError("The prompt has no tokens that this tokenizer knows: type other words.")
    if len(ids) >= context_length:
        raise InputError(
            f"The prompt has {len(ids)} tokens, and the models read {context_length} with the text "
            f"they add: shorten it by {len(ids) - context_length + 1} or more."
        )
    return ids


def read_references(tokenizer: Any, files: Iterable[str]) -> list[Document]:
    """The texts of files in the target's tokens. Raises InputError for one that is none."""
    found, room = [], MAX_REFERENCES
    for file in files:
        try:
            room -= Path(file).stat().st_size
            words = Path(file).read_text(encoding="utf-8") if room >= 0 else ""
        except (OSError, UnicodeDecodeError) as e:
            raise InputError(f"The reference {file} cannot be read: name a text file.") from e
        if room < 0:
            most = MAX_REFERENCES >> 20
            raise InputError(f"The references have more than {most} MB: name shorter texts.")
        found.append(Document(Path(file).name, tokenizer.encode(words, add_special_tokens=False)))
    return found
