"""Rotary embeddings: how far they reach, and those whose angles depend on how long the text is.

``longrope`` and ``dynamic`` turn a position by other angles when the text is long, and
``transformers`` goes by the last position of each pass. A key then depends on which pass it was
written in, and the target's own text is what ``generate`` makes of that: the prompt is read at
once, and each new token alone. So the angles of position i are those of a pass that ends at i, or
at the prompt's end. ``Turns`` gives a model these angles, however the tokens are grouped.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

UNLIMITED = 2**31
"""More tokens than any text has."""


def kinds(config: Any) -> list[dict[str, Any]]:
    """The parameters of every rotary embedding that a config has: by kind of layer, or one."""
    ropes = getattr(config.get_text_config(), "rope_parameters", None) or {}
    nested = [rope for rope in ropes.values() if isinstance(rope, dict)]
    return nested or ([ropes] if ropes else [])


def reach(config: Any) -> int | None:
    """Positions that a model with rotary embeddings was made for; None for another model.

    Where angles are scaled, that is ``factor`` times the original number: which stands beside the
    factor or, if ``max_position_embeddings`` was not raised, is that. Nothing breaks beyond it.
    """
    ropes, own = kinds(config), getattr(config.get_text_config(), "max_position_embeddings", None)
    if not ropes or not own:
        return None

    def scaled(rope: dict[str, Any]) -> int:
        original = rope.get("original_max_position_embeddings") or own
        return max(own, int(original * (rope.get("factor") or 1)))

    return min(map(scaled, ropes))


def by_length(model: Any) -> bool:
    """Whether some of the model's angles depend on how long the text is."""
    return any(_by_length(rope.get("rope_type")) for rope in kinds(model.config))


def bound(model: Any, prompt_length: int) -> Any:
    """A model to be called on texts that begin with a prompt of so many tokens: the one given, but
    where angles depend on the length a view of it, of the same weights, that says how in ``turns``.
    """
    if not by_length(model):
        return model
    view = copy.copy(model)
    view.turns = Turns(model, prompt_length)
    return view


class Turns:
    """The angles that ``generate`` would turn by. ``prompt_length``: tokens that it reads at once.

    ``lengths``: after how many tokens it may begin anew, because the angles change there.
    """

    def __init__(self, model: Any, prompt_length: int) -> None:
        self.prompt_length = prompt_length
        name = "original_max_position_embeddings"
        places = [*kinds(model.config), vars(model.config.get_text_config())]
        self.lengths = sorted({n for place in places if (n := place.get(name))})
        self._tables = {
            module: _Table(module)
            for module in model.modules()
            if any(map(_by_length, _types(getattr(module, "rope_type", None))))
        }

    @contextlib.contextmanager
    def over(self, at_once: int) -> Iterator[None]:
        """While a pass runs: angles as if the first ``at_once`` tokens had been read at once, and
        every one after them alone."""
        own = {module: vars(module).get("forward") for module in self._tables}
        try:
            for module, table in self._tables.items():
                module.forward = table.forward(at_once)
            yield
        finally:
            for module, forward in own.items():
                if forward is None:
                    vars(module).pop("forward", None)
                else:
                    module.forward = forward


class _Table:
    """What a rotary embedding gives for each position, kept; of a copy, since it has a state."""

    def __init__(self, module: nn.Module) -> None:
        self._module = copy.deepcopy(module)
        self._known: dict[tuple[Any, ...], list[torch.Tensor]] = {}

    def forward(self, at_once: int) -> Any:
        """To be called as the embedding: one tensor or several, [rows, tokens, ...], for
        ``position_ids`` [rows, tokens]."""

        def turned(x: torch.Tensor, position_ids: torch.Tensor, *more: Any, **named: Any) -> Any:
            def ask(places: range) -> list[torch.Tensor]:
                ids = torch.arange(places.start, places.stop, device=x.device)[None]
                found = self._module(x, ids, *more, **named)
                return [part[0] for part in (found if isinstance(found, tuple) else (found,))]

            key = (at_once, x.dtype, x.device, *more, *named.items())
            known = self._known.get(key) or []
            count, last = len(known[0]) if known else 0, int(position_ids.max())
            ahead = [] if known else [range(at_once)]
            ahead += [range(i, i + 1) for i in range(count or at_once, last + 1)]
            for places in ahead:
                ask(range(1))  # a short text brings `dynamic` back from what a long one made of it
                parts = ask(places)
                known = [*map(torch.cat, zip(known, parts, strict=True))] if known else parts
            self._known[key] = known
            found = [part[position_ids] for part in known]
            return tuple(found) if len(found) > 1 else found[0]

        return turned


def _types(kind: Any) -> list[Any]:
    return [*kind.values()] if isinstance(kind, dict) else [kind]


def _by_length(kind: Any) -> bool:
    """As ``transformers.modeling_rope_utils.dynamic_rope_update`` has it."""
    return isinstance(kind, str) and ("dynamic" in kind or kind == "longrope")
