"""Stands in for a GPU's recorder of graphs, so that all but the recording runs on a CPU."""

from __future__ import annotations

from types import SimpleNamespace


class Recorder:
    """As ``cuda_graphs.Recorder``: what was recorded runs again when it is replayed, and leaves its
    results in the same tensors."""

    def record(self, run):
        result = run()

        def replay() -> None:
            for old, new in zip(result, run(), strict=True):
                if old is not None:
                    old.copy_(new)

        return SimpleNamespace(replay=replay), result
