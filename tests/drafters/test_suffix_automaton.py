"""Copying from the longest end that stood before, against a search that is plainly right."""

from __future__ import annotations

import random
import sys
from typing import Any, cast

import pytest

from stairs_core import drafters
from stairs_core.drafters import DrafterInputs
from stairs_core.drafters.search.match import Copy
from stairs_core.drafters.search.ngrams import DocumentNGrams
from stairs_core.drafters.search.suffix_automaton import PER_TOKEN, Automaton, Suffixes
from stairs_core.errors import InputError
from stairs_core.text.tokens import Document
from stairs_core.traces.records import Origin


def match(ids: list[int], after: int, text: list[int]) -> int:
    """How many tokens before ``after`` are those at the end of ``text``."""
    same = 0
    while same < min(after, len(text)) and ids[after - 1 - same] == text[-1 - same]:
        same += 1
    return same


def search(text: list[int], documents: list[Document], longest: int | None = None):
    """The longest match, and the first place after one as long: document, place, length."""
    found = ("", 0, 0)
    for document in documents:
        for after in range(1, len(document.ids)):
            same = match(document.ids, after, text)
            same = same if longest is None else min(same, longest)
            if same > found[2]:
                found = (document.name, after, same)
    return found


def check(copy: Copy, text: list[int], documents: list[Document], count: int, longest=None) -> None:
    """That it copies from where the search finds the text's end, and says so.

    ``longest``: how far back the search looks; without, a copy is as long as its match is worth,
    and in the text itself any place of the longest match will do.
    """
    name, after, same = search(text, documents, longest)
    count = count if longest else min(count, PER_TOKEN * same)
    if name == "text" and copy.origins and not longest:
        after = copy.origins[0].at
        assert match(text, after, text) == same
    ids = {document.name: [*document.ids] for document in documents}[name] if same else []
    while name == "text" and len(ids) < after + count:
        ids.append(ids[len(ids) - len(text) + after])  # it goes round
    assert copy.tokens == ids[after:][:count]
    origins = [(origin.document, origin.at) for origin in copy.origins]
    assert origins[:1] == [(name, after)][: len(copy.tokens)]
    texts = {document.name: document.ids for document in documents}
    assert [texts[document][at] for document, at in origins] == copy.tokens
    assert copy.same == same or not copy.tokens


def scattered(rng: random.Random, alphabet: int) -> list[int]:
    """A text of up to 40 tokens, of any size of number."""
    return [rng.randrange(alphabet) * 10**9 for _ in range(rng.randrange(41))]


@pytest.mark.parametrize("alphabet", [1, 2, 3, 8])
def test_every_copy_is_that_of_a_plain_search(alphabet):
    """Over documents that are empty, short or alike, and text that comes in pieces."""
    rng = random.Random(alphabet)
    for _ in range(25):
        documents = [Document(f"d{i}", scattered(rng, alphabet)) for i in range(rng.randrange(4))]
        finder = Suffixes(documents)
        for _ in range(2):  # the second text is another, for the same documents
            whole, end = [*scattered(rng, alphabet), 0], 0
            while end < len(whole):
                end = min(len(whole), end + rng.randrange(1, 5))
                text, count = whole[:end], rng.randrange(9)
                check(finder.copy(text, count), text, [Document("text", text), *documents], count)


def test_references_are_searched_for_the_longest_run_and_its_first_place():
    rng = random.Random(5)
    for _ in range(100):
        documents = [Document(f"d{i}", scattered(rng, 3)) for i in range(rng.randrange(4))]
        text, count = [*scattered(rng, 3), 0], rng.randrange(1, 9)
        check(DocumentNGrams(documents).copy(text, count), text, documents, count, 5)


def test_no_match_runs_over_the_end_of_a_document():
    documents = [Document("a", [1, 2, 3]), Document("b", [4, 5, 6, 7])]
    text = [9, 2, 3, 4, 5]
    for finder in (Suffixes(documents), DocumentNGrams(documents)):
        copy = finder.copy(text, 9)
        assert (copy.tokens, copy.same) == ([6, 7], 2)
        assert copy.origins == [Origin("b", 2), Origin("b", 3)]
        assert finder.copy([9, 1, 2, 3], 9).tokens == []


def test_only_the_drafter_reference_needs_references():
    inputs = DrafterInputs(*[cast(Any, None)] * 3)
    assert drafters.build("suffix", inputs).propose([1, 2, 3, 1, 2], 4).tokens == [3, 1, 2, 3]
    with pytest.raises(InputError, match="texts of yours: use --reference FILE"):
        drafters.build("reference", inputs)


def test_a_repetition_goes_on_and_says_where_it_stood():
    text = [7, 1, 2, 3, 1, 2, 3, 1, 2, 3]
    copy = Suffixes().copy(text, 8)
    assert copy.tokens == [1, 2, 3, 1, 2, 3, 1, 2]
    assert [o.at for o in copy.origins] == [7, 8, 9, 7, 8, 9, 7, 8]
    assert copy.same == 6


def test_the_longer_the_match_the_more_is_copied():
    story = list(range(100))
    lengths = [
        len(Suffixes([Document("d", story)]).copy([500, *story[:same]], 32).tokens)
        for same in range(50)
    ]
    assert lengths[:3] == [0, PER_TOKEN, 2 * PER_TOKEN]
    assert lengths == sorted(lengths)
    assert lengths[-1] == 32


def test_the_latest_place_of_a_run_is_copied_from():
    """Where a run was the longest repeated end again, what followed it then is more likely."""
    assert Suffixes().copy([1, 2, 9, 1, 2, 8, 1, 2], 1).tokens == [8]


def test_documents_are_read_once(monkeypatch):
    finder = Suffixes([Document("d", [1, 2, 3, 4, 5])])
    read: list[int | None] = []
    extend = Automaton.extend
    monkeypatch.setattr(Automaton, "extend", lambda s, t: (read.append(t), extend(s, t)))
    assert finder.copy([9, 1, 2], 2).tokens == [3, 4]
    assert finder.copy([8, 2, 3], 2).tokens == [4, 5]
    assert finder.copy([8, 2, 3, 4], 2).tokens == [5]
    assert read == [9, 1, 2, 8, 2, 3, 4]


@pytest.mark.parametrize("kind", ["one token", "two tokens", "a round", "all different"])
def test_a_step_costs_what_it_adds(kind):
    """In lines of Python, which no other load on the machine changes."""
    rng, n = random.Random(3), 1500
    text = {
        "one token": [1] * n,
        "two tokens": [rng.randrange(2) for _ in range(n)],
        "a round": list(range(50)) * (n // 50),
        "all different": list(range(n)),
    }[kind]
    finder = Suffixes([Document("d", text[: n // 2]), Document("e", text[n // 3 :])])
    lines = []

    def count(frame, event, argument):
        lines[-1] += event == "line"
        return count

    tracing = sys.gettrace()
    try:
        for end in range(1, n + 1):
            lines.append(0)
            sys.settrace(count)
            finder.copy(text[:end], 4)
            sys.settrace(tracing)
    finally:
        sys.settrace(tracing)
    assert sum(lines) < 120 * n
    assert sum(lines[-n // 3 :]) < 2 * sum(lines[: n // 3])
