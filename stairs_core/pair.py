"""A pair of loaded models, and what was measured of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from . import checks, costs, devices
from .costs import Costs
from .encoded import bind, reads_apart
from .errors import InputError
from .settings import BACKENDS
from .text import Speller
from .trace import Prices, Recording
from .translate import Language

_DOUBTS = 3
"""How often what was measured of one way to decode is measured anew."""


@dataclass(frozen=True)
class Pair:
    """A target, its draft (or None), and what both share. Models are in evaluation mode.

    ``draft_tokenizer``: the target's own object where they are equal, entry by entry, or where
    there is no draft. ``context_length``: in tokens, the smaller of both models'. ``parameters``:
    how many the target and the draft have (0: none), and ``bytes`` that they take. ``shortest``:
    tokens that every text begins with.
    """

    name: str
    target: Any
    draft: Any | None
    target_name: str
    draft_name: str | None
    tokenizer: Any
    draft_tokenizer: Any
    eos_ids: frozenset[int]
    draft_eos_ids: frozenset[int]
    context_length: int
    parameters: tuple[int, int]
    shortest: int = 1
    bytes: tuple[int, int] = (0, 0)

    def for_prompt(self, ids: list[int]) -> Pair:
        """The pair that decodes texts that begin with ``ids``: itself, but where an encoder is to
        read them, once for every pair that is asked for. Raises InputError for too long a prompt.
        """
        models = [m for m in (self.target, self.draft) if m is not None]
        if not any(map(reads_apart, models)):
            return self
        return replace(
            self,
            target=bind(self.target, ids),
            draft=self.draft and bind(self.draft, ids),
            context_length=min(checks.context_length(m, len(ids)) for m in models),
            shortest=len(ids),
        )

    def costs(
        self, backend: str = "single_kv", numerics: str = "fast", *, drafts: bool = False
    ) -> Costs:
        """What passes cost here, with a draft's between them or not; measured when first asked,
        and again after a run that contradicts it (``doubt``)."""
        key = backend, numerics, drafts
        if key not in self._costs:
            self._costs[key] = costs.measure(self, backend, numerics, drafts=drafts)
        return self._costs[key]

    def doubt(self, lane: Recording, alone: Recording, *, drafts: bool) -> None:
        """Forgets what was measured of a way to decode where a race of it with the target alone
        saw other costs. A few times: some texts are not like those that are measured on."""
        key = lane.run.backend, lane.run.numerics, drafts
        known = self._costs.get(key)
        if known and self._doubts[key] < _DOUBTS and known.contradicted(lane, alone):
            self._doubts[key] += 1
            del self._costs[key]

    def measure_prices(self, backend: str = "single_kv", numerics: str = "fast") -> None:
        """Has ``prices`` know plain decoding and this way to decode, as well as ``costs`` does, and
        the other backends roughly: on a small pair in three seconds. A backend that this target
        cannot do, or is slow in, stays unknown."""
        if numerics == "strict":
            self.require_strict()
        drafts = self.draft is not None
        self.costs()
        self.costs(backend, numerics, drafts=drafts)
        for other in BACKENDS:
            if other == backend or other in self._rough or (other, "fast", drafts) in self._costs:
                continue
            try:
                found = costs.measure(self, other, "fast", drafts=drafts, roughly=True)
            except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
                continue
            if found.passes:
                self._rough[other] = found

    def prices(self, backend: str, numerics: str, *, drafts: bool) -> tuple[Prices, ...]:
        """What was measured so far, of this way to decode first; measures nothing."""
        own = self._costs.get((backend, numerics, drafts))
        others = {name: self._rough.get(name) for name in BACKENDS if name != backend}
        for name in others:
            for key in ((name, "fast", not drafts), (name, "fast", drafts)):
                others[name] = self._costs.get(key) or others[name]
        found = {backend: own, **others}
        return tuple(c.prices(name, drafts=drafts) for name, c in found.items() if c)

    @cached_property
    def _rough(self) -> dict[str, Costs]:
        return {}

    @cached_property
    def _costs(self) -> dict[tuple[str, str, bool], Costs]:
        return {}

    @cached_property
    def _doubts(self) -> Counter[tuple[str, str, bool]]:
        return Counter()

    def require_strict(self) -> None:
        """Raises InputError when the target cannot keep what strict numerics promises."""
        _ = self._strict  # asked again, it is not measured again

    @cached_property
    def _strict(self) -> None:
        checks.check_strict(self.target, self.target_name)

    def require_trees(self) -> None:
        """Raises InputError when the target cannot read a tree in one pass."""
        if not self.target_takes_trees:
            raise InputError(
                f"{self.target_name} ({self.target.config.model_type}) does not take the masks and "
                "positions that a tree in one pass needs: use --backend matrix_kv or matrix."
            )

    def require_skipping(self) -> None:
        """Raises InputError when the target cannot leave out sublayers."""
        _ = self._skipping

    @cached_property
    def _skipping(self) -> None:
        checks.check_skipping(self.target, self.target_name)

    @cached_property
    def target_takes_trees(self) -> bool:
        return checks.takes_trees(self.target)

    @cached_property
    def draft_takes_trees(self) -> bool:
        return self.draft is not None and checks.takes_trees(self.draft)

    @property
    def vocabulary(self) -> int:
        """Entries of the wider model's output; some models pad it."""
        models = (self.target, self.draft or self.target)
        return max(m.config.get_text_config().vocab_size for m in models)

    @property
    def device(self) -> torch.device:
        return self.target.device

    @property
    def dtype(self) -> str:
        quantised = getattr(self.target.config, "quantization_config", None)
        if quantised is not None:
            return "int8" if getattr(quantised, "load_in_8bit", False) else "int4"
        return str(self.target.dtype).removeprefix("torch.")

    @property
    def has_chat_template(self) -> bool:
        return bool(self.tokenizer.chat_template)

    @property
    def same_tokenizer(self) -> bool:
        return self.draft_tokenizer is self.tokenizer

    @cached_property
    def languages(self) -> tuple[Language, Language]:
        """The target's and the draft's."""
        draft = Language(self.draft_tokenizer, self.draft_eos_ids)
        return Language(self.tokenizer, self.eos_ids), draft

    @cached_property
    def speller(self) -> Speller:
        return Speller(self.tokenizer)

    def describe(self) -> dict[str, str]:
        """Short strings for people: target, draft, dtype, device."""
        named = {"target": self.target_name, "draft": self.draft_name}
        sizes = zip(named.items(), self.parameters, strict=True)
        models = {role: f"{name} ({_size(n)})" for (role, name), n in sizes if name}
        return {**models, "dtype": self.dtype, "device": devices.hardware(self.device)}


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} B" if count >= 1e9 else f"{count / 1e6:.1f} M"
