"""Converts a growing text between the token ids of two tokenizers. No models."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cached_property
from itertools import takewhile
from typing import Any

from transformers.convert_slow_tokenizer import bytes_to_unicode

from .tokens import Pending, Speller, byte_of, latin, names_are_bytes

PART = 512
"""Characters after which a text is cut, where a word begins; each part is encoded separately."""
_TAIL = 48  # characters of context with which a following text is encoded


class Language:
    """One tokenizer. ``special``: its ids that are not text, with their names.

    ``start``: the special ids that it puts before every text. ``lead``: the space that it puts
    before every text; "" if it puts none.
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
        """The tokenizer's EOS id, if it is in ``eos_ids``; else the smallest of them, or None."""
        eos = self._tokenizer.eos_token_id
        return eos if eos in self.eos_ids else min(self.eos_ids, default=None)

    def encode(self, text: str) -> list[int]:
        """The ids of a text. What looks like a special token is encoded as text."""
        return self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)

    def follow(self, before: str, text: str) -> list[int]:
        """The ids of ``text`` as encoded after ``before``, without changing the ids of ``before``.

        If the tokenizer would merge the two at their border, ``text`` is encoded after a line break
        instead of alone: some tokenizers put a space before the start of a text.
        """
        for anchor in (before, "\n") if before else ():
            first, both = self.encode(anchor), self.encode(anchor + text)
            if first and both[: len(first)] == first:
                return both[len(first) :]
        return self.encode(text)

    @cached_property
    def forms(self) -> dict[bytes, int]:
        """The bytes of every token that is not special, with its id. Of ids with the same bytes,
        one.

        From the tokens' names rather than by decoding, since a token may be a part of a character.
        """
        spell = _name_speller(self._tokenizer)
        vocabulary, added = self._tokenizer.get_vocab(), self._tokenizer.get_added_vocab()
        # Later entries win: a letter may also be a byte token such as <0x41>, but seldom is.
        names = sorted(vocabulary, key=lambda n: (byte_of(n) is None, -vocabulary[n]))
        return {
            name.encode() if name in added else spell(name): vocabulary[name]
            for name in names
            if vocabulary[name] not in self.special
        }


class Interpreter:
    """Converts one run's growing text: the target's ids to the draft's, and the draft's
    continuation back.

    The text is encoded in parts, so that a step encodes only the last part. Where parts are cut
    depends on the text alone, not on the steps in which it arrived.
    """

    def __init__(self, target: Language, draft: Language) -> None:
        self._target, self._draft = target, draft
        self._to_draft, self._to_target = specials(target, draft), specials(draft, target)
        self._forget()

    def _forget(self) -> None:
        self._ids: list[int] = []
        self._done = self._draft.start[:]
        self._before, self._part = "", ""
        self._begun = False
        self.pending: Pending = ()

    def to_draft(self, ids: list[int]) -> list[int]:
        """The text ``ids`` in the draft's ids. An incomplete last character is left out; its ids,
        the target's, are in ``pending``."""
        if ids[: len(self._ids)] != self._ids:
            self._forget()
        start = self._target.start
        known = len(self._ids) or (len(start) if ids[: len(start)] == start else 0)
        for token in ids[known:]:
            self._read(token)
        self._ids = ids[:]
        return self._done + self._open()

    def to_target(self, written: list[int]) -> list[int]:
        """Converts the draft's continuation to target tokens.

        ``written``: what the draft wrote after the text of the last ``to_draft``. It is converted
        up to and with the first special token or EOS. Empty where it does not complete the
        character that the text ended in the middle of.
        """
        ends = self._draft.special.keys() | self._draft.eos_ids
        words = [*takewhile(lambda token: token not in ends, written)]
        pieces, incomplete = self._draft.speller.spell_all(words)
        text = "".join(pieces).removeprefix("" if self._begun else self._draft.lead)
        ids = self._target.follow((self._before + self._part)[-_TAIL:], text) if text else []
        begun = len(self.pending)
        if ids[:begun] != [*self.pending]:
            return []
        last = [] if incomplete else written[len(words) : len(words) + 1]
        return ids[begun:] + [self._to_target[token] for token in last if token in self._to_target]

    def _read(self, token: int) -> None:
        """Adds one of the target's tokens to the text."""
        if token in self._target.special:
            self._part += self._target.speller.flush(self.pending)
            self._close()
            self._before, self.pending = "", ()
            self._done += [self._to_draft[token]] if token in self._to_draft else []
            return
        piece, self.pending = self._target.speller.spell(self.pending, token)
        if piece and not self._begun:
            self._begun, piece = True, piece.removeprefix(self._target.lead)
        if len(self._part) >= PART and piece[:1].isspace():
            self._close()
        self._part += piece

    def _close(self) -> None:
        self._done += self._open()
        self._before, self._part = (self._before + self._part)[-_TAIL:], ""

    def _open(self) -> list[int]:
        return self._draft.follow(self._before, self._part) if self._part else []


