"""The settings of sampling, checked. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError

RULES = {
    "speculative": "draft and target sample apart: the text's distribution is exactly the target's",
    "coupled": "they share random numbers: the same seed gives the same text, whoever drafts",
}
_BOUNDS = {
    "temperature": (0.0, 10.0),
    "top_k": (0, 2**31),
    "top_p": (1e-6, 1.0),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.1, 10.0),
    "seed": (0, 2**53),
}


def out_of(what: str, value: object, low: float, high: float) -> InputError:
    """The refusal of a value that is no number from ``low`` to ``high``, which are whole numbers
    where it must be one. None is what an empty field of the page holds."""
    given = "empty" if value is None else f"{value!r:.60}"
    kind = "a whole number" if isinstance(low, int) else "a number"
    return InputError(
        f"{what} is {given}, but must be {kind} from {_plain(low)} to {_plain(high)}."
    )


def _plain(number: float) -> str:
    """As people write it: 4096, 2,147,483,648 or 0.000001."""
    if isinstance(number, int):
        return f"{number:,}" if number >= 10_000 else str(number)
    return f"{number:.6f}".rstrip("0").rstrip(".")


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are sampled; the names and meanings are those of ``transformers``.

    ``temperature`` 0 is greedy, after the penalty. ``top_k`` 0, ``top_p`` 1, ``min_p`` 0 and
    ``repetition_penalty`` 1 change nothing. ``rule``: of ``RULES``. Raises InputError for a value
    that cannot be used.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    rule: str = "speculative"

    def __post_init__(self) -> None:
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            whole = isinstance(low, int)
            known = type(value) is int if whole else type(value) in (int, float)
            if not known or not low <= value <= high:  # no bound holds for NaN
                what = f"The {name.replace('_', '-')}"
                raise out_of(what, value, low, high)
            if not whole:  # JSON writes 2.0 as 2, and transformers takes no whole numbers
                object.__setattr__(self, name, float(value))
        if 0 < self.temperature < 1e-3:
            raise InputError("A temperature under 0.001 is greedy decoding: use 0.")
        if self.rule not in RULES:
            raise InputError(f"There is no rule {self.rule!r:.60}: use {' or '.join(RULES)}.")

    @property
    def draws(self) -> bool:
        """Whether tokens are sampled; at temperature 0 they are not."""
        return self.temperature > 0

    @property
    def comparable(self) -> bool:
        """Whether two runs must write the same text, whoever drafts."""
        return not self.draws or self.rule == "coupled"
