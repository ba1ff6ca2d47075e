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
        ({"top_p": 0.0}, "top-p is 0.0"),
        ({"top_k": 2.5}, "top-k is 2.5, but must be a whole number"),
        ({"seed": True}, "seed is True"),
        ({"rule": "fair"}, "no rule 'fair'"),
    ],
)
def test_what_cannot_be_sampled_with_is_refused(wrong, words):
    with pytest.raises(InputError, match=words):
        Sampling(**wrong)