def specials(ours: Language, theirs: Language) -> dict[int, int]:
    """Maps our special ids to theirs: to those of the same name, and our EOS ids to theirs."""
    names = {name: token for token, name in theirs.special.items()}
    found = {token: names[name] for token, name in ours.special.items() if name in names}
    if theirs.end is not None:
        for token in sorted(ours.eos_ids):
            found.setdefault(token, theirs.end)
    return found


def shared(target: Language, draft: Language) -> dict[int, int]:
    """Maps the target's ids to the draft's ids that stand for the same bytes, one to one.

    Timor et al. 2025, arXiv 2502.05202, section 3.3 (token-level intersection).
    """
    ours, theirs = target.forms, draft.forms
    found = {ours[form]: theirs[form] for form in ours.keys() & theirs.keys()}
    for theirs_id, ours_id in specials(draft, target).items():
        found.setdefault(ours_id, theirs_id)
    return found


def difference(ours: Any, theirs: Any) -> tuple[str, int] | None:
    """The first vocabulary entry (token, id) in which two tokenizers differ; None if they are
    equal.

    Equal sizes do not mean equal vocabularies.
    """
    different = ours.get_vocab().items() ^ theirs.get_vocab().items()
    return min(different, key=lambda entry: (entry[1], entry[0]), default=None)


def unlike(ours: Any, theirs: Any) -> set[int]:
    """Ids that are not the same token in two tokenizers, or that one of them lacks."""
    return {i for _, i in ours.get_vocab().items() ^ theirs.get_vocab().items()}


def clash(ours: Any, theirs: Any) -> bool:
    """Whether an id is in both tokenizers but is another token in each. Ids of added tokens do not
    count where both have added one: many models use the same reserved ids for different ones."""
    here, there = ({i: n for n, i in t.get_vocab().items()} for t in (ours, theirs))
    added = set(ours.get_added_vocab().values()) & set(theirs.get_added_vocab().values())
    return bool((unlike(ours, theirs) & here.keys() & there.keys()) - added)


def _name_speller(tokenizer: Any) -> Callable[[str], bytes]:
    """A function from a token's name to its bytes. In byte-level BPE each letter of a name stands
    for a byte; in ByT5 a name is a letter of Latin-1; elsewhere (SentencePiece) names are text,
    with a sign for the space, and byte tokens such as ``<0x0A>``."""
    if names_are_bytes(tokenizer):
        return latin
    signs = tokenizer.convert_ids_to_tokens(tokenizer.encode(" ", add_special_tokens=False))
    sign = signs[0][0] if signs else " "
    letters = {letter: byte for byte, letter in bytes_to_unicode().items()}
    if sign == bytes_to_unicode()[ord(" ")]:
        return lambda name: bytes(letters[letter] for letter in name)

    return lambda name: byte_of(name) or name.replace(sign, " ").encode()
