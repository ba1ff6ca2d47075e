"""Copying what followed an earlier n-gram: the longest, and of those the latest."""

from __future__ import annotations

from stairs_core.drafters.search.ngrams import NGrams


def test_copying_takes_the_longest_and_the_latest():
    def find(text: list[int], count: int) -> tuple[list[int], int]:
        copy = NGrams().copy(text, count)
        return copy.tokens, copy.same

    assert find([1, 2, 3], 4) == ([], 0)
    text = [7, 1, 2, 3, 50, 51, 9, 1, 2, 3, 60, 61, 8, 2, 3, 70, 1, 2, 3]
    assert find(text, 2) == ([60, 61], 3)
    assert find([*text, 70], 3) == ([1, 2, 3], 3)
    assert find([4, 5, 6, 6], 2) == ([6, 6], 1)


def test_copying_goes_on_into_what_it_copied():
    text = [1, 2, 3, 1, 2, 3, 1, 2, 3]
    copy = NGrams().copy(text, 7, look=99)
    assert copy.tokens == [1, 2, 3, 1, 2, 3, 1]
    assert copy.same == 6
    assert [text[origin.at] for origin in copy.origins] == copy.tokens
    assert NGrams().copy(text, 7, look=5).same == 5


def test_copying_forgets_another_text():
    index = NGrams()
    assert index.copy([1, 2, 3, 4, 1, 2], 2).tokens == [3, 4]
    assert index.copy([9, 9, 1, 2], 2).tokens == []
    assert index.copy([9, 9, 1, 2, 9], 1).tokens == [1]
