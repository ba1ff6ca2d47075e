"""A pair of loaded models, and what was measured of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from . import chats, checks, costs, devices, languages, quantised
from .costs import Costs
from .drafters import REGISTRY, Lack
from .encoded import bind, reads_apart
from .errors import InputError, Use
from .fitted import Fitted, vocabulary
from .settings import BACKENDS
from .text import Speller
from .trace import Prices, Recording
from .translate import Language, clash, unlike

_DOUBTS = 3
"""How often what was measured of one way to decode is measured anew."""


@dataclass(frozen=True)
class Pair:
    """A target, its draft (or None), and what both share. Models are in evaluation mode.

    ``draft_tokenizer``: the target's own object where they are equal, entry by entry, or where
    there is no draft. ``context_length``: in tokens, the smaller of both models'. ``parameters``:
    how many the target and the draft have (0: none), and ``bytes`` that they take. ``shortest``:
    tokens that every text begins with. ``first``: the token, of a language, that decoders begin
    with in place of their own choice.
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
    first: int | None = None

    def for_prompt(self, ids: list[int]) -> Pair:
        """The pair that decodes texts that begin with ``ids``: itself, but where an encoder is to
        read them, once for every pair that is asked for, or where rotary angles depend on their
        number. Raises InputError for too long a prompt.
        """
        models = [m for m in (self.target, self.draft) if m is not None]
        target = bind(self.target, ids, self.first)
        draft = self.draft and bind(self.draft, self._told(ids), self.first)
        if target is self.target and draft is self.draft:
            return self
        if not any(map(reads_apart, models)):
            return replace(self, target=target, draft=draft)
        return replace(
            self,
            target=target,
            draft=draft,
            context_length=min(checks.context_length(m, len(ids), self.first) for m in models),
            shortest=len(ids),
        )

    @cached_property
    def for_chat(self) -> Pair:
        """The pair whose text ends where an answer does, too."""
        own = self.eos_ids | chats.ends(self.tokenizer)
        draft = own if self.same_tokenizer else chats.ends(self.draft_tokenizer)
        return replace(self, eos_ids=own, draft_eos_ids=self.draft_eos_ids | draft)

    def into(self, language: str | None) -> Pair:
        """The pair that writes in that language, by its code. Raises InputError."""
        if language is None:
            return self
        if not reads_apart(self.target):
            raise InputError(
                f"{self.target_name} ({self.target.config.model_type}) does not translate: name no "
                "language, but say in the prompt what you want."
            )
        return replace(self, first=languages.token(self.tokenizer, language))

    def _told(self, ids: list[int]) -> list[int]:
        """A prompt as an encoder of the draft's is to read it: of one that knows all of it."""
        if self.draft is None or not reads_apart(self.draft):
            return ids
        known = self._shared
        return [i if i in known else min(known) for i in ids]

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

    def try_target(self) -> None:
        """Has ``lacks`` know what only passes tell of the target."""
        try:
            self.require_skipping()
            self._tried["skips"] = True
        except InputError:
            self._tried["skips"] = False
        self._tried["trees"] = self.target_takes_trees

    def lacks(self) -> dict[str, Lack]:
        """The drafters that this pair cannot use, as far as it is known; tries nothing."""
        found: dict[str, Lack] = {}
        for name, method in REGISTRY.items():
            if method.draft != "no" and self.draft is None:
                found[name] = Lack("no draft model is loaded")
            elif method.draft == "same" and not self.same_ids:
                found[name] = Lack("the draft has another tokenizer")
            elif method.skips and not self._tried.get("skips", True):
                found[name] = Lack("this target cannot skip layers")
            elif method.tree and not self._tried.get("trees", True):
                rows = tuple(b for b in BACKENDS if not b.startswith("single"))
                found[name] = Lack("this target reads no tree in one pass", rows)
        return found

    @cached_property
    def _tried(self) -> dict[str, bool]:
        return {}

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
                "positions that a tree in one pass needs: ",
                Use(backend=("matrix_kv", "matrix")),
                ".",
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

    @cached_property
    def guesser(self) -> Any | None:
        """The draft in the target's ids: itself where it has the same, or another tokenizer's."""
        width = vocabulary(self.target)
        if self.draft is None or not self.same_ids:
            return self.draft
        if len(self._shared) == width == vocabulary(self.draft):
            return self.draft
        return Fitted(self.draft, width, self._shared)

    @cached_property
    def stranger(self) -> Any | None:
        """The draft in its own tokenizer's ids, of which some may be beyond its rows."""
        if self.draft is None:
            return None
        known = range(vocabulary(self.draft))
        ids = max(self.draft_tokenizer.get_vocab().values()) + 1
        return self.draft if ids <= len(known) else Fitted(self.draft, ids, known)

    @cached_property
    def same_ids(self) -> bool:
        """Whether ids mean the same to target and draft, but for those that only one of them has,
        and added tokens."""
        if self.same_tokenizer:
            return True
        return not clash(self.tokenizer, self.draft_tokenizer) and bool(self._shared)

    @cached_property
    def _shared(self) -> set[int]:
        """Ids that mean the same to both."""
        both = set(range(min(vocabulary(self.target), vocabulary(self.draft))))
        if self.same_tokenizer:
            return both
        return both - unlike(self.tokenizer, self.draft_tokenizer)

    def require_rows(self, ids: Sequence[int]) -> None:
        """Raises InputError for a prompt with an id that the target has no row for."""
        rows = vocabulary(self.target)
        beyond = next((i for i in ids if i >= rows), None)
        if beyond is not None:
            word = self.tokenizer and f" ({self.tokenizer.convert_ids_to_tokens(beyond)!r:.40})"
            raise InputError(
                f"The prompt holds the id {beyond}{word or ''}, and {self.target_name} has rows "
                f"for the ids under {rows}: leave that token out."
            )

    def readable(self, ids: Sequence[int]) -> list[int]:
        """Ids to copy from; for what the target has no row for, a guess that will not hold."""
        return [i if i < vocabulary(self.target) else 0 for i in ids]

    @property
    def device(self) -> torch.device:
        return self.target.device

    @property
    def dtype(self) -> str:
        """The target's, or how its weights are quantised."""
        return self.quantised or str(self.target.dtype).removeprefix("torch.")

    @property
    def quantised(self) -> str | None:
        """The method and bits of the target's weights where they are no floats."""
        return quantised.label(self.target.config)

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
