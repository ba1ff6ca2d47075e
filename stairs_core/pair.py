"""A pair of loaded models, and what was measured of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from . import checks, costs, devices
from .costs import Costs
from .encoded import bind, reads_apart
from .errors import InputError
from .text import Speller
from .translate import Language


@dataclass(frozen=True)
class Pair:
    """A target, its draft (or None), and what both share. Models are in evaluation mode.

    ``draft_tokenizer``: the target's own object where they are equal, entry by entry, or where
    there is no draft. ``context_length``: in tokens, the smaller of both models'. ``parameters``:
    how many the target and the draft have (0: none). ``shortest``: tokens that every text begins
    with.
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
        """What passes cost here, with a draft's between them or not; measured when first asked."""
        key = backend, numerics, drafts
        if key not in self._costs:
            self._costs[key] = costs.measure(self, backend, numerics, drafts=drafts)
        return self._costs[key]

    @cached_property
    def _costs(self) -> dict[tuple[str, str, bool], Costs]:
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
