"""Where tokens lie in their text, for texts that two tokenizers read. No models."""

from __future__ import annotations

from collections.abc import Sequence

from .tokens import START, Speller


def spans(speller: Speller, ids: Sequence[int]) -> list[tuple[int, int]]:
    """The characters of each token of a text: where they begin and where they end.

    A token that holds a part of a character counts for the whole of it. A special token has no
    characters. The space that a tokenizer puts before every text is no character of it.
    """
    found: list[tuple[int, int]] = []
    at, pending, waiting = 0, START, 0
    for token in ids:
        piece, pending = speller.spell(pending, token)
        # Tokens whose character was incomplete until now get the characters that it brought.
        waiting += 1
        if piece or not pending or pending == START:
            found += [(at, at + len(piece))] * waiting
            at, waiting = at + len(piece), 0
    return found + [(at, at + 1)] * waiting
