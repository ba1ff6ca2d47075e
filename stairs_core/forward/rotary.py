"""Rotary embeddings: how far they reach, and those whose angles depend on how long the text is.

``longrope`` and ``dynamic`` rotate by other angles when the text is long, and ``transformers``
decides that by the last position of each pass. A cached key then depends on the pass that wrote it.
In ``generate``, whose text ours must equal, the prompt is one pass and each new token is another.
So the angles of position i are those of a pass that ends at i, or at the prompt's end. ``Turns``
makes a model use these angles, however tokens are grouped into passes.
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
    """The parameters of a config's rotary embeddings: one for all layers, or one per kind of
    layer."""
    ropes = getattr(config.get_text_config(), "rope_parameters", None) or {}
    nested = [rope for rope in ropes.values() if isinstance(rope, dict)]
    return nested or ([ropes] if ropes else [])


def reach(config: Any) -> int | None:
    """The number of positions that a model with rotary embeddings was made for; None for others.

    Where angles are scaled, it is ``factor`` times the original number, which is given beside the
    factor or else is ``max_position_embeddings``. The model still runs beyond it.
    """
    ropes, length = (
        kinds(config),
        getattr(config.get_text_config(), "max_position_embeddings", None),
    )
    if not ropes or not length:
        return None

    def scaled(rope: dict[str, Any]) -> int:
        original = rope.get("original_max_position_embeddings") or length
        return max(length, int(original * (rope.get("factor") or 1)))

    return min(map(scaled, ropes))


def by_length(model: Any) -> bool:
    """Whether some of the model's angles depend on how long the text is."""
    return any(_by_length(rope.get("rope_type")) for rope in kinds(model.config))


def bound(model: Any, prompt_length: int) -> Any:
    """The model for texts whose prompt has so many tokens: the given one or, where angles depend on
    the length, a view of it with the same weights and with ``turns``, its ``Turns``.
    """
    if not by_length(model):
        return model
    view = copy.copy(model)
    view.turns = Turns(model, prompt_length)
    return view


class Turns:
    """The angles that ``generate`` would use. ``prompt_length``: tokens of its first pass.

    ``lengths``: text lengths at which angles change, so that it may feed the whole text again.
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
        """A context for one forward pass: angles are as if the first ``at_once`` tokens had been
        one pass, and every later token a pass of its own."""
        before = {module: vars(module).get("forward") for module in self._tables}
        try:
            for module, table in self._tables.items():
                module.forward = table.forward(at_once)
            yield
        finally:
            for module, forward in before.items():
                if forward is None:
                    vars(module).pop("forward", None)
                else:
                    module.forward = forward


class _Table:
    """Caches a rotary embedding's output by position. From a copy of it, since it keeps a state."""

    def __init__(self, module: nn.Module) -> None:
        self._module = copy.deepcopy(module)
        self._known: dict[tuple[Any, ...], list[torch.Tensor]] = {}

    def forward(self, at_once: int) -> Any:
        """A function called like the embedding: returns one tensor or several, [rows, tokens, ...],
        for ``position_ids`` [rows, tokens]."""

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
                ask(range(1))  # a short text resets the state that a long one left in `dynamic`
                parts = ask(places)
                known = [*map(torch.cat, zip(known, parts, strict=True))] if known else parts
            self._known[key] = known
            found = [part[position_ids] for part in known]
            return tuple(found) if len(found) > 1 else found[0]

        return turned


def _types(kind: Any) -> list[Any]:
    return [*kind.values()] if isinstance(kind, dict) else [kind]


def _by_length(kind: Any) -> bool:
    """The test of ``transformers.modeling_rope_utils.dynamic_rope_update``."""
    return isinstance(kind, str) and ("dynamic" in kind or kind == "longrope")
