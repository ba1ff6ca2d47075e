"""Between two tokenizers: a text in the ids of one, told in those of the other. No models."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cached_property
from itertools import takewhile
from typing import Any

from transformers.convert_slow_tokenizer import bytes_to_unicode

from .text import Pending, Speller, byte_of, latin, names_are_bytes

PART = 512
"""Characters after which a text is cut, where a word begins; a part is encoded for itself."""
_TAIL = 48  # characters before a text, so that it is encoded as what follows them


class Language:
    """One tokenizer. ``special``: its ids that are not text, with their names.

    ``start``: what it puts before every text. ``lead``: the space that it puts there, if it does.
    """

    def __init__(self, tokenizer: Any, eos_ids: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self.speller = Speller(tokenizer)
        self.eos_ids = frozenset(eos_ids)
        self.special = self.speller.special
        self.start: list[int] = [*takewhile(self.special.__contains__, tokenizer.encode("a"))]
        self.lead = self.speller.lead

    @property
    def end(self) -> int | None:
        """The id of its own, of those that end a text."""
        own = self._tokenizer.eos_token_id
        return own if own in self.eos_ids else min(self.eos_ids, default=None)

    def encode(self, text: str) -> list[int]:
        """The ids of a text in which nothing stands for a special token, whatever it looks like."""
        return self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)

    def follow(self, before: str, text: str) -> list[int]:
        """The ids of ``text`` as it is encoded after ``before``, whose own ids stay as they are.

        Where the two would grow together, after a line break: some tokenizers put a space before
        what begins a text.
        """
        for anchor in (before, "\n") if before else ():
            first, both = self.encode(anchor), self.encode(anchor + text)
            if first and both[: len(first)] == first:
                return both[len(first) :]
        return self.encode(text)

    @cached_property
    def forms(self) -> dict[bytes, int]:
        """What every id spells, but for special ones; no two ids spell the same.

        By the tokens' names, because a token may be a part of a character.
        """
        spell = _name_speller(self._tokenizer)
        vocabulary, added = self._tokenizer.get_vocab(), self._tokenizer.get_added_vocab()
        # What comes later stays: a letter may have a name as a byte too, but is not encoded to it.
        names = sorted(vocabulary, key=lambda n: (byte_of(n) is None, -vocabulary[n]))
        return {
            name.encode() if name in added else spell(name): vocabulary[name]
            for name in names
            if vocabulary[name] not in self.special
        }


class Interpreter:
    """The text of one run in the ids that were ``heard``, told in others as it grows.

    It is encoded in parts, which are cut by the text alone and not by how it came; so a step costs
    no more than the part that it is in.
    """

    def __init__(self, heard: Language, told: Language) -> None:
        self._heard, self._told = heard, told
        self._there, self._back = specials(heard, told), specials(told, heard)
        self._forget()

    def _forget(self) -> None:
        self._ids: list[int] = []
        self._done = self._told.start[:]
        self._before, self._part = "", ""
        self._begun = False
        self.pending: Pending = ()

    def tell(self, ids: list[int]) -> list[int]:
        """The whole text, but for a last character of which there is only a part: ``pending``."""
        if ids[: len(self._ids)] != self._ids:
            self._forget()
        start = self._heard.start
        known = len(self._ids) or (len(start) if ids[: len(start)] == start else 0)
        for token in ids[known:]:
            self._hear(token)
        self._ids = ids[:]
        return self._done + self._open()

    def answer(self, written: list[int]) -> list[int]:
        """What the other wrote after the text that it was last told, in the ids that were heard.

        Up to a special token or an end of text, which are told by their names or as the end; and
        nothing where it does not go on with the character that was begun.
        """
        ends = self._told.special.keys() | self._told.eos_ids
        words = [*takewhile(lambda token: token not in ends, written)]
        pieces, torn = self._told.speller.spell_all(words)
        text = "".join(pieces).removeprefix("" if self._begun else self._told.lead)
        ids = self._heard.follow((self._before + self._part)[-_TAIL:], text) if text else []
        begun = len(self.pending)
        if ids[:begun] != [*self.pending]:
            return []
        last = [] if torn else written[len(words) : len(words) + 1]
        return ids[begun:] + [self._back[token] for token in last if token in self._back]

    def _hear(self, token: int) -> None:
        if token in self._heard.special:
            self._part += self._heard.speller.flush(self.pending)
            self._close()
            self._before, self.pending = "", ()
            self._done += [self._there[token]] if token in self._there else []
            return
        piece, self.pending = self._heard.speller.spell(self.pending, token)
        if piece and not self._begun:
            self._begun, piece = True, piece.removeprefix(self._heard.lead)
        if len(self._part) >= PART and piece[:1].isspace():
            self._close()
        self._part += piece

    def _close(self) -> None:
        self._done += self._open()
        self._before, self._part = (self._before + self._part)[-_TAIL:], ""

    def _open(self) -> list[int]:
        return self._told.follow(self._before, self._part) if self._part else []


def specials(ours: Language, theirs: Language) -> dict[int, int]:
    """Their ids of our special tokens: those of the same name, and their end of text for ours."""
    names = {name: token for token, name in theirs.special.items()}
    found = {token: names[name] for token, name in ours.special.items() if name in names}
    if theirs.end is not None:
        for token in sorted(ours.eos_ids):
            found.setdefault(token, theirs.end)
    return found


def shared(target: Language, draft: Language) -> dict[int, int]:
    """The target's ids with the draft's for the same text, one to one.

    Timor et al. 2025, arXiv 2502.05202, section 3.3 (token-level intersection).
    """
    ours, theirs = target.forms, draft.forms
    found = {ours[form]: theirs[form] for form in ours.keys() & theirs.keys()}
    for token, own in specials(draft, target).items():
        found.setdefault(own, token)
    return found


def difference(ours: Any, theirs: Any) -> tuple[str, int] | None:
    """The first entry in which two tokenizers differ; equal sizes say nothing."""
    odd = ours.get_vocab().items() ^ theirs.get_vocab().items()
    return min(odd, key=lambda entry: (entry[1], entry[0]), default=None)


def unlike(ours: Any, theirs: Any) -> set[int]:
    """Ids that do not mean the same in two tokenizers: one lacks them, or names them otherwise."""
    return {i for _, i in ours.get_vocab().items() ^ theirs.get_vocab().items()}


def clash(ours: Any, theirs: Any) -> bool:
    """Whether an id that is in two tokenizers means something else in each. Not where both have
    added it: a place that is kept for such tokens is filled by many."""
    here, there = ({i: n for n, i in t.get_vocab().items()} for t in (ours, theirs))
    added = set(ours.get_added_vocab().values()) & set(theirs.get_added_vocab().values())
    return bool((unlike(ours, theirs) & here.keys() & there.keys()) - added)


def _name_speller(tokenizer: Any) -> Callable[[str], bytes]:
    """Bytes from a token's name: byte-level names stand for bytes, as do letters of Latin-1 where
    tokens are bytes; others for letters, with a sign for the space, and bytes in words."""
    if names_are_bytes(tokenizer):
        return latin
    signs = tokenizer.convert_ids_to_tokens(tokenizer.encode(" ", add_special_tokens=False))
    sign = signs[0][0] if signs else " "
    letters = {letter: byte for byte, letter in bytes_to_unicode().items()}
    if sign == bytes_to_unicode()[ord(" ")]:
        return lambda name: bytes(letters[letter] for letter in name)

    return lambda name: byte_of(name) or name.replace(sign, " ").encode()
