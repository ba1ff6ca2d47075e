"""How tokens may be sampled, checked."""

from __future__ import annotations

import pytest

from stairs_core.errors import InputError
from stairs_core.settings.sampling import Sampling


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"temperature": -1}, "temperature is -1, but must be a number from 0 to 10"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": 10**400}, "temperature is 1000"),
        ({"top_p": 0.0}, "top-p is 0.0"),
        ({"top_k": 2.5}, "top-k is 2.5, but must be a whole number"),
        ({"seed": True}, "seed is True"),
        ({"seed": None}, "seed is empty, .* a whole number from 0 to 9,007,199,254,740,992[.]"),
        ({"top_k": -1}, "from 0 to 2,147,483,648[.]"),
        ({"top_p": 2}, "from 0.000001 to 1[.]"),
        ({"rule": "fair"}, "no rule 'fair'"),
    ],
)
def test_what_cannot_be_sampled_with_is_refused(wrong, words):
    with pytest.raises(InputError, match=words):
        Sampling(**wrong)


def test_whole_numbers_are_taken_for_what_they_are():
    """JSON has one kind of number: a slider's end comes as 2, and transformers refuses that."""
    found = Sampling(temperature=2, top_p=1, min_p=1, repetition_penalty=2, top_k=5)
    numbers = (found.temperature, found.top_p, found.min_p, found.repetition_penalty)
    assert [type(n) for n in numbers] == [float] * 4
    assert type(found.top_k) is int
