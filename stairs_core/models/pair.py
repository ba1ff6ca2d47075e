"""A pair of loaded models, target and draft, and what they can do together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from ..errors import InputError, Use
from ..forward import capabilities, quantised_weights
from ..forward.encoder_decoder import bind, reads_apart
from ..forward.fitted_draft import Fitted, vocabulary
from ..settings.methods import REGISTRY, USUAL, Lack
from ..settings.settings import BACKENDS
from ..text import chat_template, languages
from ..text.cross_tokenizer import Language, clash, unlike
from ..text.tokens import Speller
from . import devices, heads


@dataclass(frozen=True)
class Pair:
    """A target, its draft (or None), and what both share. Models are in evaluation mode.

    ``draft_tokenizer``: the same object as ``tokenizer`` where their entries are equal, or where
    there is no draft. ``context_length``: in tokens, the smaller of both models'. ``parameters``:
    how many the target and the draft have (0 without a draft); ``bytes``: what they take.
    ``own_draft``: it came along with the target, nobody named it. ``shortest``: the least tokens
    that a text can have. ``first``: a language's token, with which decoders begin instead of the
    model's default.
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
    own_draft: bool = False
    first: int | None = None

    def for_prompt(self, ids: list[int]) -> Pair:
        """The pair to decode texts with that begin with the prompt ``ids``. Another one than this
        only where an encoder reads the prompt (each such pair runs its encoder once), or where
        rotary angles depend on the prompt's length. Raises InputError for too long a prompt.
        """
        models = [m for m in (self.target, self.draft) if m is not None]
        target = bind(self.target, ids, self.first)
        draft = self.draft and bind(self.draft, self._readable_by_draft(ids), self.first)
        if target is self.target and draft is self.draft:
            return self
        if not any(map(reads_apart, models)):
            return replace(self, target=target, draft=draft)
        return replace(
            self,
            target=target,
            draft=draft,
            context_length=min(
                capabilities.context_length(m, len(ids), self.first) for m in models
            ),
            shortest=len(ids),
        )

    @cached_property
    def for_chat(self) -> Pair:
        """The pair for chats: its texts also end where the chat template ends an answer."""
        target = self.eos_ids | chat_template.ends(self.tokenizer)
        draft = target if self.same_tokenizer else chat_template.ends(self.draft_tokenizer)
        return replace(self, eos_ids=target, draft_eos_ids=self.draft_eos_ids | draft)

    def into(self, language: str | None) -> Pair:
        """The pair that writes in the language of that code. Raises InputError if it cannot."""
        if language is None:
            return self
        if not reads_apart(self.target):
            raise InputError(
                f"{self.target_name} ({self.target.config.model_type}) does not translate: name no "
                "language, but say in the prompt what you want."
            )
        return replace(self, first=languages.token(self.tokenizer, language))

    def _readable_by_draft(self, ids: list[int]) -> list[int]:
        """The prompt for the draft's encoder, if it has one: ids that it does not share are
        replaced."""
        if self.draft is None or not reads_apart(self.draft):
            return ids
        known = self._shared
        return [i if i in known else min(known) for i in ids]

    def try_target(self) -> None:
        """Tries what only forward passes can show of the target, so that ``lacks`` knows it."""
        try:
            self.require_skipping()
            self._tried["skips"] = True
        except InputError:
            self._tried["skips"] = False
        self._tried["trees"] = self.target_takes_trees

    def lacks(self) -> dict[str, Lack]:
        """The drafters that this pair cannot use, as far as is known without trying it out."""
        found: dict[str, Lack] = {}
        for name, method in REGISTRY.items():
            if method.draft != "no" and self.draft is None:
                found[name] = Lack("no draft model is loaded")
            elif method.draft == "same" and not self.same_ids:
                found[name] = Lack("the draft has another tokenizer")
            elif method.skips and not self._tried.get("skips", True):
                found[name] = Lack("this target cannot skip layers")
            elif method.masks and not getattr(self.target.config, "stairs_space", None):
                found[name] = Lack("this target was not trained to guess at masks")
            elif method.head and not heads.find(method.head, self.target):
                found[name] = Lack("no such head was trained on this target")
            elif method.head and not method.lossy and reads_apart(self.target):
                found[name] = Lack("an encoder reads this target's prompts")
            elif method.tree and not self._tried.get("trees", True):
                rows = tuple(b for b in BACKENDS if not b.startswith("single"))
                found[name] = Lack("this target reads no tree in one pass", rows)
        return found

    def usual_drafter(self, *, strict: bool = False) -> str:
        """Who guesses where nobody is named. ``strict``: in strict numerics, which has no trees.
        A draft that nobody named is no reason to pass over what guesses better."""
        lacks, order = self.lacks(), USUAL[self.own_draft :]
        return next(n for n in order if n not in lacks and not (strict and REGISTRY[n].tree))

    def usual_k(self, drafter: str) -> int | None:
        """How many guesses a step suit a drafter: as its head says, where that says it."""
        method = REGISTRY[drafter]
        said = heads.guesses(drafter, self.target) if method.head == drafter else None
        return said or method.usual_k

    @cached_property
    def _tried(self) -> dict[str, bool]:
        return {}

    def require_strict(self) -> None:
        """Raises InputError when strict numerics does not hold for the target."""
        _ = self._strict  # cached: tried out only once

    @cached_property
    def _strict(self) -> None:
        capabilities.check_strict(self.target, self.target_name)

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
        """Raises InputError when sublayers of the target cannot be skipped."""
        _ = self._skipping

    @cached_property
    def _skipping(self) -> None:
        capabilities.check_skipping(self.target, self.target_name)

    @cached_property
    def target_takes_trees(self) -> bool:
        return capabilities.takes_trees(self.target)

    @cached_property
    def draft_takes_trees(self) -> bool:
        return self.draft is not None and capabilities.takes_trees(self.draft)

    @cached_property
    def guesser(self) -> Any | None:
        """The draft called with the target's ids; for a draft whose ids mean other tokens, the
        draft itself, which is then called with its own (see ``stranger``)."""
        width = vocabulary(self.target)
        if self.draft is None or not self.same_ids:
            return self.draft
        if len(self._shared) == width == vocabulary(self.draft):
            return self.draft
        return Fitted(self.draft, width, self._shared)

    @cached_property
    def stranger(self) -> Any | None:
        """The draft called with its own tokenizer's ids, some of which it may have no embedding
        for."""
        if self.draft is None:
            return None
        known = range(vocabulary(self.draft))
        ids = max(self.draft_tokenizer.get_vocab().values()) + 1
        return self.draft if ids <= len(known) else Fitted(self.draft, ids, known)

    @cached_property
    def same_ids(self) -> bool:
        """Whether ids mean the same tokens to target and draft, apart from ids that only one of
        them has, and added tokens."""
        if self.same_tokenizer:
            return True
        return not clash(self.tokenizer, self.draft_tokenizer) and bool(self._shared)

    @cached_property
    def _shared(self) -> set[int]:
        """Ids that mean the same token to both models."""
        both = set(range(min(vocabulary(self.target), vocabulary(self.draft))))
        if self.same_tokenizer:
            return both
        return both - unlike(self.tokenizer, self.draft_tokenizer)

    def require_rows(self, ids: Sequence[int]) -> None:
        """Raises InputError for a prompt with an id that the target has no embedding for."""
        rows = vocabulary(self.target)
        beyond = next((i for i in ids if i >= rows), None)
        if beyond is not None:
            word = self.tokenizer and f" ({self.tokenizer.convert_ids_to_tokens(beyond)!r:.40})"
            raise InputError(
                f"The prompt holds the id {beyond}{word or ''}, and {self.target_name} has rows "
                f"for the ids under {rows}: leave that token out."
            )

    def readable(self, ids: Sequence[int]) -> list[int]:
        """Ids that may be copied: those that the target has no embedding for become 0."""
        return [i if i < vocabulary(self.target) else 0 for i in ids]

    @property
    def device(self) -> torch.device:
        return self.target.device

    @property
    def dtype(self) -> str:
        """The target's dtype, or how its weights are quantised."""
        return self.quantised or str(self.target.dtype).removeprefix("torch.")

    @property
    def quantised(self) -> str | None:
        """The method and bits of quantised weights of the target; None for floats."""
        return quantised_weights.label(self.target.config)

    @property
    def tuned(self) -> bool:
        """Whether the target was made from another model, whose text it need not write: what is
        exact is then exact to the tuned model (``stairs train space``)."""
        return bool(getattr(self.target.config, "stairs_tuned", None))

    @property
    def has_chat_template(self) -> bool:
        return bool(self.tokenizer.chat_template)

    @property
    def same_tokenizer(self) -> bool:
        return self.draft_tokenizer is self.tokenizer

    @cached_property
    def languages(self) -> tuple[Language, Language]:
        """The tokenizers of target and draft, as ``Language``."""
        draft = Language(self.draft_tokenizer, self.draft_eos_ids)
        return Language(self.tokenizer, self.eos_ids), draft

    @cached_property
    def speller(self) -> Speller:
        return Speller(self.tokenizer)

    def describe(self) -> dict[str, str]:
        """Target, draft, dtype and device as short strings for people."""
        named = {"target": self.target_name, "draft": self.draft_name}
        sizes = zip(named.items(), self.parameters, strict=True)
        models = {role: f"{name} ({_size(n)})" for (role, name), n in sizes if name}
        return {**models, "dtype": self.dtype, "device": devices.hardware(self.device)}


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} B" if count >= 1e9 else f"{count / 1e6:.1f} M"
